"""Small cohorts without a run, for numbers that are computed by hand."""

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.losses import CrossEntropy, HintonKD
from kdlab.objective import Objective
from kdlab.strategies.cohort import Peer
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.tasks import Classification
from kdlab.training.preparation import prepare

CLASSES, FEATURES = 3, 4


def linear(seed):
    """A network of one layer, in double precision."""
    torch.manual_seed(seed)
    return nn.Linear(FEATURES, CLASSES).double()


def some(rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(rows)
    return Batch(
        torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64),
        torch.randint(CLASSES, (rows,), generator=generator),
        index,
    )


def cohort(kind, networks, terms=None, weights=None, batch=None, **options):
    """A prepared strategy of these networks, the first of them the student; by default with cross-entropy (0.3) and KD
    of temperature 2 (0.7)."""
    student, *peers = networks
    options = {"peers": {f"peer{number}": Peer(peer) for number, peer in enumerate(peers, start=2)}, **options}
    terms = terms or {"ce": CrossEntropy(), "kd": HintonKD(2.0)}
    objective = Objective(terms, weights or {"ce": 0.3, "kd": 0.7})
    recipe = OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=0.1))
    batch = batch or some()
    made = kind(
        student=student, teacher=None, objective=objective, task=Classification(CLASSES), optimization=recipe, **options
    )
    prepare(made, batch, len(batch), batch.target)
    return made.double().train()


def kl(teacher, student, temperature=2.0):
    """T^2 KL, the mean over rows, by torch's own function."""
    p, q = (teacher.detach() / temperature).log_softmax(-1), (student / temperature).log_softmax(-1)
    return temperature**2 * nn.functional.kl_div(q, p, reduction="batchmean", log_target=True)


def ce(logits, batch):
    return nn.functional.cross_entropy(logits, batch.target)


def gradients(network, loss):
    return torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
