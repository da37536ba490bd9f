"""Pieces that strategies compose: peers, branches and exits, what a network remembers."""

import torch

from kdlab import functional


def _others(networks, number):
    return networks[:number] + networks[number + 1:]


def oad_dml_loss(case):
    networks = case.several("logits_")
    rows, classes = networks[0].shape
    values = [functional.mutual_kl(z, _others(networks, number), case.hyper["temp"], detach=False) for number, z in enumerate(networks)]
    return sum(functional.reduce(value, normaliser=rows * rows * classes) for value in values)


def pskd(case):
    epoch, target = case.hyper["epoch"], case["target"]
    alpha = functional.ps_kd_alpha(epoch, case.hyper["end_epoch"], case.hyper["alpha_T"])
    seen = torch.full(target.shape, epoch > 0)
    targets = functional.ps_kd_targets(case["previous_probs"], target, alpha, seen=seen)
    return functional.ps_kd(case["student_logits"], case["previous_probs"], target, alpha, seen=seen, reduction="mean"), {"soft_targets": targets}


def cskd_kl(case):
    return functional.cs_kd_kl(case["logits"], case["pair_logits"], case.hyper["temp"], reduction="mean")


def cskd_total(case):
    return functional.cs_kd(case["logits"], case["pair_logits"], case["target"], case.hyper["temp"], case.hyper["lamda"]).total()


def dlb(case):
    terms = functional.dlb(case["logits_current"], case["target_current"], case["logits_previous_view2"], case["target_previous"],
                           case["logits_previous_recorded"], case.hyper["T"], case.hyper["alpha"])
    return terms.total(), {"ce_first_iteration": functional.dlb(case["logits_previous_recorded"], case["target_previous"]).total()}


def byot(case):
    alpha = case.hyper["alpha"]
    exits = case.several("logits_")
    terms = functional.byot(case["logits_final"], exits, case["target"], case["feature_final"], case.several("feature_"), case.hyper["temperature"],
                            alpha, case.hyper["beta"], 1 - alpha, entropy=False, positive_only=True, feature_reduction="sum")
    parts = {name: torch.stack([terms.sum_of(f"{name}_{number}") for number in range(len(exits))]) for name in ("kd", "feature")}
    return terms.total(), parts


_MAPPINGS = (oad_dml_loss, pskd, cskd_kl, cskd_total, dlb, byot)
ENTRIES = {mapping.__name__: mapping for mapping in _MAPPINGS}
