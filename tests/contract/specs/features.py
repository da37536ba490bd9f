"""Losses on features: references sample by sample, in plain loops over numpy arrays."""

import math

import numpy as np
import torch

from kdlab import functional

from ..spec import Spec, classes, inputs, normal

VECTORS = inputs(student=normal(5, 6), teacher=normal(5, 6))
MAPS = inputs(student=normal(5, 3, 4, 4), teacher=normal(5, 3, 4, 4))
VARIANCE = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
MARGIN = torch.tensor([-0.3, -1.0, -0.1], dtype=torch.float64)


def by_sample(value):
    """A reference from ``value(student, teacher)`` of one sample's arrays."""

    def reference(student, teacher, **options):
        return [value(s, t, **options) for s, t in zip(student.numpy(), teacher.numpy())]

    return reference


def square(s, t):
    return sum((a - b) ** 2 for a, b in zip(s.flat, t.flat)) / s.size


def pooled(x, height, width):
    """The mean over areas; a size that does not divide has areas that overlap."""
    out = np.zeros((len(x), height, width))
    for c, i, j in np.ndindex(*out.shape):
        top, bottom = i * x.shape[1] // height, -((i + 1) * x.shape[1] // -height)
        left, right = j * x.shape[2] // width, -((j + 1) * x.shape[2] // -width)
        out[c, i, j] = x[c, top:bottom, left:right].mean()
    return out


def smaller(s, t):
    height, width = min(s.shape[1], t.shape[1]), min(s.shape[2], t.shape[2])
    return pooled(s, height, width), pooled(t, height, width)


def places(x, power):
    sums = [sum(x[c, i, j] ** power for c in range(len(x))) / len(x) for i, j in np.ndindex(*x.shape[1:])]
    return [a / math.sqrt(sum(b * b for b in sums)) for a in sums]


def attention(s, t, power=2.0, form="code"):
    s, t = smaller(s, t)
    squares = sum((a - b) ** 2 for a, b in zip(places(s, power), places(t, power)))
    return squares / (s.shape[1] * s.shape[2]) if form == "code" else math.sqrt(squares)


def factor(s, t, norm=1.0, form="code", power=2.0):
    if form == "code":
        s, t = smaller(s, t)
        differences = [a - b for a, b in zip(places(s, power), places(t, power))]
        return sum(abs(d) ** norm for d in differences) / len(differences)
    lengths = [math.sqrt(sum(a * a for a in x.flat)) for x in (s, t)]
    return sum(abs(a / lengths[0] - b / lengths[1]) ** norm for a, b in zip(s.flat, t.flat)) ** (1 / norm)


def information(s, t, variance):
    total = 0.0
    for place in np.ndindex(*s.shape):
        v = variance[place[0]].item()
        total += (s[place] - t[place]) ** 2 / v + math.log(v)
    return total / 2 / s.size


def boundary(s, t, margin=1.0):
    total = 0.0
    for a, b in zip(s.flat, t.flat):
        if b > 0 and a < margin:
            total += (a - margin) ** 2
        if b <= 0 and a > -margin:
            total += (a + margin) ** 2
    return total


def partial(s, t, margin):
    total = 0.0
    for place in np.ndindex(*s.shape):
        a, b, m = s[place], t[place], margin[place[0]].item()
        if b > 0 or (b > m and a > b):
            total += (a - b) ** 2
        elif b <= m < a:
            total += (a - m) ** 2
    return total


def context(s, t, sizes=(4, 2, 1)):
    value, weights, weight = square(s, t), 1.0, 1.0
    for size in sizes:
        if s.ndim == 3 and size < s.shape[1]:
            weight /= 2
            value += weight * square(pooled(s, size, size), pooled(t, size, size))
            weights += weight
    return value / weights


def contrastive(
    student,
    teacher,
    student_memory,
    teacher_memory,
    contrast,
    student_normaliser,
    teacher_normaliser,
    temperature,
    samples=None,
):
    values = []
    for s, t, rows in zip(student.tolist(), teacher.tolist(), contrast.tolist()):
        noise, value = (len(rows) - 1) / (samples or len(student_memory)), 0.0
        for v, memory, z in ((s, teacher_memory, student_normaliser), (t, student_memory, teacher_normaliser)):
            for number, row in enumerate(rows):
                p = math.exp(sum(a * b for a, b in zip(v, memory[row].tolist())) / temperature) / z
                value -= math.log((noise if number else p) / (p + noise + 1e-7))
        values.append(value)
    return values


def semantic(query, key, errors, temperature=1.0):
    def cosine(a, b):
        return a @ b / math.sqrt(a @ a) / math.sqrt(b @ b)

    values = []
    for q, k, e in zip(query.numpy(), key.numpy(), errors.numpy()):
        value = 0.0
        for i in range(len(q)):
            powers = [math.exp(cosine(q[i], k[j]) / temperature) for j in range(len(k))]
            value += sum(power / sum(powers) * e[i, j] for j, power in enumerate(powers)) / len(q)
        values.append(value)
    return values


def regression(student, teacher, student_logits, teacher_logits, divergence="mse"):
    values = []
    for s, t, a, b in zip(student.numpy(), teacher.numpy(), student_logits.numpy(), teacher_logits.numpy()):
        s, t = (x.reshape(len(x), -1).mean(1) for x in (s, t))
        p, q = (np.exp(x) / np.exp(x).sum() for x in (b, a))
        values.append(square(s, t) + (square(a, b) if divergence == "mse" else sum(p * np.log(p / q))))
    return values


