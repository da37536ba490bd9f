"""From a config to an estimate of the memory and operations of its training step: nothing is loaded or downloaded.

The formulas are in :mod:`kdlab.measure.estimate`. Each device holds the whole student, its gradients and optimiser, and
the whole teacher where that is no server (DDP). The sum is an upper bound: gradients grow while values are given back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdlab.config.build import recipe
from kdlab.config.keys import LOSSY_CODECS, cache_codec, own_keys
from kdlab.config.references import CheckpointFile, ComposedRun, Network, Reference, teacher_reference
from kdlab.config.signature import locate
from kdlab.errors import InputError
from kdlab.launch.devices import world_size
from kdlab.measure.estimate import (
    Flops,
    activations,
    forward_bytes,
    gradient_bytes,
    logits_bytes,
    optimizer_bytes,
    step_flops,
    weight_bytes,
)
from kdlab.models import CausalModel
from kdlab.models.published import planned
from kdlab.runs.named import run_named
from kdlab.strategies import Offline, OnPolicy, Supervised
from kdlab.tasks import CausalLM
from kdlab.teachers import Served

#: trainer.precision -> the type of the weights, and the type of mixed precision
PRECISIONS: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "32-true": (torch.float32, None),
    "16-true": (torch.float16, None),
    "bf16-true": (torch.bfloat16, None),
    "16-mixed": (torch.float32, torch.float16),
    "bf16-mixed": (torch.float32, torch.bfloat16),
}
_SHORT = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
ROWS_AT_ONCE, RANK = 256, 8  # of the alternatives that are shown


@dataclass(frozen=True)
class Line:
    """A part of the memory of one device.

    Args:
        name: what it is.
        size: bytes; None: not known.
        others: what to type -> bytes with it.
    """

    name: str
    size: int | None
    others: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """An estimate of a training step on each of a run's devices.

    Args:
        about: networks, batch and precision, a line each.
        lines: the parts of the memory.
        total: an upper bound of the peak in bytes.
        flops: operations of one batch.
        notes: what is not counted here.
    """

    about: list[str]
    lines: list[Line]
    total: int
    flops: Flops
    notes: list[str]

    def text(self) -> str:
        """The estimate as it is printed."""
        unit, name = (2**30, "GiB") if self.total >= 2**30 else (2**20, "MiB")
        rows = [
            (
                one.name,
                "?" if one.size is None else f"{one.size / unit:.2f}",
                ", ".join(f"{size / unit:.2f} with {typed}" for typed, size in one.others.items()),
            )
            for one in [*self.lines, Line("the most at one time, at most", self.total)]
        ]
        width = max(len(first) for first, _, _ in rows)
        flops, (size, scale) = self.flops, (1e12, "TFLOP") if self.flops.total >= 1e12 else (1e9, "GFLOP")
        parts = {"forward": flops.forward, "backward": flops.backward, "again": flops.again, "teacher": flops.teacher}
        return "\n".join(
            [
                *self.about,
                "",
                f"on each device, in {name}",
                *(f"{first:<{width}}  {second:>9}  {third}".rstrip() for first, second, third in rows),
                "",
                f"operations of a batch on each device: {flops.total / size:.1f} {scale} ("
                + ", ".join(f"{part} {number / size:.1f}" for part, number in parts.items() if number)
                + f"; of all these attention {flops.attention / size:.1f})",
                *self.notes,
            ]
        )


def estimate(config: dict) -> Estimate:
    """The estimate for a composed and checked config.

    Raises:
        InputError: the task, a network or the strategy is not one that can be estimated, or sizes are not known.
    """
    if not _is(config.get("task"), CausalLM):
        raise InputError("check: --memory is for causal language models: task=causal_lm student=llama (or causal)")
    if _located(config["strategy"]) not in (Supervised, Offline, OnPolicy):
        raise InputError(
            f"check: --memory: strategy={config['choices'].get('strategy')} trains or keeps other networks beside the "
            "student, which are not estimated; strategy=supervised, offline and on_policy are"
        )
    devices, (kind, half) = world_size(config), _precision(config)
    node = config["student"]
    student = _planned(node, "student")
    gives = [(one.name, _teacher(one)) for one in _singles(config)]
    teachers = [one for _, one in gives if isinstance(one, CausalModel)]
    texts, tokens = max(int(config["data"]["batch_size"]) // devices, 1), int(config["data"]["length"])
    student.to(kind)
    lines = _of_student(config, student, devices, half)
    values, logits = _of_a_batch(config, student, (texts, tokens), half, taught=bool(teachers))
    theirs = _of_teachers(config, teachers, (texts, tokens), half)
    fixed = sum(one.size or 0 for one in [*lines, *theirs[:1]])
    working = (values.size or 0) + max([logits.size or 0, *(one.size or 0 for one in theirs[1:])])
    kept = _kept_answers(config)
    return Estimate(
        _about(config, student, gives, devices, texts, tokens),
        [*lines, values, logits, *theirs],
        fixed + max(working, gradient_bytes(student)),  # an optimiser of several tensors at a time needs a copy
        step_flops(student, [] if kept else teachers, texts, tokens),
        _notes(config, lines),
    )


def _of_student(config: dict, student: CausalModel, devices: int, half: torch.dtype | None) -> list[Line]:
    """What is kept of the student from step to step, and what adapters would need in its place."""
    make = recipe(config["optimizer"], "optimizer")
    optimizer = str(config["optimizer"]["_target_"]).rpartition(".")[2]
    adapted = None if config["student"].get("lora") else _with_lora(config["student"], next(student.parameters()).dtype)

    def others(size: Any) -> dict[str, int]:
        found = None if adapted is None else size(adapted)
        return {} if found is None else {f"'student.lora={{rank: {RANK}}}'": found}

    kept = [
        Line("student: weights", weight_bytes(student)),
        Line("student: gradients", gradient_bytes(student), others(gradient_bytes)),
        Line(
            f"student: states of {optimizer}",
            optimizer_bytes(make, student),
            others(lambda network: optimizer_bytes(make, network)),
        ),
    ]
    if devices > 1:
        kept.append(Line("student: DDP's copy of the gradients", gradient_bytes(student), others(gradient_bytes)))
    if half is not None:
        copies = activations(student, 1, 1, half).copies
        kept.append(Line(f"student: weights in {str(half).removeprefix('torch.')}, of a step", copies))
    return kept


def _of_a_batch(
    config: dict, student: CausalModel, batch: tuple[int, int], half: torch.dtype | None, taught: bool
) -> tuple[Line, Line]:
    """The values of the student's layers, and logits with what is computed of them."""
    node, task = config["student"], config["task"]
    found = activations(student, *batch, half)
    size, others = found.whole, {}
    if node.get("gradient_checkpointing") and found.checkpointed is not None:
        size, others = found.checkpointed, {"student.gradient_checkpointing=false": found.whole}
    elif found.checkpointed is not None:
        others = {"student.gradient_checkpointing=true": found.checkpointed}
    texts, tokens = batch
    rows = max(texts * (tokens - 1), 1)
    device = "cpu" if config["trainer"].get("accelerator") == "cpu" else "cuda"
    at_once = task.get("rows_at_once") if half != torch.float16 else None  # scaled gradients need all rows
    dense = logits_bytes(rows, student.vocabulary, taught)
    if at_once:
        logits = Line(
            f"logits and losses, {at_once} rows at a time",
            logits_bytes(rows, student.vocabulary, taught, at_once, device),
            {"task.rows_at_once=null": dense},
        )
    else:
        fewer = logits_bytes(rows, student.vocabulary, taught, ROWS_AT_ONCE, device)
        shown = {f"task.rows_at_once={ROWS_AT_ONCE}": fewer} if fewer < dense and half != torch.float16 else {}
        logits = Line("logits and losses, all rows at once", dense, shown)
    return Line("student: values of the layers", size, others), logits


