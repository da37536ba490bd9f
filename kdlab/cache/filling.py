"""Filling a store: the live teacher is asked for what is missing."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from filelock import Timeout
from torch import Tensor

from kdlab.batch import Batch
from kdlab.data import Data
from kdlab.outputs import Outputs

from .cached import LOGITS, Cached
from .cached_rows import HEAD, CachedRows
from .store import CannotKeep, Damaged, readable_size

_SEQUENCES = 16  # of which each is asked about alone
_FEW = 4  # samples whose tokens are asked about, to know the size of the answers


@dataclass
class Filled:
    """What filling took.

    Args:
        wanted: slots that the run reads.
        computed: those of them for which the teacher was asked here, and not by an earlier run.
        seconds: that this took.
        written: bytes.
    """

    wanted: int = 0
    computed: int = 0
    seconds: float = 0.0
    written: int = 0

    def __add__(self, other: Filled) -> Filled:
        return Filled(
            self.wanted + other.wanted,
            self.computed + other.computed,
            self.seconds + other.seconds,
            self.written + other.written,
        )


def fill(
    teacher: Cached,
    data: Data,
    split: str,
    *,
    epochs: int = 1,
    views: int = 1,
    rows: int = 128,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Filled:
    """Ask the live teacher for the answers that the store does not have. Several processes may fill one store: they
    share the work, and each waits at the end for what the others write.

    Args:
        split: ``train``, ``validation`` or ``test``.
        epochs, views: of the training split, where each has its own answers.
        rows: of a training batch in one process.
        say: receives lines about files that are computed again.

    Raises:
        CannotKeep: the answers have no fixed size, or the codec cannot hold a value.
        OSError: the store cannot be written.
    """
    slots = _slots(teacher, split, epochs, views)
    filled, store = Filled(wanted=len(slots)), teacher.store
    if isinstance(teacher, CachedRows) and split not in teacher.rows.splits:
        return Filled()

    def compute(slot: str, epoch: int, view: int) -> None:
        missing = store.missing(slot, teacher.names)
        if not missing:
            return
        began = time.perf_counter()
        store.remove_leftovers(slot)
        loader = data.in_order(split, views, rows)
        loader.sampler.set_epoch(epoch)
        if isinstance(teacher, CachedRows):
            filled.written += teacher.write(slot, teacher.asked(loader, view, device), _facts(teacher))
        else:
            index, values = _answers(teacher, loader, view, missing, device)
            store.begin(_facts(teacher))
            for name, value in values.items():
                filled.written += store.write(slot, name, index, value).stat().st_size
        filled.computed += 1
        filled.seconds += time.perf_counter() - began

    later, whole = [], _whole_files(teacher, {slot for slot, _, _ in slots}, say)
    for slot, epoch, view in slots:
        if all((slot, name) in whole for name in teacher.names):
            continue
        try:
            with store.lock(slot).acquire(timeout=0):
                compute(slot, epoch, view)
        except Timeout:
            later.append((slot, epoch, view))
    for slot, epoch, view in later:
        with store.lock(slot):
            compute(slot, epoch, view)
    teacher.promised.update(slot for slot, _, _ in slots)
    return filled


def _slots(teacher: Cached, split: str, epochs: int, views: int) -> list[tuple[str, int, int]]:
    if split != "train" or teacher.fixed:
        epochs = views = 1
    return [(teacher.slot(split, epoch, view), epoch, view) for epoch in range(epochs) for view in range(views)]


def _whole_files(teacher: Cached, slots: set[str], say: Callable[[str], None]) -> set[tuple[str, str]]:
    """Slot and name of each file that can be read. A damaged one is removed, and a line says so."""
    whole = set()
    for (slot, name), path in teacher.store.files().items():
        if slot in slots and name in teacher.names:
            try:
                teacher.store.stored(slot, name)
                whole.add((slot, name))
            except Damaged:
                say(f"teacher: {path} is damaged; its answers are computed again")
                path.unlink(missing_ok=True)
    return whole


@torch.no_grad()
def _answers(
    teacher: Cached, loader: Iterable[Batch], view: int, names: list[str], device: torch.device | str
) -> tuple[Tensor, dict[str, Tensor]]:
    """The samples' numbers, ascending and each once, and by name what the teacher says of them."""
    index: list[Tensor] = []
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for batch in loader:
        outputs = teacher.live.teach(batch.to(device).view(view))
        kept = _kept(outputs, len(batch))
        index.append(batch.index)
        for name, values in found.items():
            values.append(kept[name].cpu())
    every = torch.cat(index)
    order = every.argsort(stable=True)
    first = torch.ones(len(every), dtype=torch.bool)
    first[1:] = every[order][1:] != every[order][:-1]  # the last batch is filled up with samples that came before
    chosen = order[first]
    for name, values in found.items():
        if len({value.shape[1:] for value in values}) > 1:
            raise _ragged(name)
    return every[chosen], {name: torch.cat(values)[chosen] for name, values in found.items()}


def _ragged(name: str) -> CannotKeep:
    return CannotKeep(
        f"teacher.cache: the size of {name} differs from batch to batch, as of sequences that are padded to the "
        "longest in their batch; teacher.cache=live"
    )


