"""One network with several classifiers, or with a memory: ONE, BYOT, PS-KD, CS-KD, DLB."""

import numpy as np
import torch

from ..spec import Spec, classes, inputs, normal
from .reference import TARGET, WHOLE, ce, kd, longer, softmax, total
from kdlab import functional

_LOGITS = normal(5, 7, scale=2.0)
_EXIT = inputs(student=_LOGITS, deepest=_LOGITS)
_ENSEMBLE = inputs(student=_LOGITS, ensemble=_LOGITS)
_REMEMBERED = inputs(previous=lambda generator: _LOGITS(generator).softmax(-1), target=classes(5, 7))


# -- the calls, from named tensors ----------------------------------------------------------------------------------------------


def ensemble_logits(first, second, third, gate):
    return functional.ensemble_logits([first, second, third], gate)


def byot(deepest, first, second, target, deepest_feature, first_feature, second_feature, **options):
    return functional.byot(deepest, [first, second], target, deepest_feature, [first_feature, second_feature], **options).total()


def ps_kd(student, previous, target, **options):
    return functional.ps_kd(student, previous.softmax(-1), target, **options)


# -- references -----------------------------------------------------------------------------------------------------------------


def ensemble_reference(first, second, third, gate):
    first, second, third, gate = (np.asarray(x) for x in (first, second, third, gate))
    return np.stack([gate[row, 0] * first[row] + gate[row, 1] * second[row] + gate[row, 2] * third[row] for row in range(len(gate))])


def byot_feature(student, deepest, positive_only=False):
    values = []
    for s, d in zip(np.asarray(student), np.asarray(deepest)):
        values.append(sum((a - b) ** 2 for a, b in zip(s.ravel(), d.ravel()) if a > 0 or b > 0 or not positive_only))
    return np.array(values)


def byot_reference(deepest, first, second, target, deepest_feature, first_feature, second_feature, temperature, kd_weight, feature_weight):
    values = ce(deepest, target)
    for logits, feature in ((first, first_feature), (second, second_feature)):
        values = values + (1 - kd_weight) * ce(logits, target) + kd_weight * kd(logits, deepest, temperature)
        values = values + feature_weight * byot_feature(feature, deepest_feature)
    return values.mean()


def ps_kd_targets(previous, target, alpha, **_):
    return [[(1 - alpha) * (c == label) + alpha * p for c, p in enumerate(row)] for row, label in zip(previous.tolist(), target.tolist())]


def ps_kd_reference(student, previous, target, alpha):
    targets = ps_kd_targets(previous.softmax(-1), target, alpha)
    return [-sum(t * np.log(softmax(s))) for s, t in zip(np.asarray(student), np.asarray(targets))]


def cs_kd(student, pair, target, temperature, weight):
    return ce(student, target).mean() + weight * kd(student, pair, temperature).mean()


def dlb(student, target, previous, previous_target, recorded, temperature, weight):
    both = np.concatenate([ce(student, target), ce(previous, previous_target)])
    return both.mean() + weight * kd(previous, recorded, temperature).mean()


# -- values at equality ---------------------------------------------------------------------------------------------------------


def entropy(logits, temperature=1.0):
    """T^2 times the entropy of each row."""
    log_p = (logits / temperature).log_softmax(-1)
    return -temperature**2 * (log_p.exp() * log_p).sum(-1)


def one_kl_epsilon(arguments):
    """1e-7 on the ensemble's probabilities alone."""
    log_p = (arguments["student"] / 3).log_softmax(-1)
    more = log_p.exp() + 1e-7
    return 9 * (more * (more.log() - log_p)).sum(-1)


def mean_ce(*names, factor=1.0):
    return lambda a: factor * torch.cat([functional.cross_entropy(a[logits], a[labels]) for logits, labels in names]).mean()


def ps_kd_equality(arguments):
    student = arguments["student"]
    return 0.4 * functional.cross_entropy(student, arguments["target"]) + 0.6 * entropy(student)


