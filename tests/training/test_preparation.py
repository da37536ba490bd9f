"""Preparing a strategy that was put together by hand."""

import pytest
import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.losses import HintonKD
from kdlab.objective import Objective
from kdlab.outputs import Outputs
from kdlab.strategies import Offline
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.tasks import Classification
from kdlab.teachers import Frozen, Teacher
from kdlab.training.preparation import prepare

BATCH = Batch(
    torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0]), torch.arange(4)
)
TASK = Classification(3)


class Answers(Teacher):
    """A teacher of one's own: it defines teach alone."""

    def teach(self, batch):
        return Outputs(torch.ones(len(batch), 3))


def strategy(teacher):
    return Offline(
        student=nn.Linear(2, 3),
        teacher=teacher,
        objective=Objective({"kd": HintonKD()}, {"kd": 1.0}),
        task=TASK,
        optimization=OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=0.1)),
    )


@pytest.mark.parametrize("teacher", [Answers(), Frozen(nn.Linear(2, 3), TASK)])
def test_a_teacher_of_ones_own_is_prepared(teacher):
    made = strategy(teacher)
    assert prepare(made, BATCH, 4, BATCH.target) == []
    assert made.distill(BATCH).loss.total.isfinite()


@pytest.mark.parametrize("teacher", [nn.Linear(2, 3), "runs/a"])
def test_what_is_no_teacher_is_refused(teacher):
    name = type(teacher).__name__
    with pytest.raises(InputError, match=rf"teacher: {name} is no kdlab.teachers.Teacher; a network becomes one with"):
        prepare(strategy(teacher), BATCH, 4, BATCH.target)
