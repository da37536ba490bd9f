"""Measuring finished runs: speed and memory of the kept networks on this machine, and how similar their features are to
the teacher's."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlab.data import Data
from kdlab.errors import InputError, shortened, told
from kdlab.launch.devices import threads
from kdlab.measure import (
    alignment,
    answering,
    comparable_taps,
    generation_speed,
    inference_bytes,
    peak_bytes,
    speed,
    timed_in_turns,
)
from kdlab.models.calling import forward
from kdlab.models.taps import Taps
from kdlab.runs import record as provenance
from kdlab.runs.files import try_to_write, write_json
from kdlab.runs.measurements import FILE
from kdlab.runs.run import Run
from kdlab.tasks import CausalLM, task_of

from .assemble import make_data, read_data
from .evaluation import all_batches
from .teacher import teacher_of

# these runs are measured, but not written; a full disk is an error before that
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
LEAST_SAMPLES = 4  # of a batch that :class:`kdlab.metrics.CKA` counts
THREADS = 1  # on a CPU, for all: times of different numbers of threads cannot be compared


@dataclass
class _Subject:
    """A run under measurement."""

    run: Run
    network: nn.Module
    data: Data
    content: dict

    def inputs(self, count: int, device: torch.device) -> Tensor:
        """``count`` inputs of validation, repeated from the first one if there are too few."""
        rows = self.data.part("validation")
        return self.data.val_dataloader().batch(rows[torch.arange(count) % len(rows)]).to(device).inputs

    def of_length(self, count: int, length: int, device: torch.device) -> dict[str, Tensor]:
        """As :meth:`inputs`, of texts that have ``length`` tokens each, without padding: the tokens of a batch,
        repeated or cut.

        Raises:
            InputError: the inputs are no tokens.
        """
        found = self.inputs(count, device)
        if not isinstance(found, Mapping) or "input_ids" not in found:
            raise InputError("--lengths is for texts, and this run's inputs are no tokens")
        columns = torch.arange(length, device=device) % found["input_ids"].shape[1]
        made = {name: value[:, columns] for name, value in found.items()}
        return {**made, **({"attention_mask": torch.ones_like(made["input_ids"])} if "attention_mask" in made else {})}


def measure_runs(
    runs: Sequence[Run],
    batches: Sequence[int] = (1, 64),
    seconds: float = 2.0,
    device: str | torch.device = "cpu",
    say: Callable[[str], None] = print,
    lengths: Sequence[int] = (),
    answer: int | None = None,
) -> tuple[list[tuple[Run, dict]], list[str]]:
    """Measure finished runs, all in the same way, and write ``measurements.json`` into each
    (:mod:`kdlab.runs.measurements`) that is not read-only.

    The network that a run keeps of its last checkpoint is measured. Inputs are samples of validation; test is not
    touched. Each seed is timed as a run of its own. All runs are timed in turns (:func:`kdlab.measure.timed_in_turns`),
    so all their networks are in memory.

    Args:
        batches: sizes.
        seconds: of timing, for each run and batch size.
        device: a CPU, where one thread is used, or a GPU.
        say: receives a line for each quantity that cannot be measured, and one that names read-only runs.
        lengths: of texts, in tokens: time and memory are measured at each of them, too, for all batch sizes.
        answer: tokens that a causal language model answers to prompts of each of the ``lengths``, at least 2: the speed
            of reading and of writing, and memory. None: nothing is generated.

    Returns:
        The measured runs with their measurements, and a line for each run that could not be measured.
    """
    device = torch.device(device)
    subjects: list[_Subject] = []
    failed: list[str] = []
    read: dict[str, Data] = {}
    with threads(THREADS):
        for run in runs:
            try:
                subjects.append(_begun(run, batches, device, read, say, lengths, answer))
            # files may be damaged, and the user's own networks may fail; the other runs are still measured
            except Exception as error:
                failed.append(f"not measured: {run.path}: {told(error)}")
        for size in batches:
            for subject, durations in zip(subjects, _timed(subjects, size, seconds, device)):
                subject.content["batches"][str(size)] = speed(durations, size)
            for length in lengths:
                for subject, durations in zip(subjects, _timed(subjects, size, seconds, device, length)):
                    subject.content["lengths"][str(length)][str(size)] |= speed(durations, size)
                if answer is not None:
                    for subject, found in zip(subjects, _generated(subjects, size, seconds, device, length, answer)):
                        subject.content["generation"][str(length)][str(size)] |= found
    measured: list[tuple[Run, dict]] = []
    read_only: dict[str, str] = {}
    for subject in subjects:
        subject.content["in_turns_with"] = len(subjects) - 1
        try:
            write_json(subject.run.path / FILE, subject.content)
        except OSError as error:
            if error.errno not in READ_ONLY:
                failed.append(f"not measured: {subject.run.path}: {told(error)}")
                continue
            read_only[str(subject.run.path)] = error.strerror or str(error)
        measured.append((subject.run, subject.content))
    if read_only:
        reasons = ", ".join(dict.fromkeys(read_only.values()))
        say(f"could not be saved in {shortened(read_only)}: read-only ({reasons})")
    return measured, failed


def _begun(
    run: Run,
    batches: Sequence[int],
    device: torch.device,
    read: dict[str, Data],
    say: Callable[[str], None],
    lengths: Sequence[int] = (),
    answer: int | None = None,
) -> _Subject:
    """A run's network, and the measurements that take no time. Raises OSError where the run's directory cannot be
    written, unless it is read-only."""
    try:
        try_to_write(run.path)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
    run.check_recipe("it cannot be measured")
    node = run.config["data"]
    data = read.get(key := json.dumps(node, sort_keys=True, default=str))
    if data is None:
        data = make_data(node)
        read_data(data, node, task_of(run.config))
        read[key] = data
    network = run.network("last").requires_grad_(False).to(device)
    hardware = provenance.hardware()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    content = {
        "measured": provenance.now(),
        "machine": {
            **{key: hardware[key] for key in ("processor", "cores", "system")},
            "torch": torch.__version__,
            "device": name,
        },
        "threads": THREADS,
        "network": run.kept("last")["network"],
        "batches": {},
    }
    subject = _Subject(run, network, data, content)
    # a network that fails at one of the sizes fails here
    peaks = {size: inference_bytes(network, subject.inputs(size, device)) for size in batches}
    if lengths:
        content["lengths"] = {
            str(length): {
                str(size): {"peak_inference_bytes": inference_bytes(network, subject.of_length(size, length, device))}
                for size in batches
            }
            for length in lengths
        }
    if answer is not None:
        content["generation"] = _memory_of_answers(subject, batches, lengths, answer, device)
        content["answer_tokens"] = answer
    content |= {"peak_inference_bytes": peaks[max(batches)], "peak_inference_batch": max(batches)}
    if run.config.get("teacher"):
        try:
            content |= _alignment(subject, device)
        except Exception as error:  # the teacher's network or files failed; the speed can be measured without them
            say(f"no CKA: {run.path}: {told(error)}")
    return subject


def _alignment(subject: _Subject, device: torch.device) -> dict:
    """CKA between the taps of the network and those of its teacher, on validation.

    Raises:
        InputError: there is no single teacher network, it is no longer available, one of the two has no taps, or there
            are too few samples.
    """
    run, data = subject.run, subject.data
    task = task_of(run.config, data.facts)
    teacher = teacher_of(run, data, task)
    if teacher is None or teacher.network is None:
        raise InputError("it has several teachers, and features are compared with those of one network")
    aliases = run.network_config("last").get("taps") or {}
    mine, theirs = comparable_taps(subject.network, aliases), comparable_taps(teacher.network, teacher.aliases)
    for whose, network, found in (("its network", subject.network, mine), ("its teacher", teacher.network, theirs)):
        if not found:
            raise InputError(
                f"{whose}, {type(network).__name__}, has no taps stage1, stage2, … or embedding; name some in the "
                "config's taps"
            )
    taps = Taps(subject.network, mine, aliases)
    teacher.watch(set(theirs))

    def features() -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        for batch in all_batches(data.val_dataloader()):
            batch = batch.to(device)
            with torch.no_grad(), taps as found:
                task.network_outputs(subject.network, batch)
            said = teacher.teach(batch).features
            yield {tap: found[tap] for tap in mine if tap in found}, {tap: said[tap] for tap in theirs if tap in said}

    samples = len(data.part("validation"))
    if samples < LEAST_SAMPLES:
        raise InputError(f"it needs {LEAST_SAMPLES} samples of validation, and there are {samples}")
    matrix = alignment(features())
    same = {tap: row[tap] for tap, row in matrix.items() if math.isfinite(row.get(tap, math.nan))}
    return {"cka": same, "cka_matrix": matrix, "cka_samples": samples}


def _timed(
    subjects: Sequence[_Subject], size: int, seconds: float, device: torch.device, length: int | None = None
) -> list[list[float]]:
    """The duration of each subject's calls on a batch, in seconds; with ``length``, of texts of so many tokens."""

    def call(subject: _Subject) -> Callable[[], object]:
        network = subject.network
        inputs = subject.inputs(size, device) if length is None else subject.of_length(size, length, device)
        return lambda: forward(network, inputs)

    calls = {str(number): call(subject) for number, subject in enumerate(subjects)}
    return list(_in_turns(calls, seconds, device).values())


