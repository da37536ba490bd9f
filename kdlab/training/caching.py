"""Whether a run keeps its teacher's answers, what decides them, and when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from kdlab.cache import Cached, CachedRows, Contents, Store, fill
from kdlab.cache.contents import code_digest, weights_digest
from kdlab.cache.filling import Filled, check_room
from kdlab.cache.inputs import check_repeatable, inputs_digest
from kdlab.cache.sharing import Sharing
from kdlab.cache.store import CannotKeep, readable_size
from kdlab.config.build import build
from kdlab.config.keys import LOSSY_CODECS, cache_codec
from kdlab.config.references import (
    CheckpointFile,
    ComposedRun,
    FinishedRun,
    Network,
    Reference,
    RoutedByColumn,
    teacher_reference,
)
from kdlab.config.seeds import run_seed
from kdlab.config.signature import locate
from kdlab.data import Data
from kdlab.errors import InputError
from kdlab.launch.devices import evaluation_device, world_size
from kdlab.runs.files import content_hash
from kdlab.runs.identity import data_identity, task_identity, teacher_identity
from kdlab.runs.named import run_named
from kdlab.runs.run import Run
from kdlab.tasks import CausalLM, Task
from kdlab.teachers import Frozen

GIGABYTES = 4.0  # of one teacher's answers, if teacher.cache_gb is not given
_EXACT = ("32", "32-true")


def mode_of(config: dict, data: Data) -> tuple[str, str]:
    """``live``, ``fixed``, ``views`` or ``replicas``, and why it is live if a sweep might have kept answers.

    A node with ``cache_auto`` is one that a sweep has decided: what was typed there is ``auto``.

    Raises:
        InputError: an explicit ``teacher.cache`` cannot be exact here.
    """
    node = config.get("teacher")
    wanted = (node or {}).get("cache") or "auto"
    if node is None or wanted in ("live", "auto"):
        return "live", ""
    problem = _problem(config, data, wanted)
    if problem and node.get("cache_auto"):
        return "live", problem
    if problem:
        raise InputError(f"teacher.cache={wanted}: {problem}; teacher.cache=live asks the teacher in every step")
    return wanted, ""


def explicit(config: dict) -> dict:
    """A config with an explicit mode in place of ``teacher.cache=auto``.

    Raises:
        InputError: it has no teacher whose answers can be kept.
    """
    if config.get("teacher") is None:
        raise InputError("teacher: this run has none, so there are no answers to keep; for example teacher=trained")
    wanted = config["teacher"].get("cache") or "auto"
    if wanted == "live":
        raise InputError("teacher.cache=live keeps nothing; choose fixed, views, replicas or auto")
    if wanted != "auto":
        return config
    found = sharing(config)
    if found.mode == "live":
        raise InputError(f"teacher.cache: {found.why or 'no term of the loss learns from the teacher'}")
    return {**config, "teacher": {**config["teacher"], "cache": found.mode}}


def sharing(config: dict) -> Sharing:
    """What ``teacher.cache=auto`` can mean for a config in a sweep. The teacher need not be trained, and the data are
    not read."""
    one = teacher_reference(config)
    if one is None or (config["teacher"].get("cache") or "auto") != "auto":
        return Sharing()
    if not any(_learns_from_teacher(node) for node in config["loss"].values()):
        return Sharing()
    data = build(config["data"], "data")
    if not isinstance(data, Data):
        return Sharing()
    mode = "fixed" if not data.draws else "views" if data.replicas is None else "replicas"
    why = _problem(config, data, mode)
    if not why and (codec_of(config) or {}).get("name") == "dense":
        why = (
            "the logits of all words of a vocabulary are large; teacher.cache_codec=hidden keeps what they are "
            "computed from, exactly, and teacher.cache=fixed teacher.cache_codec=top_k a part of them"
        )
    if not why and config["trainer"].get("limit_train_batches") is not None:
        why = "trainer.limit_train_batches leaves out samples, whose answers would be computed in vain"
    if why:
        return Sharing(why=why)
    keys = tuple(contents_of(config, single, data, mode, "").key for single in one.singles)
    return Sharing(mode, keys=keys)


def _learns_from_teacher(node: dict) -> bool:
    return bool(getattr(locate(node["_target_"]), "needs_teacher", True))


def _problem(config: dict, data: Data, mode: str) -> str:
    """Why a mode would not be exact; empty if it is."""
    trainer = config["trainer"]
    if getattr(locate(config["strategy"]["_target_"]), "own_inputs", False):
        return "the strategy asks the teacher about texts that are not those of the data"
    if data.mixing is not None:
        return "data.mixing mixes the images of a batch, so their answers differ from batch to batch"
    codec = cache_codec(config["teacher"])["name"]
    if codec != "dense" and codec_of(config) is None:
        return f"teacher.cache_codec={codec} is for the words of a vocabulary (task=causal_lm); leave it out"
    lossy = codec in LOSSY_CODECS
    if not lossy and isinstance(teacher_reference(config), RoutedByColumn):
        less = "; teacher.cache_codec=top_k keeps a part of them" if codec_of(config) is not None else ""
        return (
            "each member answers rows of its own, so the last digits of an answer depend on the other rows of its "
            f"batch{less}"
        )
    if not lossy and (eight := _of_eight_bits(config)):
        return f"{eight}=8: its answers also depend on the other texts of a batch; {eight}=4 has answers that do not"
    if not lossy and (why := data.batch_dependence()):
        return why
    if not lossy and str(trainer.get("precision") or "32-true") not in _EXACT:
        return f"trainer.precision={trainer['precision']}: only answers in full precision are kept"
    if mode == "fixed" and data.draws:
        return "data.augment draws other images in every epoch; teacher.cache=views keeps the answers to each"
    if mode == "replicas" and data.replicas is None:
        if not data.draws:
            return (
                "data.augment draws nothing, so there is one view of each sample; teacher.cache=fixed keeps its answer"
            )
        return "data.replicas says how many sets of views are used again and again, for example data.replicas=4"
    if (
        mode == "views"
        and data.replicas is None
        and trainer.get("max_epochs") in (None, -1)
        and trainer.get("max_steps") in (None, -1)
    ):
        return "the number of epochs is not known; trainer.max_epochs=… says it"
    return ""


def _of_eight_bits(config: dict) -> str:
    """The key of a teacher's network whose inputs are rounded to 8 bits; empty without one."""
    one = teacher_reference(config)
    nodes = {} if one is None else {single.key: single.node for single in one.singles}
    rounded = (
        f"{key}.bits"
        for key, node in nodes.items()
        if node.get("_target_") == "kdlab.models.CausalModel" and node.get("bits") == 8
    )
    return next(rounded, "")


