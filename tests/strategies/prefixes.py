"""Language models with a table of logits for every beginning of an answer of three tokens, out of five words."""

import itertools

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.objective import Objective
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.tasks import CausalLM
from kdlab.teachers import Frozen
from kdlab.training.preparation import prepare

WORDS, LENGTH = 5, 3
STRINGS = torch.tensor(list(itertools.product(range(WORDS), repeat=LENGTH)))


class Prefixes(nn.Module):
    """The prompt is one token, which does not count. Logits ``(B, T, 5)``, float64."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        tables = [torch.randn(WORDS**depth, WORDS, generator=generator, dtype=torch.float64) for depth in range(LENGTH)]
        self.tables = nn.ParameterList(nn.Parameter(table) for table in tables)

    def forward(self, input_ids, attention_mask=None):
        code, found = torch.zeros_like(input_ids[:, 0]), []
        for place in range(input_ids.shape[1]):
            if place:
                code = code * WORDS + input_ids[:, place]
            known = place < LENGTH  # what follows the third token is never read
            table = self.tables[place] if known else torch.zeros(1, WORDS, dtype=torch.float64)
            found.append(table[code if known else torch.zeros_like(code)])
        return torch.stack(found, 1)


def probabilities(model):
    """Of each string ``(125,)``, and of each token of it given those before ``(125, 3, 5)``, as logarithms."""
    logs = model(torch.cat([torch.zeros(len(STRINGS), 1, dtype=torch.long), STRINGS], 1))[:, :-1].log_softmax(-1)
    return logs.gather(2, STRINGS[:, :, None])[:, :, 0].sum(1), logs


def texts(strings):
    """A batch of prompts with these answers."""
    ids = torch.cat([torch.zeros(len(strings), 1, dtype=torch.long), strings], 1)
    labels = ids.clone()
    labels[:, 0] = -100
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    mask = torch.ones(ids.shape, dtype=torch.float64)
    return Batch(inputs, labels, torch.arange(len(ids)), mask=mask, normaliser=float(3 * len(ids)))


def made(kind, terms, batch, student=None, teacher=None, **options):
    """A strategy as a run has it, in train mode."""
    task = CausalLM(WORDS)
    weights = dict.fromkeys(terms, 1.0)
    strategy = kind(
        student=student or Prefixes(1),
        teacher=Frozen(teacher, task) if teacher is not None else None,
        objective=Objective(terms, weights),
        task=task,
        optimization=OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=0.1)),
        **{"longest": LENGTH, **options},
    )
    prepare(strategy, batch, len(batch), batch.target)
    return strategy.train()