def longer(arguments):
    """A teacher of one more sample: maps may differ in channels and size."""
    return {**arguments, "teacher": torch.cat([arguments["teacher"], arguments["teacher"][:1]])}


def unequal(channels, size):
    return inputs(student=normal(5, 3, 4, 4), teacher=normal(5, channels, size, size))


_UNEQUAL = {"equality": "student and teacher have different shapes here"}
_CONTRAST = {
    "student_memory": normal(9, 6, scale=0.4)(torch.Generator().manual_seed(8)),
    "teacher_memory": normal(9, 6, scale=0.4)(torch.Generator().manual_seed(9)),
    "student_normaliser": 12.0,
    "teacher_normaliser": 9.0,
    "temperature": 0.5,
}
_REGRESSION = inputs(
    student=normal(5, 3, 2, 2), teacher=normal(5, 3, 2, 2), student_logits=normal(5, 7), teacher_logits=normal(5, 7)
)


def contrasted(generator):
    return {**VECTORS(generator), "contrast": torch.stack([classes(5, 9)(generator) for _ in range(4)], 1)}


SPECS = [
    Spec("hint", functional.hint, MAPS, by_sample(square)),
    Spec("hint/vectors", functional.hint, VECTORS, by_sample(square)),
    Spec("attention", functional.attention_transfer, MAPS, by_sample(attention), wrong=longer),
    Spec(
        "attention/paper",
        functional.attention_transfer,
        MAPS,
        by_sample(attention),
        options={"form": "paper"},
        wrong=longer,
    ),
    Spec(
        "attention/larger student",
        functional.attention_transfer,
        unequal(2, 3),
        by_sample(attention),
        options={"power": 4.0},
        wrong=longer,
        skips=_UNEQUAL,
    ),
    Spec(
        "attention/larger teacher",
        functional.attention_transfer,
        unequal(2, 6),
        by_sample(attention),
        wrong=longer,
        skips=_UNEQUAL,
    ),
    Spec(
        "vid",
        functional.variational_information,
        MAPS,
        by_sample(information),
        options={"variance": VARIANCE},
        equality=VARIANCE.log().mean().item() / 2,
    ),
    Spec("factor", functional.factor_transfer, MAPS, by_sample(factor), wrong=longer),
    Spec(
        "factor/squares",
        functional.factor_transfer,
        unequal(2, 3),
        by_sample(factor),
        options={"norm": 2.0},
        wrong=longer,
        skips=_UNEQUAL,
    ),
    Spec("factor/paper", functional.factor_transfer, MAPS, by_sample(factor), options={"form": "paper"}),
    Spec("factor/paper,2", functional.factor_transfer, MAPS, by_sample(factor), options={"form": "paper", "norm": 2.0}),
    Spec(
        "ab",
        functional.activation_boundary,
        MAPS,
        by_sample(boundary),
        options={"margin": 0.7},
        equality=lambda a: torch.tensor(
            [sum(max(0.0, 0.7 - abs(v)) ** 2 for v in row.flatten().tolist()) for row in a["student"].detach()],
            dtype=torch.float64,
        ),
    ),
    Spec("ofd", functional.partial_l2, MAPS, by_sample(partial), options={"margin": MARGIN}),
    Spec(
        "reviewkd",
        functional.hierarchical_context,
        inputs(student=normal(5, 2, 5, 5), teacher=normal(5, 2, 5, 5)),
        by_sample(context),
    ),
    Spec("reviewkd/4", functional.hierarchical_context, MAPS, by_sample(context)),
    Spec("reviewkd/vectors", functional.hierarchical_context, VECTORS, by_sample(context)),
    Spec("simkd", functional.reused_classifier, MAPS, by_sample(square)),
    Spec(
        "srrl",
        functional.softmax_regression,
        _REGRESSION,
        regression,
        ("student", "student_logits"),
        ("teacher", "teacher_logits"),
        wrong=lambda a: {
            **a,
            "teacher": torch.cat([a["teacher"], a["teacher"]], 1).mean((2, 3)),
            "student": a["student"].mean((2, 3)),
        },
    ),
    Spec(
        "srrl/kl",
        functional.softmax_regression,
        _REGRESSION,
        regression,
        ("student", "student_logits"),
        ("teacher", "teacher_logits"),
        options={"divergence": "kl"},
        wrong=lambda a: {**a, "teacher_logits": torch.cat([a["teacher_logits"], a["teacher_logits"]], 1)},
    ),
    Spec(
        "semckd",
        functional.semantic_calibration,
        inputs(query=normal(5, 2, 4), key=normal(5, 3, 4), errors=normal(5, 2, 3)),
        semantic,
        ("query", "errors"),
        ("key",),
        options={"temperature": 0.7},
        skips={"equality": "the differences of the features come in as an argument"},
    ),
    Spec(
        "crd",
        functional.contrastive_representation,
        contrasted,
        contrastive,
        options=_CONTRAST,
        skips={"equality": "a contrast with other samples has no fixed value where the two embeddings of one agree"},
    ),
    Spec(
        "crd/fewer samples",
        functional.contrastive_representation,
        contrasted,
        contrastive,
        options={**_CONTRAST, "samples": 6},
        skips={"equality": "a contrast with other samples has no fixed value where the two embeddings of one agree"},
    ),
]
