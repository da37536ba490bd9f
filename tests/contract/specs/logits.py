"""Losses on logits: references row by row, in plain Python."""

import math

import torch

from kdlab import functional

from ..spec import LABELLED, LOGITS, Spec, classes, inputs, normal
from .divergences import kl, softmax

_NO_TEACHER = {"equality": "it has no teacher"}
_CONSTANT = {"gradients": "part of it is a constant to the gradient, by definition"}


def rows(value):
    """A reference from ``value(student, teacher, …)`` of one row's logits, and its label where there is one."""

    def reference(student, teacher, *more, target=None, **options):
        labels = [] if target is None else [target.tolist()]
        return [value(*row, **options) for row in zip(student.tolist(), teacher.tolist(), *labels)]

    return reference


def labels_only(value):
    def reference(student, target, **options):
        return [value(row, label, **options) for row, label in zip(student.tolist(), target.tolist())]

    return reference


def as_reference(reference, **options):
    """A spec's value at equality, where it is no number."""

    def value(arguments):
        return torch.as_tensor(
            reference(**{name: tensor.detach() for name, tensor in arguments.items()}, **options), dtype=torch.float64
        )

    return value


def without(row, label):
    return [z for number, z in enumerate(row) if number != label]


def cross_entropy(row, label, label_smoothing=0.0, smoothing_over="all"):
    share = {"all": label_smoothing / len(row), "others": label_smoothing / (len(row) - 1)}[smoothing_over]
    mine = 1 - label_smoothing + (share if smoothing_over == "all" else 0.0)
    return -sum((mine if number == label else share) * math.log(q) for number, q in enumerate(softmax(row)))


def soft_cross_entropy(s, t, temperature=1.0, temperature_squared=False):
    value = -sum(p * math.log(q) for p, q in zip(softmax(t, temperature), softmax(s, temperature)))
    return value * temperature**2 if temperature_squared else value


def virtual_teacher(
    row, label, correct_probability=0.99, temperature=40.0, student_temperature=1.0, softened="probabilities"
):
    made = [
        correct_probability if number == label else (1 - correct_probability) / (len(row) - 1)
        for number in range(len(row))
    ]
    return kl(
        softmax(made if softened == "probabilities" else [math.log(u) for u in made], temperature),
        softmax(row, student_temperature),
    )


def dkd(s, t, label, alpha=1.0, beta=8.0, temperature=4.0):
    p, q = softmax(t, temperature), softmax(s, temperature)
    tckd = kl([p[label], sum(without(p, label))], [q[label], sum(without(q, label))])
    return temperature**2 * (
        alpha * tckd + beta * kl(softmax(without(t, label), temperature), softmax(without(s, label), temperature))
    )


def nkd(s, t, label, temperature=1.0, gamma=1.5):
    return -softmax(t)[label] * math.log(softmax(s)[label]) + gamma * soft_cross_entropy(
        without(s, label), without(t, label), temperature, True
    )


def wsld(s, t, label, temperature=2.0):
    return (1 - math.exp(-cross_entropy(s, label) / cross_entropy(t, label))) * soft_cross_entropy(
        s, t, temperature, True
    )


def uskd(student, weak, target, alpha=1.0, beta=0.1, mu=0.005, rank_by_logarithm=False):
    values, target = [], target.tolist()
    squares = [softmax(s)[y] ** 2 for s, y in zip(student.tolist(), target)]
    for s, w, y, square in zip(student.tolist(), weak.tolist(), target, squares):
        q, v = softmax(s), softmax(w)
        compared = [math.log(probability) for probability in q] if rank_by_logarithm else q
        likeness = [a / (1 - v[y] + 1e-6) + b / (1 - compared[y] + 1e-6) for a, b in zip(v, compared)]
        zipf = [1 / (1 + sum(other > mine for other in likeness)) for mine in likeness]
        others = -sum(z / sum(without(zipf, y)) * math.log(p) for z, p in zip(without(zipf, y), softmax(without(s, y))))
        label = square + 1 - sum(squares) / len(squares)
        values.append(-alpha * label * math.log(q[y]) + beta * others + mu * cross_entropy(w, y, 0.1))
    return values


