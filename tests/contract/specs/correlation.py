"""Relations within a batch of predictions: references entry by entry, with numpy."""

import numpy as np

from kdlab import functional

from ..spec import LOGITS, Spec, inputs, normal
from .logits import as_reference
from .logits import standardised as standardised_row


def probabilities(logits, temperature=1.0):
    powers = np.exp(np.asarray(logits) / temperature)
    return powers / powers.sum(1, keepdims=True)


def pearson(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / (np.sqrt((a * a).sum()) * np.sqrt((b * b).sum()) + 1e-8)


def dist(student, teacher, temperature=1.0, beta=1.0, gamma=1.0):
    if student.dim() == 4:
        pixels = [(i, j) for i in range(student.shape[2]) for j in range(student.shape[3])]
        student, teacher = ([image[:, i, j].tolist() for image in x for i, j in pixels] for x in (student, teacher))
    q, p = probabilities(student, temperature), probabilities(teacher, temperature)
    inter = np.mean([1 - pearson(a, b) for a, b in zip(q, p)])
    intra = np.mean([1 - pearson(a, b) for a, b in zip(q.T, p.T)])
    return temperature**2 * (beta * inter + gamma * intra)


def gram(p, q, axis, kept=None):
    """Sum of squared differences of the two Gram matrices, over the columns kept, divided by their size."""
    p, q = (p.T, q.T) if axis == "class" else (p, q)
    size, total = len(p), 0.0
    for i in range(size):
        for j in range(size):
            total += (1.0 if kept is None else kept[j]) * ((p[i] * p[j]).sum() - (q[i] * q[j]).sum()) ** 2
    return total / size


def correlation(axis):
    return lambda student, teacher, temperature=4.0: gram(
        probabilities(teacher, temperature), probabilities(student, temperature), axis
    )


def kullback(p, q):
    return (p * (np.log(p) - np.log(q))).sum(1)


def multi_level(
    student,
    teacher,
    student_strong,
    teacher_strong,
    temperatures,
    mask_after_mean=False,
    reuse_weak=False,
    strong_correlations=True,
    standardised=False,
):
    p = probabilities(teacher)
    samples = (p.max(1) <= np.median(p.max(1))).astype(float)
    classes = (p.sum(0) <= np.median(p.sum(0))).astype(float)
    prepared = (lambda x: np.array([standardised_row(row) for row in x.tolist()])) if standardised else np.asarray
    total = 0.0
    for number, T in enumerate(temperatures):
        again = reuse_weak and number >= 3
        weak = T**2 * kullback(probabilities(prepared(teacher), T), probabilities(prepared(student), T))
        strong = T**2 * kullback(
            probabilities(prepared(teacher if again else teacher_strong), T),
            probabilities(prepared(student if again else student_strong), T),
        )
        total += (weak.mean() * samples.mean() if mask_after_mean else (weak * samples).mean()) + strong.mean()
        for axis, kept in (("class", classes), ("batch", samples)):
            q_weak, p_weak = probabilities(student, T), probabilities(teacher, T)
            total += gram(p_weak, q_weak, axis) * kept.mean() if mask_after_mean else gram(p_weak, q_weak, axis, kept)
            if strong_correlations:
                total += gram(probabilities(teacher_strong, T), probabilities(student_strong, T), axis)
    return total


_VIEWS = inputs(student=normal(6, 5), teacher=normal(6, 5), student_strong=normal(6, 5), teacher_strong=normal(6, 5))
_OFFICIAL = {"mask_after_mean": True, "reuse_weak": True, "strong_correlations": False}
_TEMPERATURES = {"temperatures": (4.0, 3.0, 5.0, 2.0)}

SPECS = [
    Spec(
        "dist",
        functional.dist,
        LOGITS,
        dist,
        options={"temperature": 2.0, "beta": 0.5},
        rows=False,
        equality=as_reference(dist, temperature=2.0, beta=0.5),
    ),
    Spec(
        "dist/segmentation",
        functional.dist,
        inputs(student=normal(2, 3, 2, 2), teacher=normal(2, 3, 2, 2)),
        dist,
        rows=False,
        equality=as_reference(dist),
        skips={"mask": "its mask has an entry for every pixel, and not for every image"},
    ),
    Spec("class_correlation", functional.class_correlation, LOGITS, correlation("class"), rows=False),
    Spec("batch_correlation", functional.batch_correlation, LOGITS, correlation("batch"), rows=False),
    *(
        Spec(
            f"multi_level{name}",
            functional.multi_level,
            _VIEWS,
            multi_level,
            student=("student", "student_strong"),
            teacher=("teacher", "teacher_strong"),
            options=_TEMPERATURES | options,
            rows=False,
        )
        for name, options in (("", {}), ("/official", _OFFICIAL), ("/standardised", {"standardised": True}))
    ),
]