def _of_teachers(
    config: dict, teachers: list[CausalModel], batch: tuple[int, int], half: torch.dtype | None
) -> list[Line]:
    """The weights of all teachers, and the values of the one that needs the most for them."""
    if not teachers:
        return []
    if _kept_answers(config):
        head = sum(4 * cast(Tensor, one.head.weight).numel() for one in teachers)
        return [Line("teacher: its head (its answers are kept)", head if _codec(config) == "hidden" else 0)]
    weights = sum(weight_bytes(one) for one in teachers)
    return [
        Line("teacher: weights in float32", weights, {"teacher=served": 0}),
        Line("teacher: values of a layer", max(forward_bytes(one, *batch, half) for one in teachers)),
    ]


def _about(
    config: dict,
    student: CausalModel,
    teachers: list[tuple[str, CausalModel | None]],
    devices: int,
    texts: int,
    tokens: int,
) -> list[str]:
    trained = sum(one.numel() for one in student.parameters() if one.requires_grad)
    number = sum(one.numel() for one in student.parameters())
    accumulated = int(config["trainer"].get("accumulate_grad_batches") or 1)
    name = config["student"].get("pretrained") or config["student"].get("architecture")
    return [
        f"student  {name}: {_shape(student)}, {number:,} parameters"
        + (f", {trained:,} of them trained" if trained != number else ""),
        *(
            f"teacher  {name}: " + ("on a server" if one is None else f"{_shape(one)}, {_count(one):,} parameters")
            for name, one in teachers
        ),
        f"a batch  {texts} x {tokens} tokens on each of {devices} device{'s' if devices > 1 else ''}, "
        f"trainer.precision={config['trainer'].get('precision') or '32-true'}"
        + (f", {accumulated} batches a step" if accumulated > 1 else ""),
    ]


