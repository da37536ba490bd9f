"""Pieces that strategies compose: peers and branches."""

import torch

from kdlab import functional
from kdlab.models.gate import BranchGate


def _others(networks, number):
    return networks[:number] + networks[number + 1:]


def kdcl_mean(case):
    networks, alpha = case.several("logits_"), case.hyper["alpha"]
    soft = functional.kdcl_mean(networks)
    losses = torch.stack([functional.collaborative(z, soft, case["target"], case.hyper["T"], alpha, 1 - alpha).total() for z in networks])
    return losses.sum(), {"loss_per_net": losses}


def _graph(case, networks, soft_targets):
    """OnlineDistillGCN: no cross-entropy inside; the sum over rows is divided by B * B * C."""
    rows, classes = networks[0].shape
    terms = [functional.collaborative(z, soft, case["target"], case.hyper["temp"], ce_weight=0.0) for z, soft in zip(networks, soft_targets)]
    return sum(term.total(normaliser=rows * rows * classes) for term in terms)


def kdcl_naive_loss(case):
    networks = case.several("logits_")
    return _graph(case, networks, [functional.kdcl_naive(networks, case["target"])] * len(networks))


def kdcl_minlogit(case):
    networks = case.several("logits_")
    soft = functional.kdcl_min_logit(networks, case["target"])
    return _graph(case, networks, [soft] * len(networks)), {"target_logits": soft}


def oad_co_distill_loss(case):
    networks = case.several("logits_")
    return _graph(case, networks, functional.codistillation_targets(networks))


def oad_dml_loss(case):
    networks = case.several("logits_")
    rows, classes = networks[0].shape
    values = [functional.mutual_kl(z, _others(networks, number), case.hyper["temp"], detach=False) for number, z in enumerate(networks)]
    return sum(functional.reduce(value, normaliser=rows * rows * classes) for value in values)


def one_kl(case):
    return functional.one_kl(case["student_logits"], case["ensemble_logits"], case.hyper["temperature"], epsilon=case.hyper["eps"], reduction="mean")


def one_total(case):
    branches = case.several("logits_")
    gate = BranchGate(case["gate_feature"].shape[1], len(branches)).double().train()
    case.put("gate_weight", gate.linear.weight)
    case.put("gate_bias", gate.linear.bias)
    shares = gate(case["gate_feature"])
    weight = functional.ramp_up(case.hyper["epoch"], case.hyper["consistency_rampup"])
    terms = functional.one(branches, shares, case["target"], case.hyper.get("temperature", 3.0), weight, epsilon=case.hyper.get("eps", 1e-7))
    return terms.total(), {"gate": shares, "ensemble_logits": functional.ensemble_logits(branches, shares),
                           "consistency_weight": torch.tensor(weight, dtype=torch.float64), "loss_cross": terms.sum_of("ce_")}


_MAPPINGS = (kdcl_mean, kdcl_naive_loss, kdcl_minlogit, oad_co_distill_loss, oad_dml_loss, one_kl, one_total)
ENTRIES = {mapping.__name__: mapping for mapping in _MAPPINGS}
