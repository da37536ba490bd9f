"""Sequences of tokens: references token by token, in plain Python."""

import math

import torch

from kdlab import functional

from ..spec import LOGITS, Spec, inputs, normal
from .divergences import kl, mixture, softmax

NOT = -100


# -- MiniLLM -----------------------------------------------------------------------------------------------------------


def by_token(value):
    """From ``value(student, teacher, …)`` of one token, to ``(B, R)``."""

    def reference(*tensors, **named):
        options = {name: option for name, option in named.items() if not isinstance(option, torch.Tensor)}
        columns = [
            tensor.flatten().tolist()
            for tensor in (*tensors, *(tensor for tensor in named.values() if isinstance(tensor, torch.Tensor)))
        ]
        shape = next(tensor for tensor in (*tensors, *named.values()) if isinstance(tensor, torch.Tensor)).shape
        return torch.tensor([value(*entry, **options) for entry in zip(*columns)], dtype=torch.float64).reshape(shape)

    return reference


def advantage(rewards, discount, length="remaining", whiten=False, discount_from="token", detach=False):
    table = []
    for row in rewards.tolist():
        table.append([])
        for t in range(len(row)):
            powers = [discount ** (j - (t if discount_from == "token" else 0)) for j in range(t, len(row))]
            size = {"remaining": len(powers), "discounted": sum(powers), "none": 1}[length]
            table[-1].append(sum(power * reward for power, reward in zip(powers, row[t:])) / size)
    if whiten:
        entries = [entry for row in table for entry in row]
        mean = sum(entries) / len(entries)
        deviation = math.sqrt(sum((entry - mean) ** 2 for entry in entries) / (len(entries) - 1) + 1e-8)
        table = [[(entry - mean) / deviation for entry in row] for row in table]
    return table


def policy(student, old, advantages, importance, clip=0.2):
    ratio = math.exp(student - old) * importance
    return max(-advantages * ratio, -advantages * min(max(ratio, 1 - clip), 1 + clip))


def minillm(student, teacher, tokens, old, advantages, importance, temperature=1.0, single_step=1.0):
    values = []
    for b, text in enumerate(tokens.tolist()):
        values.append([])
        for t, token in enumerate(text):
            q, p = (softmax(side[b, t].tolist(), temperature) for side in (student, teacher))
            arguments = (tensor[b, t].item() for tensor in (old, advantages, importance))
            values[-1].append(policy(math.log(q[token]), *arguments) + single_step * kl(q, p))
    return values


def integers(number, *shape):
    return lambda generator: torch.randint(number, shape, generator=generator)


def positive(*shape):
    return lambda generator: 0.5 + torch.rand(*shape, generator=generator, dtype=torch.float64)


SAMPLED = inputs(student=normal(4, 5), teacher=normal(4, 5))
WRITTEN = {"tokens": integers(7, 4, 5), "old": normal(4, 5), "advantages": normal(4, 5), "importance": positive(4, 5)}


# -- DistiLLM-2 --------------------------------------------------------------------------------------------------------


def text_divergence(student, teacher, labels, alpha=0.1, anchor=None, divergence="skew_forward"):
    values = []
    for b, text in enumerate(labels.tolist()):
        pairs = [
            (softmax(student[b, t].tolist()), softmax(teacher[b, t].tolist()), text[t + 1])
            for t in range(len(text) - 1)
            if text[t + 1] != NOT
        ]
        weight = alpha
        if anchor is not None:
            likely_q, likely_p = (
                math.exp(sum(math.log(pair[side][pair[2]]) for pair in pairs) / len(pairs)) for side in (0, 1)
            )
            gap = likely_p - likely_q if divergence == "skew_forward" else likely_q - likely_p
            weight = min(max(1 - (1 - alpha) * anchor / (gap + 1e-5), 0.01), alpha)
        each = {
            "skew_forward": lambda q, p, weight=weight: kl(p, mixture(p, q, weight)),
            "skew_reverse": lambda q, p, weight=weight: kl(q, mixture(q, p, weight)),
            "forward": lambda q, p: kl(p, q),
            "jensen_shannon": lambda q, p, weight=weight: (
                weight * kl(p, mixture(p, q, weight)) + (1 - weight) * kl(q, mixture(p, q, weight))
            ),
        }[divergence]
        values.append(sum(each(q, p) for q, p, _ in pairs) / len(pairs))
    return values


