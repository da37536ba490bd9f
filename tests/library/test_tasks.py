"""kdlab.distill for other tasks than classification."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import kdlab
from kdlab.errors import InputError
from kdlab.tasks import Regression
from kdlab.teachers import Ensemble, Frozen

QUIET = dict(epochs=20, progress="none", lr=0.05, scheduler=None)


def loader(target, start, stop):
    return DataLoader(TensorDataset(X[start:stop], target[start:stop]), batch_size=32)


torch.manual_seed(3)
X = torch.randn(240, 5)
VALUES = X @ torch.tensor([[1.0], [-2.0], [0.5], [0.0], [0.3]]) + 0.05 * torch.randn(240, 1)
LABELS = (X[:, :3] > 0).float()


class Exact(nn.Module):
    """Knows the weights."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        return x @ self.weights


@pytest.mark.parametrize("task", ["regression", Regression(1)], ids=["name", "object"])
def test_values(task):
    torch.manual_seed(0)
    teacher = Exact(torch.tensor([[1.0], [-2.0], [0.5], [0.0], [0.3]]))
    made = kdlab.distill(
        nn.Linear(5, 1),
        teacher,
        loader(VALUES, 0, 160),
        loader(VALUES, 160, 200),
        loader(VALUES, 200, 240),
        task=task,
        **QUIET,
    )
    assert list(made.strategy.objective.terms) == ["mse", "logit_mse"]
    assert made.metrics["test/mse"] < 0.02 and made.metrics["test/r2"] > 0.99
    assert made.metrics["test/mse_to_teacher"] < 0.01 and "test/mse" in repr(made)
    assert made.record["task"]["name"] == "regression"


def test_labels():
    torch.manual_seed(0)
    teacher = Exact(torch.cat([4 * torch.eye(3), torch.zeros(2, 3)]))
    made = kdlab.distill(
        nn.Linear(5, 3), teacher, loader(LABELS, 0, 160), loader(LABELS, 160, 240), task="multilabel", **QUIET
    )
    assert list(made.strategy.objective.terms) == ["bce", "sigmoid_kd"]
    assert made.metrics["val/accuracy"] > 0.9 and made.metrics["val/exact_match"] > 0.75


def test_supervised_learns_from_labels_alone():
    made = kdlab.distill(
        nn.Linear(5, 1), None, loader(VALUES, 0, 160), task="regression", strategy="supervised", **QUIET
    )
    assert list(made.strategy.objective.terms) == ["mse"] and made.curve[-1]["train/loss"] < 0.1


@pytest.mark.parametrize(
    "options, said",
    [
        (dict(task="regresion"), "task must be one of .*regression.*did you mean 'regression'"),
        (
            dict(task="regression", loss=["ce", "kd"]),
            'HintonKD is for classes, and with task="regression" a network answers with values; for example '
            r'loss=\["mse", "logit_mse"\]',
        ),
        (dict(), 'for numbers give task="regression"'),
    ],
)
def test_refusals(options, said):
    teacher = Exact(torch.ones(5, 1))
    with pytest.raises(InputError, match=said):
        kdlab.distill(nn.Linear(5, 1), teacher, loader(VALUES, 0, 160), **options, **QUIET)


def test_an_ensemble_that_averages_probabilities_is_named_as_it_is_made():
    networks = [Frozen(Exact(torch.ones(5, 1)), Regression(1)) for _ in range(2)]
    teacher = Ensemble({"a": networks[0], "b": networks[1]}, "probabilities")
    with pytest.raises(
        InputError,
        match=r'^Ensemble\(…, average="probabilities"\) is for classes, and here a network answers with values; '
        r'Ensemble\(…, average="logits"\) averages the answers themselves$',
    ):
        kdlab.distill(nn.Linear(5, 1), teacher, loader(VALUES, 0, 160), task="regression", **QUIET)


def test_two_tasks_are_two_runs(workplace):
    options = dict(loss=["logit_mse"], directory="d", name="a", **QUIET)
    teacher = Exact(torch.cat([4 * torch.eye(3), torch.zeros(2, 3)]))
    kdlab.distill(
        nn.Linear(5, 3), teacher, loader(LABELS, 0, 160), loader(LABELS, 160, 240), task="multilabel", **options
    )
    with pytest.raises(InputError, match="d"):
        kdlab.distill(
            nn.Linear(5, 3), teacher, loader(LABELS, 0, 160), loader(LABELS, 160, 240), task="regression", **options
        )


def test_steps_are_refused():
    with pytest.raises(InputError, match="max_steps.*epochs="):
        kdlab.distill(
            nn.Linear(5, 1),
            None,
            loader(VALUES, 0, 160),
            task="regression",
            strategy="supervised",
            trainer={"max_steps": 3},
            **QUIET,
        )


@pytest.mark.parametrize("place", [0, -1], ids=["first batch", "later batch"])
def test_labels_of_another_kind_are_named_with_their_loader(place):
    wrong = LABELS.clone()
    wrong[place, 0] = 2.0
    with pytest.raises(
        InputError, match='^train: task="multilabel" needs targets that are 0 or 1, one for each label$'
    ):
        kdlab.distill(
            nn.Linear(5, 3),
            None,
            loader(wrong, 0, 240),
            task="multilabel",
            strategy="supervised",
            **{**QUIET, "epochs": 1},
        )
