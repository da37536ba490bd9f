"""Online and self-distillation through the strategies themselves: networks that answer with the case's logits, and one step of ``distill``."""

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.losses import CrossEntropy, MutualKL
from kdlab.objective import Objective
from kdlab.strategies import Online
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


_MAPPINGS = (dml_kl, dml_total)
ENTRIES = {mapping.__name__: mapping for mapping in _MAPPINGS}
