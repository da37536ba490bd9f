"""Strategies that are not made for texts, on tiny causal language models: they run, and the curve has their terms."""

import math

import pytest

import kdlab
from tests.strategies.test_on_policy import SMALL, rows_of

CASES = {
    "born_again": (["strategy.generation=1", "trainer.max_epochs=80"], {"student"}),  # generation 0 must know something
    "ema": ([], {"student", "average"}),
    "online": (["strategy.peers=1"], {"student", "peer2", "ensemble"}),
}


@pytest.mark.parametrize("strategy", CASES)
def test_a_strategy_on_causal_models(strategy, workplace):
    more, answers = CASES[strategy]
    run = kdlab.train([*SMALL, f"strategy={strategy}", *more])
    row = rows_of(run)[-1]
    parts = {name for name in row if name.startswith("train/loss_")}
    assert len(parts) >= 2 and all(math.isfinite(row[name]) and row[name] > 0 for name in parts)
    assert set(run.record["networks"] or {"student": 0}) <= answers
    assert 0 <= run.metrics["test/exact_match"] <= 1 and run.metrics["test/nll"] > 0