def standardised(row):
    mean = sum(row) / len(row)
    deviation = math.sqrt(sum((z - mean) ** 2 for z in row) / (len(row) - 1))
    return [(z - mean) / (deviation + 1e-7) for z in row]


def standardised_kd(student, teacher, temperature=2.0, mask=None, reduction="none"):
    """As the wrapper has it: both sides standardised, then compared."""
    return functional.hinton_kd(
        functional.standardise(student, mask=mask),
        functional.standardise(teacher, mask=mask),
        temperature,
        mask=mask,
        reduction=reduction,
    )


def ctkd(student, teacher, temperature, reversal=1.0):
    return [
        t**2 * kl(softmax(b, t), softmax(a, t))
        for a, b, t in zip(student.tolist(), teacher.tolist(), temperature.tolist())
    ]


def hinton(s, t, temperature=4.0):
    return temperature**2 * kl(softmax(t, temperature), softmax(s, temperature))


def squared(s, t, temperature=1.0):
    return sum((a - b) ** 2 for a, b in zip(s, t)) / temperature**2 / len(s)


def hard_label(s, t):
    return cross_entropy(s, t.index(max(t)))


_TARGETED = inputs(student=normal(5, 7, scale=2.0), target=classes(5, 7))
_WEAK = inputs(student=normal(5, 7, scale=2.0), weak=normal(5, 7, scale=2.0), target=classes(5, 7))


def longer(name):
    return lambda arguments: {**arguments, name: arguments[name][:-1]}


def cross_entropies(name, **options):
    return Spec(
        name,
        functional.cross_entropy,
        _TARGETED,
        labels_only(cross_entropy),
        teacher=(),
        options=options,
        wrong=longer("target"),
        skips=_NO_TEACHER,
    )


SPECS = [
    cross_entropies("ce"),
    cross_entropies("ce/smoothing", label_smoothing=0.2),
    cross_entropies("ce/smoothing over others", label_smoothing=0.2, smoothing_over="others"),
    Spec("kd", functional.hinton_kd, LOGITS, rows(hinton), options={"temperature": 3.0}),
    Spec(
        "soft_cross_entropy",
        functional.soft_cross_entropy,
        LOGITS,
        rows(soft_cross_entropy),
        options={"temperature": 2.0, "temperature_squared": True},
        equality=as_reference(rows(soft_cross_entropy), temperature=2.0, temperature_squared=True),
    ),
    Spec("hard_kd", functional.hard_label, LOGITS, rows(hard_label), equality=as_reference(rows(hard_label))),
    Spec("logit_mse", functional.logit_mse, LOGITS, rows(squared), options={"temperature": 2.0}),
    *(
        Spec(
            f"virtual_teacher/{softened}",
            functional.virtual_teacher,
            _TARGETED,
            labels_only(virtual_teacher),
            teacher=(),
            wrong=longer("target"),
            options={"softened": softened, "student_temperature": 1.5},
            skips=_NO_TEACHER,
        )
        for softened in ("probabilities", "logarithms")
    ),
    Spec("dkd", functional.dkd, LABELLED, rows(dkd), options={"beta": 2.0}),
    Spec(
        "nkd",
        functional.nkd,
        LABELLED,
        rows(nkd),
        options={"temperature": 2.0},
        equality=as_reference(rows(nkd), temperature=2.0),
    ),
    *(
        Spec(
            f"uskd{'/rank by logarithm' if switch else ''}",
            functional.uskd,
            _WEAK,
            uskd,
            student=("student", "weak"),
            teacher=(),
            options={"rank_by_logarithm": switch},
            wrong=longer("weak"),
            skips=_NO_TEACHER | _CONSTANT,
        )
        for switch in (False, True)
    ),
    Spec(
        "wsld",
        functional.wsld,
        inputs(student=normal(5, 7, scale=0.5), teacher=normal(5, 7, scale=0.5), target=classes(5, 7)),
        rows(wsld),
        equality=as_reference(rows(wsld)),
        skips=_CONSTANT,
    ),
    Spec("kd_standardised", standardised_kd, LOGITS, rows(lambda s, t: hinton(standardised(s), standardised(t), 2.0))),
    Spec(
        "ctkd",
        functional.ctkd,
        inputs(student=normal(5, 7), teacher=normal(5, 7), temperature=lambda generator: normal(5)(generator).exp()),
        ctkd,
    ),
]
