"""Divergences: references class by class, in plain Python."""

import math

from kdlab import functional

from ..spec import LOGITS, Spec, inputs, normal


def by_class(term):
    """A divergence from ``term(p, q)`` of one class, T inside."""

    def reference(student, teacher, temperature=1.0, **options):
        return by_row(lambda p, q: sum(term(a, b, **options) for a, b in zip(p, q)))(student, teacher, temperature)

    return reference


def by_row(value):
    """A divergence from ``value(p, q)`` of one row's probabilities."""

    def reference(student, teacher, temperature=1.0, **options):
        return [
            value(softmax(t, temperature), softmax(s, temperature), **options)
            for s, t in zip(student.tolist(), teacher.tolist())
        ]

    return reference


def softmax(logits, temperature=1.0):
    powers = [math.exp(z / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


def mixture(p, q, weight):
    return [weight * a + (1 - weight) * b for a, b in zip(p, q)]


def jensen_shannon(p, q, teacher_weight=0.5, scaled=False):
    if teacher_weight in (0, 1):
        return kl(q, p) if teacher_weight else kl(p, q)
    m = mixture(p, q, teacher_weight)
    value = teacher_weight * kl(p, m) + (1 - teacher_weight) * kl(q, m)
    return value / teacher_weight / (1 - teacher_weight) if scaled else value


def alpha_beta(p, q, alpha=0.2, beta=0.7):
    """The definition, and the limits where it is 0 / 0; that they are its limits, tests/functional asserts."""
    a, b, c = alpha, beta, alpha + beta
    if a and b and c:
        return sum(-(x**a * y**b - a / c * x**c - b / c * y**c) / (a * b) for x, y in zip(p, q))
    if a and not b:
        return sum(x**a * a * math.log(x / y) - x**a + y**a for x, y in zip(p, q)) / a**2
    if b and not a:
        return sum(y**b * b * math.log(y / x) - y**b + x**b for x, y in zip(p, q)) / b**2
    if a:
        return sum(math.log(y**a / x**a) + x**a / y**a - 1 for x, y in zip(p, q)) / a**2
    return sum(math.log(x / y) ** 2 for x, y in zip(p, q)) / 2


def adaptive_kl(p, q, tail_mass=0.5):
    gaps, mass = {"head": 0.0, "tail": 0.0}, 0.0
    for a, b in sorted(zip(p, q)):
        mass += a
        gaps["tail" if mass <= tail_mass else "head"] += abs(a - b)
    return (gaps["head"] * kl(p, q) + gaps["tail"] * kl(q, p)) / (gaps["head"] + gaps["tail"])


_WEIGHTS = {"gradients": "the weights of head and tail are constants to the gradient, by definition"}

SPECS = [
    Spec("forward_kl", functional.forward_kl, LOGITS, by_row(kl), options={"temperature": 2.0}),
    Spec("reverse_kl", functional.reverse_kl, LOGITS, by_row(lambda p, q: kl(q, p)), options={"temperature": 2.0}),
    Spec(
        "symmetric_kl",
        functional.symmetric_kl,
        LOGITS,
        by_row(lambda p, q, reverse_weight: (1 - reverse_weight) * kl(p, q) + reverse_weight * kl(q, p)),
        options={"reverse_weight": 0.3},
    ),
    *(
        Spec(
            f"jensen_shannon/{weight}",
            functional.jensen_shannon,
            LOGITS,
            by_row(jensen_shannon),
            options={"teacher_weight": weight, "scaled": scaled},
        )
        for weight, scaled in ((0.5, False), (0.1, True), (0.0, False), (1.0, False))
    ),
    *(
        Spec(
            f"skew_forward_kl/{weight}",
            functional.skew_forward_kl,
            LOGITS,
            by_row(lambda p, q, teacher_weight: kl(p, mixture(p, q, teacher_weight))),
            options={"teacher_weight": weight},
        )
        for weight in (0.1, 0.0, 1.0)
    ),
    *(
        Spec(
            f"skew_reverse_kl/{weight}",
            functional.skew_reverse_kl,
            LOGITS,
            by_row(lambda p, q, student_weight: kl(q, mixture(q, p, student_weight))),
            options={"student_weight": weight},
        )
        for weight in (0.1, 0.0, 1.0)
    ),
    Spec(
        "total_variation",
        functional.total_variation,
        LOGITS,
        by_class(lambda a, b: abs(a - b) / 2),
        options={"temperature": 2.0},
    ),
    *(
        Spec(
            f"alpha_beta/{alpha},{beta}",
            functional.alpha_beta,
            inputs(student=normal(5, 7), teacher=normal(5, 7)),
            by_row(alpha_beta),
            options={"alpha": alpha, "beta": beta},
            largest=60.0 if alpha > 0 and beta > 0 else 10.0,
        )
        for alpha, beta in ((0.2, 0.7), (1.0, 0.0), (0.0, 1.0), (0.5, -0.5), (0.0, 0.0), (0.5, 0.0))
    ),
    Spec("adaptive_kl", functional.adaptive_kl, LOGITS, by_row(adaptive_kl), skips=_WEIGHTS),
]