def distillm2(
    student_chosen,
    teacher_chosen,
    student_rejected,
    teacher_rejected,
    labels_chosen,
    labels_rejected,
    rejected_weight=1.0,
    kind="v2",
    forward_anchor=None,
    reverse_anchor=None,
):
    forward = ("skew_forward", 0.1, forward_anchor), ("skew_reverse", 0.1, reverse_anchor)
    chosen, rejected = {"v2": forward, "v1": (forward[1], forward[1]), "gkd": (("jensen_shannon", 0.9, None),) * 2}[
        kind
    ]
    both = zip(
        text_divergence(student_chosen, teacher_chosen, labels_chosen, *chosen[1:], chosen[0]),
        text_divergence(student_rejected, teacher_rejected, labels_rejected, *rejected[1:], rejected[0]),
    )
    return [(2 - rejected_weight) * first + rejected_weight * second for first, second in both]


def labels(texts, length, number, prompt=2):
    """A prompt that does not count, an answer, and padding behind every second one."""

    def make(generator):
        made = torch.randint(number, (texts, length), generator=generator)
        made[:, :prompt] = NOT
        made[::2, -1] = NOT
        return made

    return make


TEXTS = inputs(student=normal(4, 5, 6, scale=2.0), teacher=normal(4, 5, 6, scale=2.0), labels=labels(4, 5, 6))
PAIRS = inputs(
    student_chosen=normal(4, 5, 6, scale=2.0),
    teacher_chosen=normal(4, 5, 6, scale=2.0),
    student_rejected=normal(4, 4, 6, scale=2.0),
    teacher_rejected=normal(4, 4, 6, scale=2.0),
    labels_chosen=labels(4, 5, 6),
    labels_rejected=labels(4, 4, 6),
)
_PAIRS = {"student": ("student_chosen", "student_rejected"), "teacher": ("teacher_chosen", "teacher_rejected")}
_DETACHED = {"gradients": "the student inside the mixture is a constant to the gradient, by definition"}


# -- ULD ---------------------------------------------------------------------------------------------------------------


def sorted_distance(q, p):
    size = max(len(q), len(p))
    q, p = (sorted(side, reverse=True) + [0.0] * (size - len(side)) for side in (q, p))
    return sum(abs(a - b) for a, b in zip(q, p))


def uld(student, teacher, student_temperature=1.0, teacher_temperature=1.0):
    return [
        sorted_distance(softmax(s, student_temperature), softmax(t, teacher_temperature))
        for s, t in zip(student.tolist(), teacher.tolist())
    ]


def walk(ends, others):
    """Groups of places of two texts, by walking along both."""
    groups, i, j, start = [], 0, 0, (0, 0)
    while i < len(ends) and j < len(others):
        i, j, closes = i + (ends[i] <= others[j]), j + (others[j] <= ends[i]), ends[i] == others[j]
        if closes:
            groups.append((range(start[0], i), range(start[1], j)))
            start = (i, j)
    groups.append((range(start[0], len(ends)), range(start[1], len(others))))
    return [pair for pair in groups if pair[0] and pair[1]]


def merged(rows, tokens, places, merge):
    base, rest = (places[-1], places[:-1]) if merge == "bayesian" else (places[0], places[1:])
    return [entry * math.prod(rows[k][tokens[k]] for k in rest) for entry in rows[base]]


def hybrid(q, p, pairs, weight):
    q, p = list(q), list(p)
    matched = 0.0
    for mine, theirs in pairs:
        a, b = p[theirs], q[mine]
        m = weight * a + (1 - weight) * b
        matched += weight * a * math.log(a / m) + (1 - weight) * b * math.log(b / m)
    share = len(pairs) / len(p)
    rest = [
        [entry for k, entry in enumerate(side) if k not in {pair[which] for pair in pairs}]
        for which, side in ((0, q), (1, p))
    ]
    return share * matched + (1 - share) * sorted_distance(*rest)


