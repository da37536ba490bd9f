"""Online and self-distillation through the strategies themselves: networks that answer with the case's logits, and one step of ``distill``."""

from collections import OrderedDict

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.losses import CrossEntropy, HintonKD, MutualKL, OneKL
from kdlab.objective import Objective
from kdlab.schedules import RampUp
from kdlab.strategies import Collaborative, NativeEnsemble, Online
from kdlab.strategies.cohort import Peer
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.strategies.preparation import prepare
from kdlab.tasks import Classification


class Says(nn.Module):
    """A network whose inputs are the numbers of the samples, and which answers with the case's logits of those."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits            # a plain attribute: the gradient is that of the case's own tensor

    def forward(self, index):
        return self.logits[index]


def batch_of(target, epoch=0):
    index = torch.arange(len(target))
    return Batch(index, target, index, epoch=epoch)


def strategy_of(kind, student, terms, weights, target, *, teacher=None, prepared=True, **options):
    """A strategy as a run has it, ready for a step on ``batch_of(target)``."""
    recipe = OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=0.1))
    made = kind(student=student, teacher=teacher, objective=Objective(terms, weights), task=Classification(int(target.max()) + 1),
                optimization=recipe, **options)
    made.task.classes = None            # logits of a case may have more classes than its labels show
    if prepared:
        prepare(made, batch_of(target), len(target), target)
    return made.double().train()


def dml_kl(case):
    """The student's loss of the pair: the peer's part of the sum is 0, since it has no other weights than the student's."""
    terms, weights = {"mutual_kl": MutualKL(case.hyper["temperature"], epsilon=case.hyper["eps"])}, {"mutual_kl": 1.0}
    online = strategy_of(Online, Says(case["logits_self"]), terms, weights, torch.zeros(len(case["logits_self"]), dtype=torch.long),
                         peers={"peer": Peer(Says(case["logits_peer"]))}, update="alternating", teachers="sum")
    return online.distill(batch_of(torch.zeros(len(case["logits_self"]), dtype=torch.long))).loss.total


def dml_total(case):
    """The authors update one network after the other: the first one's turn."""
    student, *peers = case.several("logits_")
    terms, weights = {"ce": CrossEntropy(), "mutual_kl": MutualKL(epsilon=1e-8)}, {"ce": 1.0, "mutual_kl": 1.0}
    online = strategy_of(Online, Says(student), terms, weights, case["target"], teachers="sum", update="alternating",
                         peers={f"peer{number}": Peer(Says(logits)) for number, logits in enumerate(peers)})
    return online.distill(batch_of(case["target"])).loss.total


def _cohort(kind, case, terms, weights, **options):
    """The case's networks under a strategy, the first of them as the student."""
    student, *peers = case.several("logits_")
    named = {f"peer{number}": Peer(Says(logits)) for number, logits in enumerate(peers, start=2)}
    return strategy_of(kind, Says(student), terms, weights, case["target"], peers=named, **options)


def kdcl_mean(case):
    alpha = case.hyper["alpha"]
    strategy = _cohort(Collaborative, case, {"ce": CrossEntropy(), "kd": HintonKD(case.hyper["T"])}, {"ce": 1 - alpha, "kd": alpha}, rule="mean")
    loss = strategy.distill(batch_of(case["target"])).loss
    each = [(1 - alpha) * loss.parts[f"ce_{name}"] + alpha * loss.parts[f"kd_{name}"] for name in strategy.networks()]
    return loss.total, {"loss_per_net": torch.stack(each)}


def _graph(kind, case, **options):
    """OnlineDistillGCN: no cross-entropy inside; the sum over rows is divided by B * B * C."""
    rows, classes = case.several("logits_")[0].shape
    strategy = _cohort(kind, case, {"kd": HintonKD(case.hyper["temp"])}, {"kd": 1.0}, **options)
    return strategy.distill(batch_of(case["target"]).replace(normaliser=rows * rows * classes))


def kdcl_naive_loss(case):
    """There the chosen network is left out of the sum: what it learns from itself is 0, and so is the gradient."""
    return _graph(Collaborative, case, rule="naive").loss.total


def kdcl_minlogit(case):
    step = _graph(Collaborative, case, rule="min_logit")
    return step.loss.total, {"target_logits": step.outputs["target"].logits}


def oad_co_distill_loss(case):
    return _graph(Online, case, teachers="mean_logits").loss.total


class _Answers(nn.Module):
    """What lies behind the split: the case's logits, whatever the shared feature is."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, shared):
        return self.logits


def _branched(shared, branches, target, terms, weights):
    """ONE on a stem that gives the shared feature, and branches that give the case's logits."""
    student, *peers = [nn.Sequential(OrderedDict(stage1=Says(shared), head=_Answers(logits))) for logits in branches]
    return strategy_of(NativeEnsemble, student, terms, weights, target, peers={f"peer{number}": Peer(peer) for number, peer in enumerate(peers)})


def one_kl(case):
    """A gate of equal shares, and a second branch that makes the ensemble the case's; it does not learn itself."""
    student, ensemble = case["student_logits"], case["ensemble_logits"]
    target = torch.zeros(len(student), dtype=torch.long)
    terms = {"ce": CrossEntropy(), "one_kl": OneKL(case.hyper["temperature"], case.hyper["eps"])}
    shared, branches = torch.zeros(len(student), 1, dtype=torch.float64), [student, (2 * ensemble - student).detach()]
    strategy = _branched(shared, branches, target, terms, {"ce": 0.0, "one_kl": 1.0})
    strategy.gate.linear.weight.data.zero_()
    strategy.objectives["branch2"].weights["one_kl"] = 0.0
    return strategy.distill(batch_of(target)).loss.total


def one_total(case):
    epsilon, temperature = case.hyper.get("eps", 1e-7), case.hyper.get("temperature", 3.0)
    terms, rising = {"ce": CrossEntropy(), "one_kl": OneKL(temperature, epsilon)}, RampUp(end=1.0, epochs=case.hyper["consistency_rampup"])
    weight = rising(case.hyper["epoch"])
    strategy = _branched(case["gate_feature"], case.several("logits_"), case["target"], terms, {"ce": 1.0, "one_kl": weight})
    case.put("gate_weight", strategy.gate.linear.weight)
    case.put("gate_bias", strategy.gate.linear.bias)
    step = strategy.distill(batch_of(case["target"]))
    cross = sum(value for name, value in step.loss.parts.items() if name.startswith("ce_"))
    return step.loss.total, {"gate": strategy.gate(case["gate_feature"]), "ensemble_logits": step.outputs["ensemble"].logits,
                             "consistency_weight": torch.tensor(weight, dtype=torch.float64), "loss_cross": cross}


_MAPPINGS = (dml_kl, dml_total, kdcl_mean, kdcl_naive_loss, kdcl_minlogit, oad_co_distill_loss, one_kl, one_total)
ENTRIES = {mapping.__name__: mapping for mapping in _MAPPINGS}
