"""The rows of the study of sums fit together: each is put together, and its loss is finite."""

import pytest
import torch

from kdlab.config.compose import compose
from kdlab.studies.reading import read
from kdlab.training.assemble import assembled

ROWS = [row for table in read("sums").tables for row in table.rows]
TINY = ["data.batch_size=10"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row(row, workplace):
    parts = assembled(compose([*row.overrides, *TINY]))
    strategy, batch = parts.strategy.train(), parts.data.train_dataloader().first(6)
    for whose in ("data", "own"):
        if whose == "data" and "experiment=sums/minillm" in row.overrides:
            continue  # it learns from own answers alone
        if hasattr(strategy, "whose"):
            strategy._decided = (0, whose)
        loss = strategy.distill(batch).loss.total
        assert torch.isfinite(torch.as_tensor(loss))
    assert strategy.task.headline.name == "exact_match" and strategy.task.end_tokens == (1,)


def test_students_have_equal_steps_and_test_sums():
    configs = [compose(row.overrides) for row in ROWS if row.name not in ("teacher", "beginning")]
    same = [(one["trainer"]["max_epochs"], one["data"], one["student"], one["optimizer"]) for one in configs]
    assert all(one == same[0] for one in same)