def uld_sequences(
    student,
    teacher,
    student_labels,
    teacher_labels,
    student_bytes=None,
    teacher_bytes=None,
    student_matched=None,
    teacher_matched=None,
    positions="predicting",
    merge="bayesian",
    teacher_weight=0.5,
    skip_teacher_end=False,
):
    values = torch.zeros(len(student), min(student.shape[1], teacher.shape[1]), dtype=torch.float64)
    for b in range(len(student)):
        answers = []
        for logits, text, offsets in (
            (student, student_labels, student_bytes),
            (teacher, teacher_labels, teacher_bytes),
        ):
            places = [t for t, label in enumerate(text[b].tolist()) if label != NOT]
            places = places[:-1] if skip_teacher_end and text is teacher_labels else places
            rows = [softmax(logits[b, t - (positions == "predicting")].tolist()) for t in places]
            ends = list(range(len(places))) if offsets is None else [offsets[b, t, 1].item() for t in places]
            answers.append((rows, text[b, places].tolist(), ends))
        (q, mine, ends), (p, theirs, others) = answers
        groups = (
            walk(ends, others)
            if student_bytes is not None
            else [((k,), (k,)) for k in range(min(len(ends), len(others)))]
        )
        for k, (first, second) in enumerate(groups):
            pair = merged(q, mine, first, merge), merged(p, theirs, second, merge)
            matched = None if student_matched is None else list(zip(student_matched.tolist(), teacher_matched.tolist()))
            values[b, k] = sorted_distance(*pair) if matched is None else hybrid(*pair, matched, teacher_weight)
    return values


def byte_offsets(*texts):
    """Ends of the answer's tokens, behind a prompt of two and before the padding."""
    table = torch.tensor(texts)
    return lambda generator: torch.stack([table, table], -1)


ANSWERS = dict(
    student=normal(4, 6, 5, scale=2.0),
    teacher=normal(4, 5, 7, scale=2.0),
    student_labels=labels(4, 6, 5),
    teacher_labels=labels(4, 5, 7),
)
BYTES = dict(
    student_bytes=byte_offsets([0, 0, 2, 3, 6, 0], [0, 0, 1, 4, 4, 9], [0, 0, 2, 5, 5, 0], [0, 0, 1, 2, 3, 7]),
    teacher_bytes=byte_offsets([0, 0, 3, 6, 0], [0, 0, 2, 4, 9], [0, 0, 2, 9, 0], [0, 0, 4, 4, 7]),
)
MATCHED = {"student_matched": torch.tensor([1, 4, 2]), "teacher_matched": torch.tensor([0, 3, 6])}


def matched(**options):
    """Vocabularies are the same for the whole batch: they are options, not samples."""
    return {**MATCHED, **options}


def same_texts(arguments):
    return {**arguments, "teacher_labels": arguments["teacher_labels"][:, 1:]}


def other_rows(arguments):
    return {**arguments, "teacher": arguments["teacher"][1:]}


def one_tokenizer(generator):
    made = inputs(
        student=normal(4, 6, 5, scale=2.0), teacher=normal(4, 6, 5, scale=2.0), student_labels=labels(4, 6, 5)
    )(generator)
    return {**made, "teacher_labels": made["student_labels"].clone()}


_OF_LABELS = {"mask": "its labels say what counts: tests/functional/test_universal.py"}
_LABELLED = {**_OF_LABELS, "equality": "logits of two tokenizers are not equal; see the spec with one tokenizer"}