def _memory_of_answers(
    subject: _Subject, batches: Sequence[int], lengths: Sequence[int], answer: int, device: torch.device
) -> dict[str, dict[str, dict[str, float]]]:
    """The peak of the bytes of tensors while answers are generated: tokens of a prompt -> batch size -> its entry.

    Raises:
        InputError: the run is of another task, or its network has too few positions.
    """
    if not isinstance(task_of(subject.run.config), CausalLM):
        raise InputError("--answer is for causal language models (task=causal_lm)")
    limit = getattr(subject.network, "positions", None)
    if isinstance(limit, int) and max(lengths) + answer > limit:
        raise InputError(
            f"--lengths and --answer: {max(lengths)} tokens of a prompt and {answer} of an answer are more than the "
            f"{limit} positions of the model"
        )
    found: dict[str, dict[str, dict[str, float]]] = {}
    for length in lengths:
        found[str(length)] = {}
        for size in batches:
            prompts = subject.of_length(size, length, device)["input_ids"]
            peak = peak_bytes(subject.network, prompts, answering(subject.network, prompts, answer))
            found[str(length)][str(size)] = {"peak_inference_bytes": peak}
    return found


def _generated(
    subjects: Sequence[_Subject], size: int, seconds: float, device: torch.device, length: int, answer: int
) -> list[dict[str, float]]:
    """How fast each subject reads prompts of ``length`` tokens and writes ``answer`` tokens. Reading alone and the
    whole are timed in turns."""
    calls: dict[str, Callable[[], object]] = {}
    for number, subject in enumerate(subjects):
        prompts = subject.of_length(size, length, device)["input_ids"]
        for tokens in (1, answer):
            calls[f"{number} {tokens}"] = answering(subject.network, prompts, tokens)
    durations = _in_turns(calls, seconds, device)
    return [
        generation_speed(durations[f"{number} 1"], durations[f"{number} {answer}"], size, length, answer)
        for number in range(len(subjects))
    ]


def _in_turns(
    calls: Mapping[str, Callable[[], object]], seconds: float, device: torch.device
) -> dict[str, list[float]]:
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None
    with torch.inference_mode():
        return timed_in_turns(calls, seconds) if wait is None else timed_in_turns(calls, seconds, finish=wait)