def unrepeated(data: Data, epochs: int | None) -> list[str]:
    """The note on ``data.replicas`` where the training is too short to use a set of views twice."""
    if data.replicas is None or epochs is None or epochs > data.replicas:
        return []
    return [
        f"data.replicas={data.replicas}: warning: the training has {epochs} epochs, so no set of views is used twice; "
        "choose fewer replicas or more epochs"
    ]


def contents_of(
    config: dict, one: Reference, data: Data, mode: str, weights: str, inputs: str = "", code: str = ""
) -> Contents:
    """What decides the answers of one network of the config's teacher."""
    kind = evaluation_device(config).type
    device = kind if kind != "cpu" else f"cpu, {config['threads']} threads"
    seed = run_seed(config) if data.augment_seed is None else data.augment_seed
    return Contents(
        teacher=teacher_identity(one),
        weights=weights,
        data=data_identity(config),
        task=task_identity(config),
        normalisation=repr(data.normalisation),
        # an epoch of the replicas draws what the same epoch of all views draws, so the two share their answers
        mode="fixed" if mode == "fixed" else "views",
        augment_seed=None if mode == "fixed" else seed,
        rows=_rows(config, data),
        device=device + (", channels last" if config.get("channels_last") else ""),
        torch=torch.__version__,
        inputs=inputs,
        code=code,
        dtype=dtype_of(config),
        codec=codec_of(config),
    )


def dtype_of(config: dict) -> str:
    """The type in which answers are stored: ``teacher.cache_dtype``."""
    return config["teacher"].get("cache_dtype") or "float32"


def codec_of(config: dict) -> dict[str, Any] | None:
    """The codec of a language model's answers, with its options; None for other tasks, whose answers are kept as they
    are."""
    target = (config.get("task") or {}).get("_target_")
    if target is None or not isinstance(found := locate(target), type) or not issubclass(found, CausalLM):
        return None
    return cache_codec(config["teacher"])


