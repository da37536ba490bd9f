"""Chains in ``kdlab train -m``: every link once, in its order, whichever job needs it."""

import pytest

from kdlab.runs.run import find_runs
from tests.sweep.test_launcher import rows


@pytest.mark.slow
def test_generations_over_seeds(kdlab, workplace):
    code, out, err = kdlab(
        "train",
        "-m",
        "strategy=born_again",
        "strategy.generation=2,1",
        "seed=1,2",
        "data.fraction=0.2",
        "trainer.max_epochs=1",
        "hydra.launcher.workers=2",
    )
    assert code == 0, err
    assert len(list(find_runs(["runs"]))) == 6
    assert list(rows(out).values()) == ["trained", "trained", "found", "found"], (
        "generation 1 was trained for generation 2"
    )
    for seed in (1, 2):
        order = [
            out.index(text)
            for text in (
                f"trained teacher supervised-ce-mlp-s{seed}",
                f"trained teacher born_again-ce+kd-mlp-g1-s{seed}",
                f"trained strategy.generation=2 seed={seed}",
            )
        ]
        assert order == sorted(order)
    assert all(
        run.record["durations"]["train_seconds"] > 0 and not run.record["resumed"] for run in find_runs(["runs"])
    )


@pytest.mark.slow
def test_stages_over_seeds_and_one_assistant_for_all(kdlab, workplace):
    short = ["seed=1,2", "data.fraction=0.2", "trainer.max_epochs=1", 'teacher.overrides=["trainer.max_epochs=2"]']
    code, out, err = kdlab(
        "train",
        "-m",
        "strategy=assistant",
        "initial=same_but",
        *short,
        'student.initial.same_but=["strategy=supervised","loss=[ce]","teacher=none","initial=none"]',
    )
    assert code == 0, err
    links = [line.split("  ")[0] for line in out.splitlines() if line.startswith("trained ")]
    assert sorted(links) == [
        "trained initial supervised-ce-mlp-s1",
        "trained initial supervised-ce-mlp-s2",
        "trained teacher assistant-ce+kd-mlp-s1",
        "trained teacher teacher/digits (seed 1)",
    ], "another student, as the assistant is, has no beginning of this one's"


@pytest.mark.slow
def test_a_link_that_fails_is_named_by_those_that_need_it(kdlab, workplace):
    code, out, err = kdlab(
        "train",
        "-m",
        "strategy=born_again",
        "seed=1,2",
        "data.fraction=0.2",
        "trainer.max_epochs=2",
        'teacher.same_but=["strategy=supervised","loss=[ce]","teacher=none","strategy._target_=tests.sweep.trouble.Unlucky",'
        '"++strategy.generation=0"]',
    )
    assert code == 1 and rows(out) == {"seed=1": "trained", "seed=2": "failed"}
    assert "its teacher supervised-ce-mlp-s2 came to nothing" in out
