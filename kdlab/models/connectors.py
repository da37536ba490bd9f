"""Connectors: small trainable networks that map a student's feature to the teacher's shape.

Shapes are those of a sample, without the batch dimension: vectors ``(C,)``, sequences ``(T, C)``, maps ``(C, H, W)``.
On vectors, a linear layer takes the place of a 1 x 1 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def connector(
    student: Sequence[int], teacher: Sequence[int], normalise: bool = True, activate: bool = True
) -> nn.Module:
    """A connector from one feature shape to another (shapes of a sample, without the batch dimension).

    Vectors ``(D,)`` and sequences ``(T, D)`` get a linear map. Maps ``(C, H, W)`` get one convolution, like FitNets'
    regressor. It has stride 2 if the student's map is twice as large as the teacher's, and is a transposed convolution
    if it is half as large. Otherwise the kernel is just large enough to shrink the map (1 x 1 for equal sizes).
    ``normalise`` adds BatchNorm after it and, with ``activate``, ReLU.

    Raises:
        ValueError: no connector exists between the two shapes. The message shows both.

    >>> connector((16, 8, 8), (32, 4, 4), normalise=False)
    Conv2d(16, 32, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    """
    student, teacher = tuple(student), tuple(teacher)
    if len(student) == len(teacher) and len(student) in (1, 2):
        if student[:-1] != teacher[:-1]:
            raise _no_connector(student, teacher)
        return nn.Linear(student[-1], teacher[-1])
    if len(student) != 3 or len(teacher) != 3:
        raise _no_connector(student, teacher)
    (channels, height, width), (wanted, out_height, out_width) = student, teacher
    layer: nn.Conv2d | nn.ConvTranspose2d
    if (height, width) == (2 * out_height, 2 * out_width):
        layer = nn.Conv2d(channels, wanted, 3, stride=2, padding=1)
    elif (2 * height, 2 * width) == (out_height, out_width):
        layer = nn.ConvTranspose2d(channels, wanted, 4, stride=2, padding=1)
    elif height >= out_height and width >= out_width:
        layer = nn.Conv2d(channels, wanted, (1 + height - out_height, 1 + width - out_width))
    else:
        raise _no_connector(student, teacher)
    if not normalise:
        return layer
    return nn.Sequential(layer, nn.BatchNorm2d(wanted), *([nn.ReLU()] if activate else []))


def pointwise(student: Sequence[int], teacher: Sequence[int], activate: bool = False) -> nn.Sequential:
    """A 1 x 1 convolution without bias to the teacher's channels, and BatchNorm (with ``activate`` ReLU): the
    overhaul's and SRRL's connector, initialised as they do.

    >>> pointwise((16, 8, 8), (32, 8, 8))[0]
    Conv2d(16, 32, kernel_size=(1, 1), stride=(1, 1), bias=False)
    """
    layer = _point(student, student[0], teacher[0])
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, _norm(student, teacher[0]), *([nn.ReLU()] if activate else []))


def regressor(student: Sequence[int], teacher: Sequence[int], hidden: int | None = None) -> nn.Sequential:
    """Three 1 x 1 convolutions without bias, with ReLU between them: VID's mean. They have ``hidden`` channels; None:
    as many as the teacher.

    >>> [layer.out_channels for layer in regressor((16, 8, 8), (32, 8, 8))[::2]]
    [32, 32, 32]
    """
    hidden = hidden or teacher[0]
    first, second, third = (
        _point(student, *channels) for channels in ((student[0], hidden), (hidden, hidden), (hidden, teacher[0]))
    )
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)


def bottleneck(student: Sequence[int], teacher: Sequence[int], hidden: int, activate: bool = True) -> nn.Sequential:
    """1 x 1 convolution, 3 x 3, 1 x 1, without biases, with BatchNorm and ReLU after the first two. With ``activate``
    they also follow the last one: SimKD's projector; without it, SemCKD's. It keeps the size of the map.

    >>> [layer.out_channels for layer in bottleneck((16, 8, 8), (32, 8, 8), hidden=8)[::3]]
    [8, 8, 32]
    """
    middle = (
        nn.Linear(hidden, hidden, bias=False)
        if _is_vector(student)
        else nn.Conv2d(hidden, hidden, 3, padding=1, bias=False)
    )
    last = [_norm(student, teacher[0]), nn.ReLU()] if activate else []
    return nn.Sequential(
        _point(student, student[0], hidden),
        _norm(student, hidden),
        nn.ReLU(),
        middle,
        _norm(student, hidden),
        nn.ReLU(),
        _point(student, hidden, teacher[0]),
        *last,
    )


def same_kind(student: Sequence[int], teacher: Sequence[int], maps_only: str = "") -> None:
    """Raises ValueError unless both are vectors or both maps. With ``maps_only``, the reason for it, only maps are
    accepted."""
    kinds = {len(student), len(teacher)}
    if kinds == {3} or (kinds == {1} and not maps_only):
        return
    wanted = (
        f"{maps_only}; choose taps of convolutional stages on both sides"
        if maps_only
        else "choose two vectors (C,) or two maps (C, H, W)"
    )
    raise ValueError(
        f"a student feature of shape {tuple(student)} and a teacher feature of shape {tuple(teacher)} do not fit: "
        f"{wanted}"
    )


def _is_vector(shape: Sequence[int]) -> bool:
    return len(shape) == 1


def _point(shape: Sequence[int], inputs: int, outputs: int) -> nn.Linear | nn.Conv2d:
    return nn.Linear(inputs, outputs, bias=False) if _is_vector(shape) else nn.Conv2d(inputs, outputs, 1, bias=False)


def _norm(shape: Sequence[int], channels: int) -> nn.Module:
    return nn.BatchNorm1d(channels) if _is_vector(shape) else nn.BatchNorm2d(channels)


def _no_connector(student: tuple[int, ...], teacher: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"no connector from a student feature of shape {student} to a teacher feature of shape {teacher}; "
        "choose taps of the same kind; the student's map must not be smaller than the teacher's, or be exactly half"
    )