def _shape(model: CausalModel) -> str:
    config = model.config
    return f"{config.model_type}, {config.num_hidden_layers} layers of width {config.hidden_size}"


def _count(model: nn.Module) -> int:
    return sum(one.numel() for one in model.parameters())


def _notes(config: dict, lines: list[Line]) -> list[str]:
    found = [f"not known, and not in the sum: {one.name}" for one in lines if one.size is None]
    if _located(config["strategy"]) is OnPolicy:
        found.append("not counted: generation, and the keys and values that it keeps")
    return found


def _precision(config: dict) -> tuple[torch.dtype, torch.dtype | None]:
    typed = str(config["trainer"].get("precision") or "32-true")
    known = _SHORT.get(typed, typed)
    if known not in PRECISIONS:
        raise InputError(f"trainer.precision={typed}: --memory knows {', '.join(PRECISIONS)}")
    return PRECISIONS[known]


def _planned(node: dict, key: str) -> CausalModel:
    """A causal language model of a config's node, without values.

    Raises:
        InputError: it is another network, or its sizes are not known.
    """
    if not _is(node, CausalModel):
        raise InputError(
            f"{key}: {node.get('_target_')} is no causal language model of kdlab, so --memory cannot estimate it; "
            "student=llama and student=causal are, teacher=causal and teacher=served"
        )
    own = {"_target_", *own_keys("student"), *own_keys("teacher")}
    try:
        model = planned(**{name: value for name, value in node.items() if name not in own})
    except ValueError as error:
        raise InputError(f"{key}: {error}") from error
    if any(getattr(model.config, name, None) for name in ("num_local_experts", "num_experts")):
        raise InputError(f"{key}: a model of type {model.config.model_type} has experts; --memory cannot estimate it")
    return model


def _with_lora(node: dict, kind: torch.dtype) -> CausalModel | None:
    try:
        return _planned({**node, "lora": {"rank": RANK}}, "student").to(kind)
    except InputError:  # where the layers are not known, or peft is not installed
        return None


def _singles(config: dict) -> list[Reference]:
    one = teacher_reference(config)
    return [] if one is None else one.singles


def _teacher(one: Reference) -> CausalModel | None:
    """A teacher's network without values; None for a server."""
    if isinstance(one, Network):
        return None if _is(one.node, Served) else _planned(one.node, one.key)
    if isinstance(one, ComposedRun):
        return _planned(one.config["student"], one.key)
    if isinstance(one, CheckpointFile) and one.network is not None:
        return _planned(one.network, one.key)
    run = run_named(one)
    if run is None:
        raise InputError(f"{one.key}: no run says what network {one.name} is of; --memory needs its sizes")
    return _planned(run.config["student"], one.key)


def _codec(config: dict) -> str:
    return str(cache_codec(config.get("teacher") or {})["name"])


def _kept_answers(config: dict) -> bool:
    """Whether a filled cache answers in place of the teacher, also on validation and test."""
    wanted = (config.get("teacher") or {}).get("cache")
    return wanted in ("fixed", "views", "replicas") and _codec(config) not in LOSSY_CODECS


def _located(node: dict | None) -> object:
    """What a node's target is; None where that is not known."""
    try:
        return locate((node or {})["_target_"])
    except (LookupError, TypeError):
        return None


def _is(node: dict | None, kind: type) -> bool:
    """Whether a node's target is a class, or one derived from it."""
    found = _located(node)
    return isinstance(found, type) and issubclass(found, kind)
