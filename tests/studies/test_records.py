"""The records of a study's runs: what their predictions give, and whose rows they are. Of a run that nobody trained."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from kdlab.errors import InputError
from kdlab.studies import records
from kdlab.studies.records import gathered, row_record
from kdlab.studies.study import Row
from kdlab.studies.training import Trained
from kdlab.tasks.metric import REGRESSION

from .synthetic import study

TARGET = torch.tensor([0, 0, 1, 2])
SAID = {
    "last": torch.tensor(
        [[2.0, 0.0, 1.0], [0.0, 1.0, 0.5], [0.0, 3.0, 0.0], [0.0, 0.5, 1.0]]
    ),  # 0 1 1 2: three of four are right
    "best": torch.tensor([[2.0, 0.0, 1.0], [3.0, 1.0, 0.5], [0.0, 3.0, 0.0], [0.0, 0.5, 1.0]]),  # 0 0 1 2: all are
    "last.peer2": torch.tensor([[0.0, 1.0, 0.0]] * 4),  # 1 1 1 1
    "best.peer2": torch.tensor([[0.0, 0.0, 1.0]] * 4),  # 2 2 2 2
    "target": TARGET,
}


@pytest.fixture
def record(tmp_path, monkeypatch):
    """The record of one run that stands in several rows."""
    monkeypatch.setattr(records, "config_digest", lambda config: "0")
    (tmp_path / "run.json").write_text("{}")
    kept = {
        "hash": "f",
        "status": "finished",
        "seed": 1,
        "metrics": {"test/accuracy": 0.75, "test/accuracy_best": 1.0, "val/accuracy": 0.5},
        "network_parameters": {"student": 10, "peer2": 20},
        "parameters": 10,
        "networks": {"student": {}, "peer2": {}},
    }
    run = SimpleNamespace(path=tmp_path, record=kept, predictions=lambda: SAID, config={"data": {"classes": 3}})

    def make(*rows):
        one = study([])
        one = replace(one, tables=(replace(one.tables[0], rows=rows),))
        (found,) = gathered(one, {row.run_overrides(1): Trained({"seed": 1}, "f", run) for row in rows})
        return found

    make.run = run
    return make


def test_a_bias_is_added_to_a_class_in_the_last_and_in_the_best_epoch(record):
    before = {name: value.clone() for name, value in SAID.items()}
    plain, raised, lowered = (
        Row("plain", ("a=1",), (1,)),
        Row("raised", ("a=1",), (1,), {1: 1.5}),
        Row("lowered", ("a=1",), (1,), {1: -2.75}),
    )
    found = record(plain, raised, lowered)
    assert found["class_recall"] == {
        "": {"last": [0.5, 1.0, 1.0], "best": [1.0, 1.0, 1.0]},
        "bias 1=1.5": {"last": [0.5, 1.0, 0.0], "best": [1.0, 1.0, 0.0]},
        "bias 1=-2.75": {"last": [0.5, 1.0, 1.0], "best": [1.0, 1.0, 1.0]},
    }
    views = {
        view: (metrics["test/accuracy"], metrics["test/accuracy_best"]) for view, metrics in found["views"].items()
    }
    assert views == {"bias 1=1.5": (0.5, 0.75), "bias 1=-2.75": (0.75, 1.0)}
    assert all(torch.equal(SAID[name], value) for name, value in before.items()), "the predictions stay as they are"
    shown = row_record(found, raised)["metrics"]
    assert (shown["test/accuracy"], shown["test/accuracy_best"], shown["val/accuracy"]) == (0.5, 0.75, 0.5)
    assert [shown[f"test/class_{number}"] for number in range(3)] == [0.5, 1.0, 0.0]
    assert (
        row_record(found, plain)["metrics"]["test/accuracy"] == 0.75
        and row_record(found, plain)["metrics"]["test/class_0_best"] == 1.0
    )


def test_a_row_of_another_network_has_that_networks_numbers(record):
    row = Row("other", ("a=1",), (1,), network="peer2")
    found = record(row)
    shown = row_record(found, row)
    assert found["class_recall"]["network=peer2"] == {"last": [0.0, 1.0, 0.0], "best": [0.0, 0.0, 1.0]}
    assert (
        shown["metrics"]["test/accuracy"] == shown["metrics"]["test/accuracy_best"] == 0.25
        and shown["parameters"] == 20
    )


def test_a_row_of_another_network_of_another_task_has_that_networks_numbers(record):
    """They come from the run's record: there are no logits of classes."""
    scores = {"student": {"test/mse": 0.5, "val/mse": 0.25}, "peer2": {"test/mse": 0.75, "test/mse_best": 0.625}}
    task = {"_target_": "kdlab.tasks.Regression"}
    made = record.run
    made.config = {**made.config, "task": task}
    made.record |= {"task": REGRESSION.as_record(), "networks": scores, "metrics": {"test/mse": 0.5, "val/mse": 0.25}}
    kept, other = Row("kept", ("a=1",), (1,)), Row("other", ("a=1",), (1,), network="peer2")
    found = record(kept, other)
    assert row_record(found, other)["metrics"] == {"test/mse": 0.75, "test/mse_best": 0.625, "val/mse": 0.25}
    assert row_record(found, kept)["metrics"] == {"test/mse": 0.5, "val/mse": 0.25}
    assert row_record(found, other)["parameters"] == 20
    with pytest.raises(InputError, match=r"^row 'x': its runs have no network 'peer3' \(they have student, peer2\)$"):
        record(Row("x", ("a=1",), (1,), network="peer3"))
    with pytest.raises(InputError, match="^row 'x': bias: task=regression keeps no logits of classes; leave it out$"):
        record(Row("x", ("a=1",), (1,), {0: 1.0}))


def test_a_run_in_other_words_stands_there_once_with_all_of_them(record):
    one, again, other = (
        Row(name, overrides, (1,))
        for name, overrides in (("one", ("a=1", "b=2")), ("again", ("a=1", "b=2")), ("other", ("b=2", "a=1")))
    )
    found = record(one, again, other)
    assert found["rows"] == [["t", "one"], ["t", "again"], ["t", "other"]]
    assert found["overrides"] == ["a=1", "b=2", "seed=1"] and found["also"] == [["b=2", "a=1", "seed=1"]]
    assert "also" not in record(one, again)
    assert json.loads(json.dumps(found)) == found
