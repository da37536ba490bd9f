import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.outputs import Outputs
from kdlab.tasks import Classification

TASK = Classification(3)


def batch(rows=4, **more):
    return Batch(torch.ones(rows, 2), torch.arange(rows) % 3, torch.arange(rows) + 10, **more)


def predictions(rows=50):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, 3, generator=generator) * 2, torch.randint(0, 3, (rows,), generator=generator)


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


def test_a_network_answers_with_logits_or_with_something_that_has_them():
    for answer in (lambda x: x * 2, lambda x: SimpleNamespace(logits=x * 2)):
        outputs = TASK.network_outputs(Answers(answer), batch())
        assert torch.equal(outputs.logits, torch.full((4, 2), 2.0)) and outputs.features == {}


def test_further_views():
    given = batch(further_views=(torch.full((4, 2), 5.0), torch.full((4, 2), 6.0)))
    assert [TASK.network_outputs(nn.Identity(), given, view=number).logits.unique().item() for number in (1, 2)] == [
        5.0,
        6.0,
    ]
    assert TASK.network_outputs(nn.Identity(), given).logits.unique().tolist() == [1.0]


@pytest.mark.parametrize(
    "answer, said",
    [
        (lambda x: x[:, None], r"\(4, 1, 2\)"),
        (lambda x: x[:, 0], r"\(4,\)"),
        (lambda x: (x, x), "tuple"),
        (lambda x: {"logits": x}, "dict"),
        (lambda x: None, "NoneType"),
    ],
)
def test_any_other_answer_is_refused_and_shown(answer, said):
    with pytest.raises(InputError, match=f"Answers.*{said}"):
        TASK.network_outputs(Answers(answer), batch())


def test_rows_are_samples_that_all_count_the_same():
    given, outputs = batch(normaliser=2.5, epoch=3), Outputs(torch.ones(4, 3))
    rows = TASK.align_batch(given)
    assert TASK.align(outputs, given) is outputs
    assert rows.weights is None
    assert rows.target is given.target and rows.index is given.index and (rows.normaliser, rows.epoch) == (2.5, 3)


def slow_scores(logits, target):
    right, nll, bins = 0, [], {}
    for row, label in zip(logits.double().softmax(1).tolist(), target.tolist()):
        hit = row.index(max(row)) == label
        right += hit
        nll.append(-math.log(row[label]))
        bins.setdefault(min(math.ceil(max(row) * 15) - 1, 14), []).append((max(row), hit))
    ece = sum(abs(sum(c for c, _ in rows) - sum(h for _, h in rows)) for rows in bins.values()) / len(nll)
    return {"accuracy": right / len(nll), "nll": math.fsum(nll) / len(nll), "ece": ece}


@pytest.mark.parametrize("squashed", [False, True])
def test_score(squashed):
    logits, target = predictions()
    if squashed:  # logits between 0 and 1 look like probabilities, but are none
        logits = logits.sigmoid()
    score = TASK.score(logits, target)
    assert score == pytest.approx(slow_scores(logits, target), abs=1e-6) and all(
        isinstance(value, float) for value in score.values()
    )


def test_metrics_of_unequal_batches_are_those_of_the_whole():
    logits, target = predictions()
    metrics = TASK.metrics()
    for rows in (slice(0, 33), slice(33, 50)):
        metrics.update(logits[rows], target[rows])
    values, slow = {name: value.item() for name, value in metrics.compute().items()}, slow_scores(logits, target)
    assert values == pytest.approx({"accuracy": slow["accuracy"], "nll": slow["nll"]}, abs=1e-6)
    metrics.reset()
    metrics.update(torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([0]))
    assert metrics.compute()["accuracy"].item() == 1.0


def test_a_network_that_diverged_has_no_likelihood():
    # rows of nan must not be dropped from the mean in silence
    metrics = TASK.metrics()
    metrics.update(torch.tensor([[1.0, 0.0, 0.0], [float("nan")] * 3]), torch.tensor([0, 1]))
    assert metrics.compute()["nll"].isnan()


def test_the_best_checkpoint_is_chosen_by_something_that_is_measured():
    assert TASK.headline.name in TASK.metrics() and TASK.headline.higher_is_better


def test_chance():
    """Naming the most frequent class is what knowing nothing of the inputs can do."""
    task = Classification(3)
    target = torch.tensor([0] * 60 + [1] * 30 + [2] * 30)
    always_first = torch.nn.functional.one_hot(torch.zeros_like(target), 3).float()
    right = torch.nn.functional.one_hot(target, 3).float()
    wrong = torch.nn.functional.one_hot((target + 1) % 3, 3).float()

    def p_value(logits):
        test = task.chance()
        for part in torch.arange(120).split(50):
            test.update(logits[part], target[part])
        assert test.least_p_value() < 1e-9 and test.rows == 120
        return test.p_value()

    assert p_value(always_first) > 0.4 and p_value(right) < 1e-9 and p_value(wrong) == 1.0


def test_further_metrics_by_hand():
    """Predicted 0 1 1 0 1, labels 0 1 0 1 1: of class 1, 2 of 3 are found and 2 of 3 are right."""
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    target = torch.tensor([0, 1, 0, 1, 1])
    task = Classification(2, measured=["mcc", "f1"])
    found = task.score(logits, target)
    assert list(found)[:3] == ["mcc", "f1", "accuracy"] and task.headline.name == "mcc"
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["mcc"] == pytest.approx((2 * 1 - 1 * 1) / (3 * 3 * 2 * 2) ** 0.5)
    three = Classification(3, measured=["f1"]).score(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 1, 2]))
    assert three["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert "f1" not in Classification(2).score(logits, target)
    with pytest.raises(InputError, match="has no metric 'mmc'; did you mean 'mcc'"):
        Classification(2, measured=["mmc"])
    with pytest.raises(InputError, match="ece is measured on test only"):
        Classification(2, measured=["ece"])


@pytest.mark.parametrize(
    "predicted, target",
    [([1] * 10, [1] * 6 + [0] * 4), ([0] * 10, [1] * 6 + [0] * 4), ([1, 0, 1, 1], [1] * 4), ([0, 0], [1, 1])],
)
def test_the_matthews_correlation_of_one_class_is_0(predicted, target):
    """torchmetrics gives 0.13, -0.13, 0.58 and -1."""
    found = Classification(2, measured=["mcc"]).score(torch.eye(2)[predicted], torch.tensor(target))
    assert found["mcc"] == 0.0
