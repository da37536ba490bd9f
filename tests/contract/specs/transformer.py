"""Hidden states and attention: references position by position, in plain Python."""

import math

import torch

from kdlab import functional

from ..spec import Spec, inputs, normal
from .relations import dot, length, mean_square

HIDDEN = inputs(student=normal(4, 3, 5), teacher=normal(4, 3, 5))
SCORES = inputs(student=normal(4, 2, 3, 3, scale=2.0), teacher=normal(4, 2, 3, 3, scale=2.0))
FEWER_HEADS = inputs(student=normal(4, 1, 3, 3), teacher=normal(4, 3, 3, 3))
PARTS = {
    "student": ("student_query", "student_key", "student_value"),
    "teacher": ("teacher_query", "teacher_key", "teacher_value"),
}
STATES = inputs(**{name: normal(4, 3, 4) for name in (*PARTS["student"], *PARTS["teacher"])})
LAYERS = {"student": ("student_first", "student_second"), "teacher": ("teacher_first", "teacher_second")}
TWO_LAYERS = inputs(**{name: normal(4, 3, 2) for name in (*LAYERS["student"], *LAYERS["teacher"])})


def at_each(value):
    """A reference for values at the innermost vectors, from ``value(student, teacher)`` of two lists of numbers."""

    def walk(s, t):
        return value(s, t) if isinstance(s[0], float) else [walk(a, b) for a, b in zip(s, t)]

    return lambda student, teacher: walk(student.tolist(), teacher.tolist())


def squares(s, t):
    return [(a - b) ** 2 for a, b in zip(s, t)]


def mean_squares(s, t):
    return sum(squares(s, t)) / len(s)


def pkd(student, teacher, normalise=True, mean_over_width=True):
    def layer(s, t):
        if normalise:
            s, t = [v / length(s) for v in s], [v / length(t) for v in t]
        return sum(squares(s, t)) / (len(s) if mean_over_width else 1)

    return [sum(map(layer, s, t)) / len(s) for s, t in zip(student.tolist(), teacher.tolist())]


def samples(tensors):
    return zip(*(tensor.tolist() for tensor in tensors))


def sequence_fsp(*states):
    def flow(first, second):
        return [[dot(a, b) / len(first) for b in zip(*second)] for a in zip(*first)]

    return [mean_square(flow(a, b), flow(c, d)) for a, b, c, d in samples(states)]


def sequence_mmd(*states):
    def positions(first, second):
        return [[dot(a, b) / len(a) for b in second] for a in first]

    return [[squares(s, t) for s, t in zip(positions(a, b), positions(c, d))] for a, b, c, d in samples(states)]


def combined(scores, over_heads):
    """A sample's scores: a list of heads, of which one is left where they are combined."""
    if over_heads == "each":
        return scores
    divisor = len(scores) if over_heads == "mean" else 1
    return [
        [[sum(head[i][j] for head in scores) / divisor for j in range(len(scores[0]))] for i in range(len(scores[0]))]
    ]


def over_scores(value):
    """A reference from ``value(student's row, teacher's row, **options)`` of a query's scores."""

    def reference(student, teacher, over_heads="each", **options):
        answer = [
            [
                [value(s, t, **options) for s, t in zip(*heads)]
                for heads in zip(combined(mine, over_heads), combined(theirs, over_heads))
            ]
            for mine, theirs in samples((student, teacher))
        ]
        return answer if over_heads == "each" else [heads[0] for heads in answer]

    return reference


def score_squares(s, t, ignore_below=-math.inf):
    return squares([v if v > ignore_below else 0.0 for v in s], [v if v > ignore_below else 0.0 for v in t])


def softmax(row):
    powers = [math.exp(v) for v in row]
    return [power / sum(powers) for power in powers]


def cross_entropy(s, t, entropy=False, renormalise=True, ignore_below=-math.inf):
    p = [a if v > ignore_below else 0.0 for a, v in zip(softmax(t), t)]
    return sum(a * (math.log(a / b) if entropy else -math.log(b)) for a, b in zip(p, softmax(s)) if a)


def entropies(arguments):
    return over_scores(cross_entropy)(arguments["student"], arguments["student"])


def as_tensor(function):
    return lambda arguments: torch.tensor(function(arguments), dtype=torch.float64)


def relations(*states, heads, relations=None):
    relations = relations or {"qq": 1, "kk": 1, "vv": 1}

    def part(rows, head):
        width = len(rows[0]) // heads
        return [row[head * width : (head + 1) * width] for row in rows]

    def relation(sides, name, head):
        a, b = part(sides["qkv".index(name[0])], head), part(sides["qkv".index(name[1])], head)
        return [[dot(x, y) / math.sqrt(len(x)) for y in b] for x in a]

    def value(states):
        student, teacher = states[:3], states[3:]
        return sum(
            weight
            / heads
            / len(states[0])
            * sum(
                map(
                    lambda s, t: cross_entropy(s, t, entropy=True),
                    relation(student, name, head),
                    relation(teacher, name, head),
                )
            )
            for name, weight in relations.items()
            for head in range(heads)
        )

    return [value(states) for states in samples(states)]


def minilm(*states, heads):
    return relations(*states, heads=heads, relations={"qk": 1, "vv": 1})


def positional(reference):
    """``reference`` with the tensors by position, in the order in which they are made, and the options by name."""

    def named(**arguments):
        tensors = [value for value in arguments.values() if isinstance(value, torch.Tensor)]
        return reference(
            *tensors, **{name: value for name, value in arguments.items() if not isinstance(value, torch.Tensor)}
        )

    return named