SPECS = [
    Spec("ensemble_logits", ensemble_logits, inputs(first=_LOGITS, second=_LOGITS, third=_LOGITS, gate=normal(5, 3)), ensemble_reference,
         ("first", "first"), ("second", "third"), equality=lambda a: a["first"] * a["gate"].sum(1, keepdim=True), skips={"mask": TARGET}),
    Spec("one_kl", functional.one_kl, _ENSEMBLE, lambda student, ensemble, **o: kd(student, ensemble, **o), teacher=("ensemble",),
         options={"temperature": 2.0}),
    Spec("one_kl/epsilon", functional.one_kl, _ENSEMBLE, lambda student, ensemble, **o: kd(student, ensemble, **o), teacher=("ensemble",),
         options={"temperature": 3.0, "epsilon": 1e-7}, equality=one_kl_epsilon),
    Spec("byot_kd", functional.byot_kd, _EXIT, lambda student, deepest, **o: kd(student, deepest, **o), teacher=("deepest",),
         options={"temperature": 2.0}),
    Spec("byot_kd/cross-entropy", functional.byot_kd, _EXIT, lambda student, deepest, **o: kd(student, deepest, **o), teacher=("deepest",),
         options={"temperature": 3.0, "entropy": False}, equality=lambda a: entropy(a["student"], 3.0)),
    *(Spec(f"byot_feature/{name}", functional.byot_feature, inputs(student=normal(5, 3, 2, 2), deepest=normal(5, 3, 2, 2)), byot_feature,
           teacher=("deepest",), options={"positive_only": positive_only}) for name, positive_only in (("all", False), ("positive", True))),
    Spec("byot", byot, inputs(deepest=_LOGITS, first=_LOGITS, second=_LOGITS, target=classes(5, 7), deepest_feature=normal(5, 4),
                              first_feature=normal(5, 4), second_feature=normal(5, 4)), byot_reference,
         ("first", "first", "first_feature", "first_feature"), ("second", "deepest", "second_feature", "deepest_feature"),
         {"temperature": 2.0, "kd_weight": 0.3, "feature_weight": 0.1}, equality=mean_ce(("first", "target"), factor=2.4), rows=False,
         wrong=longer("second"), skips={"mask": WHOLE}),
    Spec("ps_kd_targets", functional.ps_kd_targets, _REMEMBERED, ps_kd_targets, ("previous",), ("previous",), {"alpha": 0.6, "detach": False},
         equality=lambda a: torch.tensor(ps_kd_targets(**a, alpha=0.6), dtype=torch.float64),
         wrong=lambda a: {**a, "target": a["target"][:3]}, skips={"mask": TARGET}),
    Spec("ps_kd", ps_kd, inputs(student=_LOGITS, previous=_LOGITS, target=classes(5, 7)), ps_kd_reference, teacher=("previous",),
         options={"alpha": 0.6}, equality=ps_kd_equality),
    Spec("cs_kd_kl", functional.cs_kd_kl, inputs(student=_LOGITS, pair=_LOGITS), lambda student, pair, **o: kd(student, pair, **o),
         teacher=("pair",), options={"temperature": 4.0}),
    Spec("cs_kd", total(functional.cs_kd), inputs(student=_LOGITS, pair=_LOGITS, target=classes(5, 7)), cs_kd, teacher=("pair",),
         options={"temperature": 4.0, "weight": 0.5}, equality=mean_ce(("student", "target")), rows=False, skips={"mask": WHOLE}),
    Spec("dlb", total(functional.dlb),
         inputs(student=_LOGITS, target=classes(5, 7), previous=_LOGITS, previous_target=classes(5, 7), recorded=_LOGITS), dlb,
         ("previous",), ("recorded",), {"temperature": 3.0, "weight": 0.5},
         equality=mean_ce(("student", "target"), ("previous", "previous_target")), rows=False, skips={"mask": WHOLE}),
]
