"""A prepared strategy under a Lightning Trainer of the user's own: its tests, and batches that it cannot read."""

import lightning as L
import pytest
import torch

from kdlab.errors import InputError
from kdlab.library import Batches, prepared

from .problem import loader, network


def trainer():
    return L.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )


def accuracy(student, batches):
    with torch.no_grad():
        right = [student(inputs).argmax(1) == target for inputs, target in batches]
    return torch.cat(right).float().mean().item()


def test_the_metrics_of_the_task_on_test():
    parts = prepared(network(), network(2), loader(), loader(seed=2), loader(seed=3), loss=["ce", "kd"], epochs=1)
    mine = trainer()
    mine.fit(parts.strategy, parts.train, parts.validation)
    (found,) = mine.test(parts.strategy, parts.test, verbose=False)
    assert set(found) == {"test/accuracy", "test/nll"}
    assert found["test/accuracy"] == pytest.approx(accuracy(parts.strategy.student.eval(), loader(seed=3)))
    again = mine.test(parts.strategy, Batches(loader(seed=3), "test", "test"), verbose=False)
    assert again == [found], "the metrics begin again"


def test_the_test_chooses_no_network():
    options = {"strategy": {"online": {"keep": "validation"}}, "peers": {"wide": network(3)}, "epochs": 1}
    parts = prepared(network(), None, loader(), loader(seed=2), loader(seed=3), **options)
    (found,) = trainer().test(parts.strategy, parts.test, verbose=False)
    assert "test/accuracy" not in found and {"test/accuracy_student", "test/accuracy_wide"} <= set(found)
    mine = trainer()
    mine.fit(parts.strategy, parts.train, parts.validation)
    chosen = parts.strategy.kept_on_validation
    scores = {name: mine.callback_metrics[f"val/accuracy_{name}"] for name in ("student", "wide")}
    assert scores[chosen] == max(scores.values())
    (found,) = mine.test(parts.strategy, parts.test, verbose=False)
    assert found["test/accuracy"] == found[f"test/accuracy_{chosen}"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_batches_that_are_none_of_kdlab(split):
    parts = prepared(network(), network(2), loader(), loader(seed=2), loader(seed=3), loss=["ce", "kd"], epochs=1)
    with pytest.raises(InputError) as error:
        if split == "test":
            trainer().test(parts.strategy, loader(seed=3), verbose=False)
        elif split == "train":
            trainer().fit(parts.strategy, loader())
        else:
            trainer().fit(parts.strategy, parts.train, loader(seed=2))
    assert str(error.value) == (
        f"{split}: a batch must be a kdlab.Batch, got a list of 2. Give the Trainer kdlab.library.Batches(loader, "
        f'"{split}", "{split}"), which makes them of pairs (inputs, target) and of dicts'
    )
