"""Tokens as rows: the numbers by hand, and runs whose curve does not depend on how the tokens are batched."""

import csv
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import kdlab
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.outputs import LazyLogits, Outputs
from kdlab.tasks import MaskedLM, TokenClassification
from tests.tasks.tagging import CONFIG

LOGITS = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [5.0, 5.0]], [[0.0, 3.0], [1.0, 0.0], [0.0, 0.5]]])
TARGET = torch.tensor([[0, 0, -100], [1, -100, 1]])
BATCH = Batch({"words": TARGET}, TARGET, torch.tensor([7, 9]))


def test_rows_are_the_labelled_tokens():
    task = TokenClassification(2)
    rows, outputs = task.align_batch(BATCH), task.align(Outputs(LOGITS), BATCH)
    assert rows.target.tolist() == [0, 0, 1, 1] and rows.index.tolist() == [7, 7, 9, 9]
    assert outputs.logits.tolist() == [[2, 0], [0, 1], [0, 3], [0, 0.5]]
    assert task.row_counts(TARGET).tolist() == [2, 2]


def test_logits_that_are_not_computed_stay_so_and_only_the_rows_are_computed():
    asked = []
    lazy = LazyLogits(LOGITS, lambda hidden: asked.append(len(hidden)) or 2 * hidden)
    outputs = MaskedLM(2).align(Outputs(lazy), BATCH)
    assert outputs.is_lazy and not asked
    assert outputs.logits.tolist() == [[4, 0], [0, 2], [0, 6], [0, 1]] and asked == [4]


def test_scores_by_hand():
    task = TokenClassification(2)
    rows, outputs = task.align_batch(BATCH), task.align(Outputs(LOGITS), BATCH)
    # predicted 0 1 1 1, labels 0 0 1 1: F1 of class 0 is 2/3, of class 1 it is 4/5
    nll = sum(math.log(1 + math.exp(-margin)) for margin in (2, -1, 3, 0.5)) / 4
    assert task.score(outputs.logits, rows.target) == pytest.approx(
        {"f1": (2 / 3 + 4 / 5) / 2, "accuracy": 0.75, "nll": nll}
    )
    masked = MaskedLM(2).score(outputs.logits, rows.target)
    assert masked == pytest.approx({"nll": nll, "perplexity": math.exp(nll), "accuracy": 0.75})
    kept = MaskedLM(2).predictions(outputs, rows)
    assert kept["predicted"].tolist() == [0, 1, 1, 1]
    assert -kept["target_log_probability"].mean().item() == pytest.approx(nll)
    assert MaskedLM(2).headline.name == "nll" and not MaskedLM(2).headline.higher_is_better


def test_what_is_refused():
    task = TokenClassification(2)
    task.check_labels(TARGET)
    with pytest.raises(InputError, match="labels from 0 to 1, or -100 .* from 0 to 2"):
        task.check_labels(torch.tensor([[0, 2]]))
    with pytest.raises(InputError, match=r"a label for each token, of shape \(samples, tokens\), .* \(2,\)"):
        task.align_batch(BATCH.replace(target=torch.tensor([0, 1])))
    with pytest.raises(InputError, match=r"answered to \(2, 2\) tokens .* labels are of \(2, 3\)"):
        task.align(Outputs(LOGITS[:, :2]), BATCH)
    flat = BATCH.replace(inputs={"input": torch.ones(2, 3)})
    with pytest.raises(InputError, match=r"Linear must answer with .* \(samples, tokens, classes\), got \(2, 4\)"):
        task.network_outputs(nn.Linear(3, 4), flat)
    answer = SimpleNamespace(logits=LOGITS)
    found = task.network_outputs(Says(answer), BATCH.replace(mask=torch.ones(2, 3)))
    assert found.logits is LOGITS and found.mask.shape == (2, 3)


class Says(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, words):
        return self.answer


GIVEN = [option for option in CONFIG if not option.startswith("task.")]
GIVEN += ["task=token_classification", "strategy=supervised", "teacher=none", "loss=[ce]", "trainer.max_epochs=3"]
GIVEN += ["optimizer=sgd", "optimizer.lr=0.1", "scheduler=none"]


def rows_of(run):
    with open(run.metrics_file) as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_a_run_learns_and_its_curve_does_not_depend_on_accumulation(workplace):
    curves = []
    for options in (["data.batch_size=12"], ["data.batch_size=4", "trainer.accumulate_grad_batches=3"]):
        run = kdlab.train([*GIVEN, *options])
        curves.append([[row["train/loss"], row["val/nll"], row["val/f1"]] for row in rows_of(run)])
    assert curves[0][-1][2] > curves[0][0][2] and curves[0][-1][1] < 0.2
    assert curves[0] == [pytest.approx(row, abs=1e-4) for row in curves[1]]
