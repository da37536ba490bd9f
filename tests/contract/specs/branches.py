"""One network with several classifiers: ONE, BYOT."""

import numpy as np

from kdlab import functional

from ..spec import Spec, inputs, normal
from .reference import TARGET, kd

_LOGITS = normal(5, 7, scale=2.0)
_ENSEMBLE = inputs(student=_LOGITS, ensemble=_LOGITS)


# -- the calls, from named tensors -------------------------------------------------------------------------------------


def ensemble_logits(first, second, third, gate):
    return functional.ensemble_logits([first, second, third], gate)


# -- references --------------------------------------------------------------------------------------------------------


def ensemble_reference(first, second, third, gate):
    first, second, third, gate = (np.asarray(x) for x in (first, second, third, gate))
    return np.stack(
        [gate[row, 0] * first[row] + gate[row, 1] * second[row] + gate[row, 2] * third[row] for row in range(len(gate))]
    )


def byot_feature(student, deepest, positive_only=False):
    values = []
    for s, d in zip(np.asarray(student), np.asarray(deepest)):
        values.append(sum((a - b) ** 2 for a, b in zip(s.ravel(), d.ravel()) if a > 0 or b > 0 or not positive_only))
    return np.array(values)


# -- values at equality ------------------------------------------------------------------------------------------------


def one_kl_epsilon(arguments):
    """1e-7 on the ensemble's probabilities alone."""
    log_p = (arguments["student"] / 3).log_softmax(-1)
    more = log_p.exp() + 1e-7
    return 9 * (more * (more.log() - log_p)).sum(-1)


SPECS = [
    Spec(
        "ensemble_logits",
        ensemble_logits,
        inputs(first=_LOGITS, second=_LOGITS, third=_LOGITS, gate=normal(5, 3)),
        ensemble_reference,
        ("first", "first"),
        ("second", "third"),
        equality=lambda a: a["first"] * a["gate"].sum(1, keepdim=True),
        skips={"mask": TARGET},
    ),
    Spec(
        "one_kl",
        functional.one_kl,
        _ENSEMBLE,
        lambda student, ensemble, **o: kd(student, ensemble, **o),
        teacher=("ensemble",),
        options={"temperature": 2.0},
    ),
    Spec(
        "one_kl/epsilon",
        functional.one_kl,
        _ENSEMBLE,
        lambda student, ensemble, **o: kd(student, ensemble, **o),
        teacher=("ensemble",),
        options={"temperature": 3.0, "epsilon": 1e-7},
        equality=one_kl_epsilon,
    ),
    *(
        Spec(
            f"byot_feature/{name}",
            functional.byot_feature,
            inputs(student=normal(5, 3, 2, 2), deepest=normal(5, 3, 2, 2)),
            byot_feature,
            teacher=("deepest",),
            options={"positive_only": positive_only},
        )
        for name, positive_only in (("all", False), ("positive", True))
    ),
]