# exponentials of differences of log-probabilities: their gradient, in half precision, is beyond its range where they
# differ by 11
SPECS = [
    Spec(
        "reverse_kl_reward",
        functional.reverse_kl_reward,
        SAMPLED,
        by_token(lambda q, p, clip: min(max(p - q, -clip), clip)),
        options={"clip": 1.0},
    ),
    *(
        Spec(
            f"discounted_advantage/{length},{start},{whiten}",
            functional.discounted_advantage,
            inputs(rewards=normal(4, 5)),
            advantage,
            student=("rewards",),
            teacher=(),
            wrong=lambda arguments: {**arguments, "mask": torch.ones(4, 4)},
            options={"discount": discount, "length": length, "discount_from": start, "whiten": whiten, "detach": False},
            skips={
                "equality": "rewards have no teacher",
                **({"batch": "the variance over a batch twice as large is another"} if whiten else {}),
            },
        )
        for discount, length, start, whiten in (
            (0.9, "remaining", "token", False),
            (0.7, "discounted", "token", True),
            (0.7, "none", "start", False),
        )
    ),
    Spec(
        "policy_gradient",
        functional.policy_gradient,
        inputs(
            student=normal(4, 5, scale=0.3),
            old=normal(4, 5, scale=0.3),
            advantages=normal(4, 5),
            importance=positive(4, 5),
        ),
        by_token(policy),
        teacher=("old",),
        equality=lambda a: torch.maximum(
            -a["advantages"] * a["importance"], -a["advantages"] * a["importance"].clamp(0.8, 1.2)
        ),
        largest=4.0,
    ),
    Spec(
        "reverse_kl_estimate",
        functional.reverse_kl_estimate,
        SAMPLED,
        by_token(lambda q, p: math.exp(p - q) - 1 - (p - q)),
        largest=4.0,
    ),
    Spec(
        "minillm",
        functional.minillm,
        inputs(student=normal(4, 5, 7), teacher=normal(4, 5, 7), **WRITTEN),
        minillm,
        options={"temperature": 1.5, "single_step": 0.5},
        equality=lambda a: functional.policy_gradient(
            functional.token_log_probability(a["student"], a["tokens"], 1.5), a["old"], a["advantages"], a["importance"]
        ),
        largest=20.0,
    ),
    *(
        Spec(
            f"text_divergence/{divergence},{anchor}",
            functional.text_divergence,
            TEXTS,
            text_divergence,
            options={"divergence": divergence, "alpha": alpha, "anchor": anchor},
            skips=_DETACHED if divergence == "skew_reverse" or anchor is not None else {},
        )
        for divergence, alpha, anchor in (
            ("skew_forward", 0.1, None),
            ("skew_forward", 0.3, 0.2),
            ("skew_reverse", 0.1, None),
            ("skew_reverse", 0.3, 0.2),
            ("jensen_shannon", 0.9, None),
            ("forward", 0.1, None),
        )
    ),
    *(
        Spec(
            f"distillm2/{kind}",
            functional.distillm2,
            PAIRS,
            distillm2,
            **_PAIRS,
            options={"kind": kind, **options},
            skips={} if kind == "gkd" else _DETACHED,
        )
        for kind, options in (
            ("v2", {"rejected_weight": 1.25, "forward_anchor": 0.1, "reverse_anchor": 0.1}),
            ("v1", {}),
            ("gkd", {}),
        )
    ),
    Spec(
        "uld",
        functional.uld,
        LOGITS,
        uld,
        wrong=other_rows,
        options={"student_temperature": 2.0, "teacher_temperature": 2.0},
    ),
    Spec(
        "uld/vocabularies",
        functional.uld,
        inputs(student=normal(5, 7, scale=2.0), teacher=normal(5, 4, scale=2.0)),
        uld,
        wrong=other_rows,
        skips={"equality": "its vocabularies differ"},
    ),
    Spec(
        "uld_sequences", functional.uld_sequences, inputs(**ANSWERS), uld_sequences, wrong=same_texts, skips=_LABELLED
    ),
    Spec(
        "uld_sequences/one tokenizer",
        functional.uld_sequences,
        one_tokenizer,
        uld_sequences,
        wrong=same_texts,
        skips=_OF_LABELS,
    ),
    Spec(
        "uld_sequences/answer,skip",
        functional.uld_sequences,
        inputs(**ANSWERS),
        uld_sequences,
        wrong=same_texts,
        skips=_LABELLED,
        options={"positions": "answer", "skip_teacher_end": True},
    ),
    *(
        Spec(
            f"uld_sequences/{merge}",
            functional.uld_sequences,
            inputs(**ANSWERS, **BYTES),
            uld_sequences,
            wrong=same_texts,
            skips=_LABELLED,
            options={"merge": merge},
        )
        for merge in ("bayesian", "observed")
    ),
    Spec(
        "uld_sequences/matched",
        functional.uld_sequences,
        inputs(**ANSWERS, **BYTES),
        uld_sequences,
        wrong=same_texts,
        skips=_LABELLED,
        options=matched(teacher_weight=0.3),
    ),
]