def _rows(config: dict, data: Data) -> int:
    return max(data.batch_size // world_size(config), 1)


def _code(config: dict, one: Reference) -> str:
    """A digest of the user's own code that decides the answers of a network: of the data, the task and the network."""
    node = one.network if isinstance(one, CheckpointFile) else one.node if isinstance(one, Network) else None
    named = None if isinstance(one, ComposedRun) else run_named(one)
    trained = one.config if isinstance(one, ComposedRun) else {} if named is None else named.config
    return code_digest(config["data"], config.get("task"), node, trained.get("student"), trained.get("strategy"))


@dataclass
class Caching:
    """The kept answers of a run's teacher.

    Args:
        config: of the run.
        data: of the run, not read yet.
        mode: ``fixed``, ``views`` or ``replicas``.
    """

    config: dict
    data: Data
    mode: str
    teachers: list[Cached] = field(default_factory=list)
    epochs: int | None = None
    views: int = 1
    #: why nothing more is kept; empty while it is
    stopped: str = ""
    #: whether the line on what was kept, or on why nothing is, has been printed
    _said: bool = False
    _filled: Filled = field(default_factory=Filled)

    def wrap(
        self,
        one: Reference,
        run: Run | None,
        make: Callable[[], Frozen],
        order: Sequence[int] | None = None,
        task: Task | None = None,
    ) -> Cached:
        """The teacher of a reference that reads its answers, in the order of the data's classes.

        Args:
            run: the finished run that trained it.
            make: loads the live teacher.
            order: its ``class_order``, where that is known without its network.
            task: of the run.
        """
        live: Frozen | None = None
        checkpoint = None
        if isinstance(one, (ComposedRun, FinishedRun)) and run is not None:
            checkpoint = run.checkpoint(one.which if isinstance(one, FinishedRun) else "last")
        if checkpoint is not None and run is not None and run.finished and checkpoint.is_file():
            weights = content_hash(checkpoint)
        elif isinstance(one, CheckpointFile) and one.path.is_file():
            weights = content_hash(one.path)
        else:
            live = make()
            weights, order = weights_digest(live.network), live.class_order
        if order is not None:  # what is kept has the order of the data
            weights = f"{weights}, classes {list(order)}"
        contents = contents_of(self.config, one, self.data, self.mode, weights, self.inputs, _code(self.config, one))
        store = Store.of(self.config["paths"]["runs"], one.name, contents)
        load, fixed = make if live is None else lambda: live, self.mode == "fixed"
        if contents.codec is not None and isinstance(task, CausalLM):
            made: Cached = CachedRows(load, store, fixed, task)
        else:
            made = Cached(load, store, fixed)
        self.teachers.append(made)
        return made

    @cached_property
    def inputs(self) -> str:
        """A digest of what the data give."""
        self.data.seed = run_seed(self.config)
        return inputs_digest(self.data)

    @property
    def dtype(self) -> str:
        """The type in which the answers are stored."""
        return dtype_of(self.config)

    @property
    def codec(self) -> dict[str, Any] | None:
        """The codec of a language model's answers, and its options."""
        return codec_of(self.config)

    @property
    def drawn_epochs(self) -> int:
        """How many epochs have images of their own."""
        replicas = self.data.replicas
        return self.epochs or 1 if replicas is None else min(self.epochs or replicas, replicas)

    @property
    def rows(self) -> int:
        """Rows of a training batch in one process."""
        return _rows(self.config, self.data)

    def check_room(self, say: Callable[[str], None] = lambda line: None) -> None:
        """Check, before a run is begun, that the answers can be kept. In a sweep that decided to keep them, the teacher
        stays live where they cannot. Only the answers themselves show whether they can be rounded, so those that are
        rounded are kept here.

        Raises:
            InputError: it was asked for, and there is no room for them, they have no fixed size, a rounded type cannot
                hold them, or the data give other inputs each time.
        """
        limit = float(self.config["teacher"].get("cache_gb") or GIGABYTES) * 1e9
        try:
            if self.teachers:
                check_repeatable(self.data, fixed=self.mode == "fixed")
            for teacher in self.teachers:
                check_room(
                    teacher,
                    self.data,
                    epochs=self.drawn_epochs,
                    views=self.views,
                    limit=limit,
                    device=evaluation_device(self.config),
                )
        except CannotKeep as error:
            if not self.config["teacher"].get("cache_auto"):
                raise
            self.stopped = str(error)
        for split in ("train", "validation", "test") if self.dtype != "float32" else ():
            self.fill(split, say)

    def fill(self, split: str, say: Callable[[str], None] = lambda line: None) -> None:
        """Ask the teacher for what is missing of a split. Where a file cannot be written, the teacher stays live, and a
        line says why."""
        for teacher in self.teachers if not self.stopped else []:
            try:
                filled = fill(
                    teacher,
                    self.data,
                    split,
                    epochs=self.drawn_epochs,
                    views=self.views,
                    rows=self.rows,
                    device=evaluation_device(self.config),
                    say=say,
                )
            except OSError as error:
                self.stopped = f"{teacher.store.path} cannot be written ({error.strerror or error})"
                break
            except CannotKeep as error:
                if not self.config["teacher"].get("cache_auto"):
                    raise
                self.stopped = str(error)
                break
            if split == "train":
                self._filled = self._filled + filled
        if self.stopped and not self._said:
            self._said = True
            say(f"teacher: its answers are not kept, and it is asked in every step: {self.stopped}")
        elif split == "train" and self._filled.computed and not self._said:
            self._said = True
            rounded = "" if self.dtype == "float32" else f", rounded to {self.dtype},"
            passes = "one pass" if self._filled.computed == 1 else f"{self._filled.computed} passes"
            if self.codec is not None and self.codec["name"] != "dense":
                options = "".join(f", {name} {value:g}" for name, value in self.codec.items() if name != "name")
                rounded = f", as {self.codec['name']}{options}{rounded or ','}"
            say(
                f"teacher: {passes} over the training samples in {self._filled.seconds:.1f} s, kept for all runs that "
                f"share them ({readable_size(self._filled.written)}{rounded} in {self.teachers[0].store.path.parent})"
            )

    def as_record(self) -> dict[str, Any]:
        """What run.json keeps: the mode; the type in which the answers are stored; the passes of the teachers over the
        training split that live training would take; those that were computed for this run; the seconds and bytes of
        these."""
        return {
            "mode": self.mode,
            "dtype": self.dtype,
            **({} if self.codec is None else {"codec": self.codec}),
            "passes": (self.epochs or 0) * self.views * len(self.teachers),
            "computed": self._filled.computed,
            "seconds": self._filled.seconds,
            "bytes": self._filled.written,
        }
