"""Networks that teach each other: their losses and their common targets."""

import functools

import numpy as np

from kdlab import functional

from ..spec import Spec, classes, inputs, normal
from .reference import TARGET, ce, first, softmax

_LOGITS = normal(5, 7, scale=2.0)
_PEERS = inputs(student=_LOGITS, first=_LOGITS, second=_LOGITS)
_NETWORKS = inputs(first=_LOGITS, second=_LOGITS, third=_LOGITS)
_LABELLED_NETWORKS = inputs(first=_LOGITS, second=_LOGITS, third=_LOGITS, target=classes(5, 7))
_FROM_PEERS = {"student": ("student", "student"), "teacher": ("first", "second")}
_TO_FIRST = {"student": ("first", "first"), "teacher": ("second", "third")}


def of_networks(function):
    """``function([first, second, third], …)`` from named tensors."""

    @functools.wraps(function)
    def call(first, second, third, *more, **options):
        return function([first, second, third], *more, **options)

    return call


def of_peers(function):
    """``function(student, [first, second], …)`` from named tensors."""

    @functools.wraps(function)
    def call(student, first, second, *more, **options):
        return function(student, [first, second], *more, **options)

    return call


def two(function):
    """``function([first, second], …)`` from named tensors."""

    @functools.wraps(function)
    def call(first, second, *more, **options):
        return function([first, second], *more, **options)

    return call


def codistillation_second(first, second, third, **options):
    return functional.codistillation_targets([first, second, third], **options)[1]


def mutual_kl(student, first, second, temperature=1.0, average=True, epsilon=0.0):
    values = np.zeros(len(student))
    for peer in (first, second):
        for number, (s, t) in enumerate(zip(np.asarray(student), np.asarray(peer))):
            pairs = zip(softmax(t, temperature), softmax(s, temperature))
            values[number] += temperature**2 * sum(a * np.log(epsilon + a / (b + epsilon)) for a, b in pairs)
    return values / 2 if average else values


def average_of(*networks, average="logits", **_):
    if average == "logits":
        return sum(np.asarray(network) for network in networks) / len(networks)
    return np.log(sum(np.array([softmax(row) for row in np.asarray(network)]) for network in networks) / len(networks))


def kdcl_naive(first, second, third, target, per_sample=False, **_):
    networks = [np.asarray(network) for network in (first, second, third)]
    losses = [ce(network, target) for network in networks]
    if not per_sample:
        return networks[int(np.argmin([loss.mean() for loss in losses]))]
    return np.stack([networks[int(np.argmin([loss[row] for loss in losses]))][row] for row in range(len(target))])


def kdcl_min_logit(first, second, third, target, **_):
    centred = [
        np.stack([row - row[label] for row, label in zip(np.asarray(network), target)])
        for network in (first, second, third)
    ]
    return np.minimum(np.minimum(centred[0], centred[1]), centred[2])


def kdcl_linear_weight(first, second, target):
    """Of two networks: the slope of the cross-entropy in the first one's weight rises, so its zero is found by
    halving."""

    def slope(weight):
        rows = zip(np.asarray(first), np.asarray(second), np.asarray(target))
        return sum(softmax(weight * a + (1 - weight) * b) @ (a - b) - (a - b)[label] for a, b, label in rows)

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return low if high < 1 else 1.0


def kdcl_linear(first, second, target, per_sample=False, **_):
    groups = [[row] for row in range(len(target))] if per_sample else [list(range(len(target)))]
    answer = []
    for rows in groups:
        weight = kdcl_linear_weight(first[rows], second[rows], target[rows])
        answer.append(weight * np.asarray(first[rows]) + (1 - weight) * np.asarray(second[rows]))
    return np.concatenate(answer)


def error_correlation(first, second, target, **_):
    networks, labels = (np.asarray(first), np.asarray(second)), np.asarray(target)
    errors = [
        np.array([softmax(row) - np.eye(7)[label] for row, label in zip(network, labels)]) for network in networks
    ]
    return [[(a * b).sum() / len(target) for b in errors] for a in errors]


def general_weights(correlation, ridge):
    matrix = np.asarray(correlation) + ridge * np.asarray(correlation).diagonal().mean() * np.eye(3)
    inverse = np.linalg.inv(matrix)
    return inverse.sum(1) / inverse.sum()


def correlations(generator):
    errors = normal(3, 9)(generator)
    return {"correlation": errors @ errors.T / 9}


