"""What data sets share whose samples have one class each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kdlab.errors import InputError

from .base import Data, Split


class ClassificationData(Data[Split]):
    """Base of the data sets whose samples have one class each: int64 labels from 0. A subclass gives ``read()``,
    ``loader()``, ``classes`` and ``shape``.

    The same part of every class is held out for validation.

    Args:
        omit_classes: classes left out of training (validation and test keep them).
        options: those of :class:`Data`.

    Raises:
        ValueError: an argument is out of its range.
    """

    thins_out: tuple[str, ...] = ("data.fraction", "data.omit_classes", "data.validation")

    def __init__(self, omit_classes: Sequence[int] = (), **options: Any) -> None:
        super().__init__(**options)
        self.omit_classes = tuple(omit_classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by their numbers; the numbers themselves where they have no names."""
        return tuple(map(str, range(self.classes)))

    def strata(self, target: Tensor) -> list[Tensor]:
        """The samples of each class."""
        return [(target == number).nonzero().flatten() for number in range(self.classes)]

    def trains_on(self, stratum: int) -> bool:
        """Whether a class is trained on."""
        return stratum not in self.omit_classes

    def wrong_omissions(self) -> str | None:
        """What is wrong with ``omit_classes``, given the number of classes; None if nothing is."""
        wrong = [number for number in self.omit_classes if not 0 <= number < self.classes]
        if wrong or len(set(self.omit_classes)) >= self.classes:
            return (
                f"omit_classes names classes from 0 to {self.classes - 1}, and not all of them; got "
                f"{list(self.omit_classes)}"
            )
        return None

    def _check(self, stored: tuple[Split, Split]) -> None:
        """Raises InputError where a split has no samples, or labels outside the classes."""
        super()._check(stored)
        for name, split in zip(("training", "test"), stored):
            target = split.target
            if target.min() < 0 or target.max() >= self.classes:
                raise InputError(
                    f"data: the labels of the {name} split go from {int(target.min())} to {int(target.max())}, and not "
                    f"from 0 to {self.classes - 1}, as of {self.classes} classes; fetch the data again"
                )

    def notes(self) -> list[str]:
        """Warnings to show before training: classes of which a split has no sample."""
        train, test = self._both()
        target = train.target
        whole = target[target >= 0].bincount(minlength=self.classes)  # a sample without a label has -100
        result = []
        for part, labels in (
            ("training", target[self.part("train")]),
            ("validation", target[self.part("validation")]),
            ("test", test.target),
        ):
            absent = (labels[labels >= 0].bincount(minlength=self.classes) == 0).nonzero().flatten().tolist()
            absent = [number for number in absent if part != "training" or number not in self.omit_classes]
            if absent:
                names = ", ".join(self.class_names[number] for number in absent[:5]) + (
                    ", …" if len(absent) > 5 else ""
                )
                cure = (
                    self._larger_validation(min(int(whole[number]) for number in absent))
                    if part == "validation"
                    else ""
                )
                result.append(
                    f"data: warning: {part} has no sample of {len(absent)} of the {self.classes} classes"
                    f" ({names}){cure}"
                )
        return result

    def _larger_validation(self, samples: int) -> str:
        """The end of a warning: the smallest ``validation`` that holds a sample out of a class of that size."""
        enough = next((share / 100 for share in range(1, 100) if 1 <= round(share / 100 * samples) < samples), None)
        if enough is None:
            return (
                f": the smallest of them has {samples} training sample{'' if samples == 1 else 's'}; it needs at"
                " least 2"
            )
        return (
            f": data.validation={self.validation:g} of {samples} samples is none; data.validation={enough:g} holds"
            " out one"
        )
