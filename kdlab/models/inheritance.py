"""What a student takes over from a teacher: which layers, and the record of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kdlab.errors import did_you_mean

LAYERS = ("spread", "every_second", "first", "last")
NARROW = ("importance", "projection")


@dataclass
class Inherited:
    """What :func:`kdlab.models.initialisation.inherit` has done.

    Args:
        layers: the teacher's layer of each layer of the student, counted from 1.
        narrowed: what was narrowed, as text: ``width 384 to 256 (importance)``.
        new: the names of the student's parameters that were not filled.
        lines: notes for the user.
    """

    layers: list[int]
    narrowed: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def chosen_layers(layers: str | Sequence[int], student: int, teacher: int) -> list[int]:
    """The teacher's layer for each of the student's layers, counted from 1.

    Args:
        layers: ``spread`` (from the first to the last at equal distances, as DistilBERT), ``every_second`` (1, 3, 5,
            …), ``first``, ``last``, or a list.
        student, teacher: how many layers they have.

    Raises:
        ValueError: they do not fit the numbers of layers.

    >>> chosen_layers("spread", 6, 12), chosen_layers("every_second", 3, 6), chosen_layers("last", 2, 6)
    ([1, 3, 5, 8, 10, 12], [1, 3, 5], [5, 6])
    """
    if isinstance(layers, str):
        if layers not in LAYERS:
            raise ValueError(
                f"layers must be one of {', '.join(LAYERS)} or a list of numbers, got {layers!r}"
                f"{did_you_mean(layers, LAYERS)}"
            )
        if student > teacher:
            repeated = [str(1 + i * teacher // student) for i in range(student)]
            raise ValueError(
                f"the student has {student} layers and the teacher {teacher}; give a list in which layers of the "
                f"teacher are repeated, for example student.initial.layers=[{','.join(repeated)}]"
            )
        spread = [1 + round(i * (teacher - 1) / max(student - 1, 1)) for i in range(student)]
        if layers == "every_second" and len(range(1, teacher + 1, 2)) != student:
            raise ValueError(
                f"layers=every_second of {teacher} layers are {len(range(1, teacher + 1, 2))}, and the student has "
                f"{student}; student.initial.layers=spread takes {spread}"
            )
        return {
            "spread": spread,
            "every_second": list(range(1, teacher + 1, 2)),
            "first": list(range(1, student + 1)),
            "last": list(range(teacher - student + 1, teacher + 1)),
        }[layers]
    found = list(layers)
    wrong = [number for number in found if isinstance(number, bool) or not isinstance(number, int)]
    if wrong or not all(1 <= number <= teacher for number in found):
        raise ValueError(
            f"layers must be numbers from 1 to {teacher} (the teacher's layers are counted from 1), got {found}"
        )
    if len(found) != student:
        raise ValueError(f"layers must name {student} layers, one for each of the student's, got {found}")
    return found
