"""What the contract needs to know of a function in order to try it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

#: every property that the contract asks of a pure function, in the words of its table
PROPERTIES = (
    "equality",
    "gradients",
    "reference",
    "float16",
    "bfloat16",
    "autocast",
    "batch",
    "mask",
    "compile",
    "vmap",
    "shapes",
)


@dataclass
class Spec:
    """One function, with inputs and a slow reference.

    Args:
        name: the method's name (of ``kdlab methods``); a second spec of the same method adds ``/what differs``.
        function: of kdlab.functional.
        arguments: makes small inputs, float64, from a generator: name -> tensor.
        reference: the same mathematics, slow and obvious; called with the same arguments and options.
        student, teacher: names of the student's and the teacher's tensors, in the same order.
        options: further keyword arguments.
        equality: the value where the teacher's tensors equal the student's: a number, or ``f(arguments)``.
        rows: whether the answer is one value a sample along the first dimension of all arguments.
        wrong: arguments that do not fit, made from right ones; default: the teacher's last dimension is one longer.
        skips: property -> why it does not apply (a sentence, which the table shows).
        mask: shape of a mask for this many samples; default: the mask has the shape of the values.
        largest: for logits, what low precision must bear; for features, the size of their entries.
    """

    name: str
    function: Callable
    arguments: Callable[[Generator], dict[str, Tensor]]
    reference: Callable
    student: tuple[str, ...] = ("student",)
    teacher: tuple[str, ...] = ("teacher",)
    options: dict = field(default_factory=dict)
    equality: float | Callable = 0.0
    rows: bool = True
    wrong: Callable[[dict], dict] | None = None
    skips: dict[str, str] = field(default_factory=dict)
    mask: Callable[[int], tuple[int, ...]] | None = None
    largest: float = 60.0

    def __post_init__(self):
        unknown = set(self.skips) - set(PROPERTIES)
        assert not unknown, f"{self.name}: the contract has no property {sorted(unknown)}"

    def make(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        arguments = self.arguments(Generator().manual_seed(seed))
        return {name: value.to(dtype) if value.is_floating_point() else value for name, value in arguments.items()}

    def __call__(self, arguments: dict[str, Tensor], **more) -> Tensor:
        return self.function(**arguments, **{**self.options, **more})

    def misfit(self) -> dict[str, Tensor]:
        arguments = self.make()
        if self.wrong is not None:
            return self.wrong(arguments)
        name = self.teacher[0]
        return {**arguments, name: torch.cat([arguments[name], arguments[name][..., :1]], dim=-1)}


def normal(*shape: int, scale: float = 1.0) -> Callable[[Generator], Tensor]:
    return lambda generator: scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def classes(rows: int, number: int) -> Callable[[Generator], Tensor]:
    return lambda generator: torch.randint(number, (rows,), generator=generator)


def inputs(**makers: Callable[[Generator], Tensor]) -> Callable[[Generator], dict[str, Tensor]]:
    """``arguments`` of a Spec from a maker each."""
    return lambda generator: {name: make(generator) for name, make in makers.items()}


#: student and teacher logits of five rows and seven classes
LOGITS = inputs(student=normal(5, 7, scale=2.0), teacher=normal(5, 7, scale=2.0))
LABELLED = inputs(student=normal(5, 7, scale=2.0), teacher=normal(5, 7, scale=2.0), target=classes(5, 7))
