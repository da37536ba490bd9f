"""Connectors: small trainable networks that bring a student's feature to the teacher's shape."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def connector(student: Sequence[int], teacher: Sequence[int], normalise: bool = True) -> nn.Module:
    """A connector from one feature shape to another (shapes of a sample, without the batch dimension).

    Vectors ``(D,)`` and sequences ``(T, D)`` get a linear map. Maps ``(C, H, W)`` get one convolution, as FitNets' regressor:
    stride 2 where the student's map is twice the teacher's, a transposed one where it is half, otherwise a kernel just large
    enough to shrink the map (1 x 1 where the sizes are equal); ``normalise`` adds BatchNorm and ReLU behind it.

    Raises:
        ValueError: no connector exists between the two shapes; both are printed.

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
    if (height, width) == (2 * out_height, 2 * out_width):
        layer = nn.Conv2d(channels, wanted, 3, stride=2, padding=1)
    elif (2 * height, 2 * width) == (out_height, out_width):
        layer = nn.ConvTranspose2d(channels, wanted, 4, stride=2, padding=1)
    elif height >= out_height and width >= out_width:
        layer = nn.Conv2d(channels, wanted, (1 + height - out_height, 1 + width - out_width))
    else:
        raise _no_connector(student, teacher)
    return nn.Sequential(layer, nn.BatchNorm2d(wanted), nn.ReLU()) if normalise else layer


def _no_connector(student: tuple, teacher: tuple) -> ValueError:
    return ValueError(f"no connector from a student feature of shape {student} to a teacher feature of shape {teacher}; "
                      "choose taps of the same kind, the student's map not smaller than the teacher's (or exactly half)")