def _kept(outputs: Outputs, samples: int) -> dict[str, Tensor]:
    if outputs.is_lazy or outputs.mask is not None or outputs.by_term:
        raise CannotKeep("teacher.cache: this teacher's answers are no logits of one size a sample; teacher.cache=live")
    kept = {LOGITS: outputs.logits, **outputs.features}
    for name, value in kept.items():
        if len(value) != samples:
            raise CannotKeep(
                f"teacher.cache: {name} has {len(value)} entries for {samples} samples, so it cannot be kept by "
                "sample; teacher.cache=live"
            )
    return kept


def check_room(
    teacher: Cached, data: Data, *, epochs: int, views: int, limit: float, device: torch.device | str = "cpu"
) -> None:
    """Check, before anything is written, that the answers to the training split can be kept. The teacher answers one
    sample.

    Args:
        limit: bytes that they may take.

    Raises:
        CannotKeep: they have no fixed size, the codec cannot hold them, or there is no room for them.
    """
    files = teacher.store.files()
    slots = [
        slot
        for slot, _, _ in _slots(teacher, "train", epochs, views)
        if any((slot, name) not in files for name in teacher.names)
    ]
    if not slots:
        return
    needed = len(slots) * (
        _needed_for_rows(teacher, data, device)
        if isinstance(teacher, CachedRows)
        else _needed_for_samples(teacher, data, device)
    )
    if needed > limit:
        raise CannotKeep(
            f"teacher.cache: its answers would take {readable_size(needed)}, more than "
            f"teacher.cache_gb={limit / 1e9:g}; +teacher.cache_gb={math.ceil(needed / 1e9)} allows that, "
            "teacher.cache=live keeps nothing"
        )
    folder = next(path for path in (teacher.store.path, *teacher.store.path.absolute().parents) if path.exists())
    if needed > (free := shutil.disk_usage(folder).free):
        raise CannotKeep(
            f"teacher.cache: its answers would take {readable_size(needed)}, and {folder} has {readable_size(free)} "
            "left; teacher.cache=live keeps nothing"
        )


def _needed_for_samples(teacher: Cached, data: Data, device: torch.device | str) -> float:
    """Bytes of the answers to the training split, from that to one sample. Raises CannotKeep."""
    loader = data.in_order("train")
    one = loader.first(1).to(device)
    kept = _kept(teacher.live.teach(one), 1)
    if one.mask is not None:  # padded, perhaps to the longest in a batch
        for row in loader.sampler.rows[1 : _SEQUENCES + 1]:
            other = _kept(teacher.live.teach(loader.batch(row[None]).to(device)), 1)
            for name, value in kept.items():
                if other[name].shape != value.shape:
                    raise _ragged(name)
    stored = [part for value in kept.values() for part in teacher.store.codec.encode(value).values()]
    return sum(part[0].numel() * part.element_size() for part in stored) * len(data.part("train"))


def _needed_for_rows(teacher: CachedRows, data: Data, device: torch.device | str) -> float:
    """Bytes of the answers to the tokens of the training split, from those to a few samples. Raises CannotKeep."""
    loader = data.in_order("train")
    counts = data.counted(teacher.task.row_counts)
    tokens = 0 if counts is None else int(counts[data.part("train")].sum())
    return teacher.bytes_a_row(loader.first(_FEW).to(device)) * tokens


def difference(teacher: Cached, data: Data, device: torch.device | str = "cpu") -> tuple[int, float]:
    """How many files the store holds, and how far their values are from the live teacher's at most, beyond one place of
    the stored type: one batch of each file, spread over the split.

    Raises:
        Damaged: a file is not what was written.
    """
    files, largest = teacher.store.files(), 0.0
    for slot, name in files:
        if slot == HEAD:  # weights, and no answers
            teacher.store.stored(slot, name)
            continue
        split, epoch, view = _named(slot)
        loader = data.in_order(split, view + 1, _rows(teacher))
        loader.sampler.set_epoch(epoch)
        rows = loader.sampler()
        chosen = rows[:: max(len(rows) // loader.batch_size, 1)][: loader.batch_size].contiguous()
        batch = loader.batch(chosen, epoch).to(device).view(view)
        if isinstance(teacher, CachedRows):
            largest = max(largest, teacher.distance(batch))
            continue
        stored = teacher.store.read(slot, name)
        if name != LOGITS:
            teacher.watch([name])
        live = _kept(teacher.rounded(teacher.live.teach(batch)), len(batch))[name].cpu()
        if stored is None:
            continue
        found = stored[1][torch.searchsorted(stored[0], chosen)]
        if found.shape != live.shape:
            largest = float("inf")
            continue
        # values that differ in their last digit may be rounded to two neighbours
        gap = ((found - live).abs() - teacher.store.codec.place * live.abs()).clamp(min=0)
        largest = max(largest, gap.max().item())
    return len(files), largest


def _rows(teacher: Cached) -> int | None:
    return None if teacher.store.contents is None else teacher.store.contents.rows


def _named(slot: str) -> tuple[str, int, int]:
    """Split, epoch and view of a slot.

    >>> _named("train-e3-v1"), _named("test")
    (('train', 3, 1), ('test', 0, 0))
    """
    split, *numbers = slot.split("-")
    epoch, view = (int(number[1:]) for number in numbers) if numbers else (0, 0)
    return split, epoch, view


def _facts(teacher: Cached) -> dict[str, Any]:
    return {
        "parameters": teacher.parameter_count,
        "aliases": dict(teacher.aliases),
        "normalisations": [{"mean": list(one.mean), "std": list(one.std)} for one in teacher.normalisations],
    }
