"""Golden cases: numbers of the authors' own code, read and compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

TOLERANCE = 1e-8
#: below this, relative to the largest element of a gradient (or of a value, and to 1 for values), a number is a
#: rounding error of float64
FLOOR = 1e-11
#: of a gradient whose parts cancel (a bias before a BatchNorm): what is left of sums of numbers of about 1
CANCELLED = 1e-15


#: further outputs that kdlab has no counterpart of
NOT_COMPARED = {
    "loss_float32": "the source's value in float32; the case's loss is its value in float64",
    "loss_as_is": "the source's value in float16",
    "ref_pos_kl": "unused by the kinds that store minus the reverse KL under this name",
    "loss_kl": "with or without its ramp weight: that is 1 in the case that is here, which cannot tell",
    "teacher_v_0": "given to kdlab, for its signs",
    "teacher_v_1": "given to kdlab, for its signs",
    "teacher_v_2": "given to kdlab, for its signs",
    "kd": "a part before its weight; the total is compared",
    "ce": "a part before its weight; the total is compared",
}


@dataclass
class Case:
    """One case. ``case["student"]`` is an input, ready for gradients where the case has one for it.

    Args:
        entry: its line of index.json.
        arrays: what its file holds.
    """

    entry: dict
    arrays: dict[str, Tensor]
    leaves: dict[str, Tensor] = field(default_factory=dict)

    @property
    def hyper(self) -> dict:
        """The hyper-parameters of the case."""
        return self.entry["hyper_parameters"]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.leaves:
            value = self.arrays[name].clone()
            self.leaves[name] = value.requires_grad_() if f"grad_{name}" in self.arrays else value
        return self.leaves[name]

    def several(self, prefix: str) -> list[Tensor]:
        """``prefix0``, ``prefix1``, … as far as there are any (from 1 where there is no 0)."""
        first = 0 if f"{prefix}0" in self.arrays else 1
        numbers = range(first, first + len(self.arrays))
        return [self[f"{prefix}{number}"] for number in numbers if f"{prefix}{number}" in self.arrays]

    def fill(self, prefix: str, module: nn.Module) -> nn.Module:
        """Put the case's arrays ``prefix__0__weight``, … into a module's parameters and buffers of the same names (dots
        for ``__``), in float64 and train mode; their gradients are compared too. Raises AssertionError where a
        parameter of the module has no array."""
        module.double().train()
        given = {
            name.removeprefix(f"{prefix}__").replace("__", "."): name
            for name in self.arrays
            if name.startswith(f"{prefix}__")
        }
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                assert name in given, f"{prefix}: the case has {sorted(given)}, and the module also {name}"
                self.put(given[name], parameter)
            for name, buffer in module.named_buffers():
                if name in given:
                    buffer.copy_(self.arrays[given[name]])
        return module

    @torch.no_grad()
    def put(self, name: str, parameter: Tensor) -> None:
        """Put one array of the case into a parameter; its gradient is compared too."""
        parameter.copy_(self.arrays[name].reshape(parameter.shape))
        self.leaves[name] = parameter


def load(folder: Path) -> list[Case]:
    """The cases of a folder: ``index.json`` and a file ``.npz`` each."""
    index = json.loads((folder / "index.json").read_text())
    return [
        Case(entry, {key: torch.from_numpy(value) for key, value in np.load(folder / entry["file"]).items()})
        for entry in index
    ]


def close(found: Tensor, expected: Tensor, what: str, value: bool = True) -> None:
    """Raises AssertionError unless they agree to 1e-8, relative to each element.

    Args:
        value: a value, which may differ by rounding errors of 1; False: a gradient, which may differ by those of its
            own largest element, and by those that are left where its parts cancel.
    """
    largest = expected.abs().max().item() if expected.numel() else 0.0
    floor = FLOOR * max(1.0, largest) if value else max(FLOOR * largest, CANCELLED)
    found, expected = found.squeeze(), expected.squeeze()  # sources keep dimensions of length 1
    torch.testing.assert_close(
        found.double(), expected.double(), rtol=TOLERANCE, atol=floor, msg=lambda text: f"{what}: {text}"
    )


def compare(case: Case, answer: Tensor | tuple[Tensor, Mapping[str, Tensor]]) -> None:
    """Value, every gradient of the case, and the further outputs that the mapping gives."""
    value, outputs = answer if isinstance(answer, tuple) else (answer, {})
    left_out = (
        {name.removeprefix("out_") for name in case.arrays if name.startswith("out_")}
        - set(outputs)
        - set(NOT_COMPARED)
    )
    assert not left_out, f"the mapping gives no {sorted(left_out)}, which the case has"
    close(value, case.arrays["loss"], "loss")
    for name, output in outputs.items():
        close(output.detach(), case.arrays[f"out_{name}"], name)
    gradients = [name.removeprefix("grad_") for name in case.arrays if name.startswith("grad_")]
    unused = set(gradients) - set(case.leaves)
    assert not unused, f"the mapping never reads {sorted(unused)}, for which the case has gradients"
    if gradients:
        value.backward()
    for name in gradients:
        gradient = case.leaves[name].grad
        close(
            torch.zeros_like(case.leaves[name]) if gradient is None else gradient,
            case.arrays[f"grad_{name}"],
            f"gradient of {name}",
            value=False,
        )