def two_layers(scores, more_scores, hidden, teacher_scores, more_teacher_scores, teacher_hidden, **options):
    return functional.tinybert(
        [scores, more_scores], [teacher_scores, more_teacher_scores], [hidden], [teacher_hidden], **options
    )


def tinybert(
    scores,
    more_scores,
    hidden,
    teacher_scores,
    more_teacher_scores,
    teacher_hidden,
    attention_weight=1.0,
    hidden_weight=1.0,
):
    def mean(x):
        return x if isinstance(x, float) else sum(map(mean, x)) / len(x)

    pairs = ((scores, teacher_scores), (more_scores, more_teacher_scores), (hidden, teacher_hidden))
    weights = (attention_weight, attention_weight, hidden_weight)
    return [
        sum(weight * mean(at_each(squares)(s[n], t[n])) for weight, (s, t) in zip(weights, pairs))
        for n in range(len(scores))
    ]


_TINY = {
    "student": ("scores", "more_scores", "hidden"),
    "teacher": ("teacher_scores", "more_teacher_scores", "teacher_hidden"),
}


def longer(name):
    """The sequences of one argument hold one position more."""
    return lambda arguments: {**arguments, name: arguments[name][:, [0, *range(arguments[name].shape[1])]]}


def fewer_positions(arguments):
    """The teacher's scores are of one position less."""
    return {**arguments, "teacher": arguments["teacher"][..., 1:, 1:]}


def positions(size):
    return size, 3


SPECS = [
    Spec("hidden_mse", functional.hidden_mse, HIDDEN, at_each(mean_squares)),
    Spec(
        "hidden_mse/vectors",
        functional.hidden_mse,
        inputs(student=normal(4, 5), teacher=normal(4, 5)),
        at_each(mean_squares),
    ),
    Spec(
        "hidden_cosine", functional.hidden_cosine, HIDDEN, at_each(lambda s, t: 1 - dot(s, t) / length(s) / length(t))
    ),
    Spec("pkd", functional.pkd, HIDDEN, pkd),
    Spec("pkd/TextBrewer", functional.pkd, HIDDEN, pkd, options={"mean_over_width": False}),
    Spec("pkd/not normalised", functional.pkd, HIDDEN, pkd, options={"normalise": False}),
    Spec("sequence_fsp", functional.sequence_fsp, TWO_LAYERS, positional(sequence_fsp), **LAYERS, mask=positions),
    # the gradient grows with the third power of the states, and is itself of half precision
    Spec(
        "sequence_mmd",
        functional.sequence_mmd,
        TWO_LAYERS,
        positional(sequence_mmd),
        **LAYERS,
        mask=positions,
        largest=20.0,
    ),
    Spec("attention_mse", functional.attention_mse, SCORES, over_scores(score_squares), mask=positions),
    Spec(
        "attention_mse/TextBrewer",
        functional.attention_mse,
        SCORES,
        over_scores(score_squares),
        mask=positions,
        options={"ignore_below": -1e-3},
    ),
    Spec(
        "attention_mse/sum",
        functional.attention_mse,
        SCORES,
        over_scores(score_squares),
        mask=positions,
        options={"over_heads": "sum"},
    ),
    Spec(
        "attention_ce",
        functional.attention_ce,
        SCORES,
        over_scores(cross_entropy),
        mask=positions,
        equality=as_tensor(entropies),
    ),
    Spec(
        "attention_ce/divergence",
        functional.attention_ce,
        SCORES,
        over_scores(cross_entropy),
        mask=positions,
        options={"entropy": True},
    ),
    Spec(
        "attention_ce/mean",
        functional.attention_ce,
        FEWER_HEADS,
        over_scores(cross_entropy),
        mask=positions,
        wrong=fewer_positions,
        options={"over_heads": "mean", "entropy": True},
    ),
    Spec(
        "attention_ce/TextBrewer",
        functional.attention_ce,
        SCORES,
        over_scores(cross_entropy),
        mask=positions,
        options={"renormalise": False, "ignore_below": -1e-3, "entropy": True},
    ),
    Spec(
        "tinybert",
        two_layers,
        inputs(
            scores=normal(4, 2, 3, 3),
            more_scores=normal(4, 2, 3, 3),
            hidden=normal(4, 3, 5),
            teacher_scores=normal(4, 2, 3, 3),
            more_teacher_scores=normal(4, 2, 3, 3),
            teacher_hidden=normal(4, 3, 5),
        ),
        tinybert,
        **_TINY,
        mask=positions,
        options={"attention_weight": 0.5, "hidden_weight": 2.0},
    ),
    Spec(
        "minilm",
        functional.minilm,
        STATES,
        positional(minilm),
        **PARTS,
        mask=positions,
        wrong=longer("teacher_query"),
        options={"heads": 2},
    ),
    Spec(
        "minilmv2",
        functional.minilmv2,
        STATES,
        positional(relations),
        **PARTS,
        mask=positions,
        wrong=longer("teacher_query"),
        options={"heads": 2},
    ),
    Spec(
        "minilmv2/qk",
        functional.minilmv2,
        STATES,
        positional(relations),
        **PARTS,
        mask=positions,
        wrong=longer("teacher_query"),
        options={"heads": 4, "relations": {"qk": 0.5, "kv": 2.0}},
    ),
]