def weighted_target(first, second, third, weights, **_):
    return sum(
        np.asarray(weights)[:, [number]] * np.asarray(network) for number, network in enumerate((first, second, third))
    )


def epsilon_at_equality(arguments):
    p = arguments["student"].softmax(-1)
    return 2 * (p * (1e-8 + p / (p + 1e-8)).log()).sum(-1)


def log_softmax_of_first(arguments):
    return arguments["first"].log_softmax(-1)


_AVERAGES = (("logits", first), ("probabilities", log_softmax_of_first))
_RANGES = (("batch", False), ("sample", True))

SPECS = [
    Spec("mutual_kl", of_peers(functional.mutual_kl), _PEERS, mutual_kl, **_FROM_PEERS, options={"temperature": 2.0}),
    Spec("mutual_kl/sum", of_peers(functional.mutual_kl), _PEERS, mutual_kl, **_FROM_PEERS, options={"average": False}),
    Spec(
        "mutual_kl/epsilon",
        of_peers(functional.mutual_kl),
        _PEERS,
        mutual_kl,
        **_FROM_PEERS,
        options={"average": False, "epsilon": 1e-8},
        equality=epsilon_at_equality,
    ),
    *(
        Spec(
            f"kdcl_mean/{average}",
            of_networks(functional.kdcl_mean),
            _NETWORKS,
            lambda first, second, third, **o: average_of(first, second, third, **o),
            **_TO_FIRST,
            options={"average": average, "detach": False},
            equality=equality,
            skips={"mask": TARGET},
        )
        for average, equality in _AVERAGES
    ),
    *(
        Spec(
            f"kdcl_naive/{name}",
            of_networks(functional.kdcl_naive),
            _LABELLED_NETWORKS,
            kdcl_naive,
            **_TO_FIRST,
            options={"per_sample": per_sample, "detach": False},
            equality=first,
            skips={"mask": TARGET},
        )
        for name, per_sample in _RANGES
    ),
    *(
        Spec(
            f"kdcl_linear/{name}",
            two(functional.kdcl_linear),
            inputs(first=_LOGITS, second=_LOGITS, target=classes(5, 7)),
            kdcl_linear,
            ("first",),
            ("second",),
            {"per_sample": per_sample, "iterations": 5, "detach": False},
            equality=first,
            skips={"mask": TARGET, "gradients": "the weights are constants to the gradient, by definition"},
        )
        for name, per_sample in _RANGES
    ),
    Spec(
        "kdcl_min_logit",
        of_networks(functional.kdcl_min_logit),
        _LABELLED_NETWORKS,
        kdcl_min_logit,
        **_TO_FIRST,
        options={"detach": False},
        equality=lambda a: a["first"] - a["first"].gather(1, a["target"][:, None]),
        skips={"mask": TARGET},
    ),
    *(
        Spec(
            f"codistillation_targets/{average}",
            codistillation_second,
            _NETWORKS,
            lambda first, second, third, **o: average_of(first, third, **o),
            ("first",),
            ("third",),
            {"average": average, "detach": False},
            equality=equality,
            skips={"mask": TARGET},
        )
        for average, equality in _AVERAGES
    ),
    Spec(
        "error_correlation",
        two(functional.error_correlation),
        inputs(first=_LOGITS, second=_LOGITS, target=classes(5, 7)),
        error_correlation,
        ("first",),
        ("second",),
        {"detach": False},
        equality=lambda a: functional.error_correlation([a["first"]] * 2, a["target"]),
        rows=False,
        skips={"mask": TARGET},
    ),
    Spec(
        "kdcl_general_weights",
        functional.kdcl_general_weights,
        correlations,
        general_weights,
        ("correlation",),
        ("correlation",),
        {"ridge": 1e-3},
        equality=lambda a: functional.kdcl_general_weights(a["correlation"], 1e-3),
        rows=False,
        skips={"mask": TARGET, "batch": "a matrix over networks, without samples"},
    ),
    Spec(
        "weighted_target",
        of_networks(functional.weighted_target),
        inputs(
            first=_LOGITS, second=_LOGITS, third=_LOGITS, weights=lambda generator: normal(5, 3)(generator).softmax(-1)
        ),
        weighted_target,
        **_TO_FIRST,
        options={"detach": False},
        equality=first,
        skips={"mask": TARGET},
    ),
]
