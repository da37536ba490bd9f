"""Self-distillation with privileged context: the teacher is the model itself, and reads the right answer first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional.rows import one_of
from kdlab.functional.sources import Paper, method
from kdlab.functional.tokens import IGNORED, answer_begins
from kdlab.losses.base import Probe
from kdlab.models.generation import evaluating
from kdlab.models.lora import has_adapters
from kdlab.outputs import LazyLogits, Outputs
from kdlab.teachers.average import Average, Copy

from .base import Step
from .on_policy import OnPolicy

TEACHERS = ("average", "initial", "student", "base")


@method(
    "strategy",
    Paper(
        "Shenfeld et al.",
        2026,
        "Self-Distillation Enables Continual Learning",
        "https://arxiv.org/abs/2601.19897",
    ),
    {},
    ("language model",),
)
class Privileged(OnPolicy):
    r"""The teacher is the model itself with a privileged context c:

    .. math:: L = \frac{1}{N} \sum_t D\big(p_{\theta'}(\cdot \mid c, x, y_{<t}),\, q_\theta(\cdot \mid x, y_{<t})\big)

    The context is the prompt with the answer of the data, as a demonstration, and then the same prompt follows. The
    student reads the prompt alone. y is the student's own answer or, in the other steps, that of the data
    (:class:`OnPolicy`). Shenfeld et al. (2026), "Self-Distillation Enables Continual Learning",
    https://arxiv.org/abs/2601.19897

    The model must know how to use a context: this is for pretrained models, or with ``initial=run``. There is no other
    teacher. Losses on features, ``share=adaptive`` and ``teacher_mix`` are refused.

    Args:
        teaches: whose weights :math:`\theta'` are: an ``average`` of the student's (:class:`kdlab.teachers.Average`),
            the ``initial`` ones, those of the ``student`` itself, or its ``base`` without adapters (``student.lora``).
        decay: of the average.
        own: as for :class:`OnPolicy`.

    Raises:
        InputError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        teaches: Literal["average", "initial", "student", "base"] = "average",
        decay: float = 0.95,
        **own: Any,
    ):
        super().__init__(**own)
        self.teaches = one_of("teaches", teaches, TEACHERS)
        if teaches == "base" and not has_adapters(self.student):
            raise InputError(
                "strategy.teaches=base is the student without its adapters, and it has none; for example "
                "'student.lora={rank: 8}'"
            )
        self.average: Copy | None = None
        if teaches == "average":
            self.average = Average(self.student, decay)
        elif teaches == "initial":
            self.average = Copy(self.student)
        self._given: Batch | None = None  # the present batch of the data

    def distill(self, batch: Batch) -> Step:
        """The loss of the student to the labels and to itself, which reads the answers of the data."""
        self._given = batch
        try:
            return super().distill(batch)
        finally:
            self._given = None

    @torch.no_grad()
    def taught_by(self, batch: Batch) -> Outputs:
        """The Outputs of the model with the context, at the positions of the batch."""
        given = batch if self._given is None else self._given
        ids, mask, before = with_context(given, batch)
        self._check_length(ids.shape[1])
        network = self.student if self.average is None else self.average.network
        read = batch.replace(inputs={"input_ids": ids, "attention_mask": mask.long()}, mask=mask.float(), split="train")
        with evaluating(network), self._without_adapters():
            outputs = self.task.network_outputs(network, read)
        width = batch.labels.shape[1]
        places = (before[:, None] + torch.arange(width, device=ids.device)).clamp(max=ids.shape[1] - 1)
        answer = outputs.answer
        if isinstance(answer, LazyLogits):
            return outputs.replace(answer=replace(answer, hidden=_at(answer.hidden, places)), mask=batch.mask).detach()
        return outputs.replace(answer=_at(answer, places), mask=batch.mask).detach()

    @contextmanager
    def _without_adapters(self) -> Iterator[None]:
        """Within this context, the student's adapters have no effect, if its base teaches."""
        found = [one for one in self.student.modules() if self.teaches == "base" and _is_adapted(one)]
        learned = {name: value.requires_grad for name, value in self.student.named_parameters()} if found else {}
        for one in found:
            cast(Any, one).enable_adapters(False)
        try:
            yield
        finally:
            for one in found:
                cast(Any, one).enable_adapters(True)
            for name, value in self.student.named_parameters():
                if name in learned:  # the library also changes what is trained
                    value.requires_grad_(learned[name])

    def attach(self, probe: Probe) -> None:
        """Also checks that context, prompt and answer fit into the model.

        Raises:
            InputError: they do not.
        """
        super().attach(probe)
        found = [(int(_lengths(labels).max()), int(answer_begins(labels).max())) for labels in probe.labels()]
        context, prompt = (max(lengths) for lengths in zip(*found))
        self._check_length(context + max(prompt + self.longest, context))

    def _check_length(self, longest: int) -> None:
        """Raises InputError where so many tokens are more than the student has positions."""
        positions = getattr(self.student, "positions", None)
        if positions is not None and longest > positions:
            raise InputError(
                f"strategy=privileged: context, prompt and answer have up to {longest} tokens, and the student has "
                f"positions for {positions}; make strategy.longest or data.length smaller"
            )

    def after_step(self, step: Step, batch: Batch) -> None:
        """Moves the average towards the student after each step of the optimiser."""
        if self.stepped and isinstance(self.average, Average):
            self.average.follow(self.student)

    def networks(self) -> dict[str, nn.Module]:
        """The student alone: the average serves as a teacher."""
        return {"student": self.student}

    def taught_without(self) -> list[str]:
        """A problem where there is another teacher."""
        if self.teacher is None:
            return []
        return ["strategy=privileged: the student is its own teacher, so there is no other; teacher=none"]

    def validate_combination(self) -> list[str]:
        """Also problems: ``share=adaptive``, ``teacher_mix``, or a term that reads features."""
        problems = super().validate_combination()
        if self.adaptive:
            problems.append(
                "strategy.share=adaptive learns from earlier answers, and the context is that of the present prompt; "
                "strategy.share=1"
            )
        if self.teacher_mix:
            problems.append(
                "strategy.teacher_mix: the answers are the student's own, since it is its own teacher; "
                "strategy.teacher_mix=0"
            )
        return problems + [
            f"loss.{name}: it compares features, and the teacher reads other tokens; choose a loss on logits"
            for name, term in self.objective.losses.items()
            if term.needs_teacher and (term.student_taps or term.teacher_taps)
        ]


def with_context(given: Batch, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Each text of ``batch`` after the text of ``given``, up to the end of its answer.

    Returns:
        Tokens ``(B, W)``, filled up on the right, their mask ``(B, W)``, and the tokens of each context ``(B,)``.

    >>> def texts(*rows):
    ...     ids = torch.tensor(rows)
    ...     labels = torch.where(torch.tensor([False, True, True]), ids, IGNORED).masked_fill(ids == 0, IGNORED)
    ...     return Batch({"input_ids": ids, "attention_mask": (ids != 0).long()}, labels, torch.arange(len(ids)))
    >>> ids, mask, before = with_context(texts([5, 7, 1], [6, 1, 0]), texts([5, 8, 0], [6, 9, 1]))
    >>> ids.tolist(), before.tolist()
    ([[5, 7, 1, 5, 8], [6, 1, 6, 9, 1]], [3, 2])
    """
    context, text = given.inputs["input_ids"], batch.inputs["input_ids"]
    before, after = _lengths(given.labels), batch.inputs["attention_mask"].sum(1)
    width = int((before + after).max()) if len(text) else 1
    places = torch.arange(width, device=text.device).expand(len(text), -1)
    mask = places < (before + after)[:, None]
    first = context.gather(1, places.clamp(max=context.shape[1] - 1))
    second = text.gather(1, (places - before[:, None]).clamp(0, text.shape[1] - 1))
    return torch.where(places < before[:, None], first, second).masked_fill(~mask, 0), mask, before


def _is_adapted(module: nn.Module) -> bool:
    """Whether a module is a layer with adapters."""
    return hasattr(module, "enable_adapters") and hasattr(module, "get_base_layer")


def _lengths(labels: Tensor) -> Tensor:
    """Tokens of each text up to the last label ``(B,)``."""
    places = torch.arange(1, labels.shape[1] + 1, device=labels.device)
    return ((labels != IGNORED) * places).max(1).values


def _at(values: Tensor, places: Tensor) -> Tensor:
    """``(B, W, D)`` at the positions ``(B, T)``."""
    return values.gather(1, places[:, :, None].expand(-1, -1, values.shape[-1]))
