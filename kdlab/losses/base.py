"""Loss: what every loss declares, and how it is prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.functional.sources import TASKS
from kdlab.outputs import Outputs, SparseTarget
from kdlab.teachers.base import Teacher

#: kind of network (:data:`kdlab.functional.sources.KINDS`) -> what its answers are
ANSWERS = {**dict.fromkeys(TASKS, "classes"), "multi-label": "labels", "regression": "values", "embedding": "vectors"}


@dataclass
class Probe:
    """What a loss or strategy may look at once, before the optimiser exists, to build what it needs.

    Args:
        student, teacher: Outputs of a small batch in evaluation mode, with the taps that were asked for. ``teacher`` is
            None where no loss needs one.
        teacher_handle: the teacher or its network; None without a frozen teacher. A loss reads :attr:`teacher_network`.
        classes: number of classes of the data set.
        train_size: number of training samples as stored: sample indices are smaller than it.
        train_target: their labels ``(train_size,)`` by index; None where the data have none.
        batch_size: of all processes together; None where it is not known.
        train_rows: indices of those that are trained on (without the validation part); None: all.
        teacher_aliases: the ``taps:`` of the teacher's config.
        batch: the samples that both have answered, for a strategy that asks further networks.
        student_network: the student; None where it is not known.
        term_teachers: the loss's term -> its teacher, where terms have teachers of their own; what those said is in
            ``teacher.by_term``.
        label_blocks: gives ``train_target`` some samples at a time, where it has a label for each token.
    """

    student: Outputs
    teacher: Outputs | None
    teacher_handle: nn.Module | Teacher | None
    classes: int
    train_size: int
    train_target: Tensor | None = None
    train_rows: Tensor | None = None
    teacher_aliases: Mapping[str, str] = field(default_factory=dict)
    batch_size: int | None = None
    batch: Batch | None = None
    term_teachers: Mapping[str, Teacher] = field(default_factory=dict)
    student_network: nn.Module | None = None
    label_blocks: Callable[[], Iterator[Tensor]] | None = None

    def labels(self) -> Iterator[Tensor]:
        """The labels of the training samples, some samples at a time: those of texts need not fit into memory."""
        if self.label_blocks is not None:
            yield from self.label_blocks()
        elif self.train_target is not None:
            yield self.train_target

    @property
    def teacher_network(self) -> nn.Module | None:
        """The teacher's network (for its head, its BatchNorm statistics); None where it is not one network. A teacher
        whose answers are read from a cache loads it now."""
        return self.teacher_handle.network if isinstance(self.teacher_handle, Teacher) else self.teacher_handle

    @property
    def teacher_outputs(self) -> Outputs:
        """``teacher``, for a loss that needs one. Raises ValueError if there is none."""
        if self.teacher is None:
            raise ValueError("it reads a teacher's features, and there is no teacher")
        return self.teacher

    def of_term(self, name: str) -> Probe:
        """The probe as one term of the loss sees it: with the teacher that is its own, where it has one."""
        if self.teacher is None or name not in self.teacher.by_term:
            return self
        own = self.term_teachers[name]
        return replace(
            self,
            teacher=self.teacher.by_term[name],
            teacher_handle=own,
            teacher_aliases=own.aliases,
        )


@dataclass(frozen=True)
class Needs:
    """What a loss declares, as one value: a field for each attribute of that name of :class:`Loss`, where each is
    explained. A loss around another one takes this over (:meth:`Loss.declare`), so it loses nothing."""

    needs_teacher: bool = True
    needs_target: bool = False
    needs_index: bool = False
    mixed_labels: bool = False
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    reads_logits: bool = False
    fixed: tuple[str, ...] = ()
    needs_equal_widths: bool = False
    per: str = "row"
    views: int = 1
    needs_samples: bool = False

    def inside(self, name: str) -> Needs:
        """The needs of a loss that holds this one as its attribute ``name``: fixed numbers get that name in front.

        >>> Needs(fixed=("temperature",), views=2).inside("loss").fixed
        ('loss.temperature',)
        """
        return replace(self, fixed=tuple(f"{name}.{number}" for number in self.fixed))


class Loss(nn.Module):
    """Base of the losses. A subclass says what it needs and gives one value a row.

    Connectors and buffers are ordinary submodules and buffers: registered, they are moved, optimised and checkpointed.
    A loss never knows whom it learns from: frozen network, live peer, ensemble or earlier epoch are all ``teacher``,
    and whoever it is, it is detached when the loss is called.
    """

    #: the pure function whose formula this is; its ``method`` (:mod:`kdlab.functional.sources`) is what ``kdlab
    #: methods`` shows
    function: ClassVar[Callable[..., Tensor] | None] = None
    needs_teacher: bool = True
    needs_target: bool = False
    needs_index: bool = False
    #: it can learn from mixed images (:mod:`kdlab.data.images.mixing`): it reads ``batch.partner_target`` and
    #: ``batch.share`` beside ``batch.target``
    mixed_labels: bool = False
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()

    #: it compares the logits themselves, and not only what a softmax makes of them, to which a constant is nothing
    reads_logits: bool = False
    #: numbers that are read once, before training, and so can have no schedule
    fixed: tuple[str, ...] = ()
    #: channel is compared with channel, so the student must be as wide as its teacher
    needs_equal_widths: bool = False
    #: what has one value: ``row``, ``sample``, ``position`` of the inputs, or the ``batch``. It decides with which
    #: weights and which normaliser the values become one number (:meth:`kdlab.Batch.weighting`)
    per: str = "row"
    #: kinds of :class:`kdlab.outputs.SparseTarget` that it accepts in the place of the teacher's logits. Of them it
    #: knows one temperature, its attribute ``temperature``. A loss around another one does not take this over
    sparse: tuple[str, ...] = ()
    #: it is for answers that the student has just sampled, of which the labels are the tokens (``strategy=on_policy``)
    needs_samples: bool = False
    #: 2 where the loss compares two augmented views of a batch: ``student.second`` and ``teacher.second`` are then the
    #: other view's Outputs
    views: int = 1

    @property
    def by_rows(self) -> bool:
        """Whether the value of a row depends on that row's logits and label alone, so that rows can be compared a part
        at a time (:mod:`kdlab.chunks`). By default, where the loss has one value a row, reads no tap, compares one
        view, and keeps nothing from step to step."""
        alone = self.per == "row" and not self.student_taps and not self.teacher_taps and self.views == 1
        return alone and not any(True for _ in self.buffers())

    @property
    def needs(self) -> Needs:
        """All that the loss declares."""
        return Needs(**{one.name: getattr(self, one.name) for one in fields(Needs)})

    def declare(self, needs: Needs) -> None:
        """Sets all attributes that say what the loss needs. For a loss around another one."""
        for one in fields(needs):
            setattr(self, one.name, getattr(needs, one.name))

    def __call__(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """Calls :meth:`forward` with the teacher's Outputs detached."""
        values: Tensor = super().__call__(student, None if teacher is None else teacher.detach(), batch)
        return values

    def of_rows(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """The values for a part of the rows (:attr:`by_rows`). A loss whose gradient is known in closed form
        (:mod:`kdlab.functional.closed_forms`) computes it with the values."""
        return self(student, teacher, batch)

    def prepare(self, probe: Probe) -> None:
        """Build what depends on shapes (connectors, tables). Called once, before the optimiser exists."""

    def sparse_target(self, teacher: Outputs) -> SparseTarget | None:
        """What is known of the teacher, for a loss that accepts some kinds of :attr:`sparse` targets; None if it has
        logits.

        Raises:
            ValueError: it is of another kind, or was computed at another temperature.
        """
        target, temperature = teacher.sparse, getattr(self, "temperature", 1.0)
        if target is None:
            return None
        if target.kind not in self.sparse:
            raise ValueError(f"{type(self).__name__} cannot learn from {target.told}")
        if temperature != target.temperature:
            raise ValueError(
                f"temperature={temperature:g}: {target.told} are known at temperature {target.temperature:g} alone"
            )
        return target

    def readings(self) -> dict[str, float]:
        """Numbers of the loss's own that the logs show at the end of an epoch beside its value, by name (a temperature
        that is learned)."""
        return {}

    @property
    def answers(self) -> tuple[str, ...]:
        """What the columns of the networks' answers may be (:attr:`kdlab.tasks.Report.answers`), as the function's
        source states it. A loss that reads features alone, or one of the user's own, takes any."""
        method = getattr(self.function, "method", None)
        if method is None or method.family not in ("divergence", "logits", "sequences"):
            return ("classes", "labels", "values", "vectors")
        return tuple(dict.fromkeys(ANSWERS[kind] for kind in method.serves))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value for each of what :attr:`per` names: ``(N,)`` for rows, ``(B,)`` for samples, ``(B, T)`` for
        positions, a scalar for a loss over relations within the batch.

        Args:
            student: aligned Outputs (logits are rows ``(N, C)``), with gradient.
            teacher: aligned Outputs, detached. A loss whose ``needs_teacher`` is false may get None, and declares
                ``Outputs | None``.
            batch: the aligned batch (target, index and weights a row).
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(student, teacher, batch)")


def positive(name: str, value: float) -> float:
    """``value``, or a ValueError that names it."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be greater than 0 and finite, got {value}")
    return float(value)


def not_negative(name: str, value: float) -> float:
    """``value``, or a ValueError that names it."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be 0 or greater and finite, got {value}")
    return float(value)


def fraction(name: str, value: float) -> float:
    """``value``, or a ValueError that names it."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
    return float(value)


def whole(name: str, value: float) -> float:
    """``value``, or a ValueError that names it."""
    if not (value >= 1 and value == int(value)):
        raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
    return float(value)
