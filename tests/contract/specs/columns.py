"""Losses on several labels or predicted values a sample: references row by row, in plain Python."""

import math

import torch

from kdlab import functional

from ..spec import LOGITS, Spec, inputs, normal

_NO_TEACHER = {"equality": "it has no teacher"}


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def over_rows(value):
    def reference(student, other, **options):
        return [value(*row, **options) for row in zip(student.tolist(), other.tolist())]

    return lambda student, teacher=None, target=None, **options: reference(
        student, teacher if target is None else target, **options
    )


def bce(row, labels, mean_over_labels=True):
    values = [-(y * math.log(sigmoid(z)) + (1 - y) * math.log(1 - sigmoid(z))) for z, y in zip(row, labels)]
    return sum(values) / (len(values) if mean_over_labels else 1)


def soft_labels(s, t, temperature=1.0, temperature_squared=True, mean_over_labels=True):
    values = []
    for a, b in zip(s, t):
        q, p = sigmoid(a / temperature), sigmoid(b / temperature)
        values.append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    total = sum(values) / (len(values) if mean_over_labels else 1)
    return total * temperature**2 if temperature_squared else total


def squared_error(row, target):
    return sum((a - b) ** 2 for a, b in zip(row, target)) / len(row)


def _labels(generator):
    return torch.rand(5, 7, generator=generator, dtype=torch.float64).round()


LABELS = inputs(student=normal(5, 7, scale=2.0), target=_labels)
VALUES = inputs(student=normal(5, 7), target=normal(5, 7))


def narrower(arguments):
    return {**arguments, "target": arguments["target"][:, :-1]}


SPECS = [
    *(
        Spec(
            f"bce{'' if mean else '/sum'}",
            functional.binary_cross_entropy,
            LABELS,
            over_rows(bce),
            teacher=(),
            options={"mean_over_labels": mean},
            wrong=narrower,
            skips=_NO_TEACHER,
        )
        for mean in (True, False)
    ),
    *(
        Spec(
            f"sigmoid_kd{'' if mean else '/sum'}",
            functional.sigmoid_kd,
            LOGITS,
            over_rows(soft_labels),
            options={"temperature": 2.0, "mean_over_labels": mean, "temperature_squared": mean},
        )
        for mean in (True, False)
    ),
    Spec(
        "mse", functional.squared_error, VALUES, over_rows(squared_error), teacher=(), wrong=narrower, skips=_NO_TEACHER
    ),
]
