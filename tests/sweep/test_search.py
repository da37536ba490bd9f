"""Searches by Optuna: spaces, pruning, resuming, what is refused."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdlab.runs.run import find_runs

optuna = pytest.importorskip("optuna")

ROOT = Path(__file__).parents[2]
SEARCH = [
    "-m",
    "hydra/sweeper=optuna",
    "strategy=supervised",
    "trainer.max_epochs=2",
    "data.fraction=0.1",
    "optimizer.lr=tag(log,interval(1e-4,1e-1))",
    "student.hidden=[4],[16]",
    "hydra.sweeper.trials=5",
    "hydra.sweeper.startup_trials=3",
    "hydra.launcher.workers=1",
]


def trials(folder="runs/quickstart"):
    storage = f"sqlite:///{Path(folder) / 'optuna.db'}"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def table(out: str) -> list[str]:
    return re.findall(r"^ *\*? ?\d+  +\S+ .*runs/\S+ *$", out, re.M)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The parameters and values of a search that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run(_command(), cwd=folder, capture_output=True, text=True, env=_environment())
    assert done.returncode == 0, done.stderr
    assert (
        len(table(done.stdout)) == 5
        and "best of 5 finished trials" in done.stdout
        and done.stdout.strip().endswith("runs/quickstart")
    )
    return [(trial.params, trial.value) for trial in trials(folder / "runs" / "quickstart")]


def _command(*more):
    return [sys.executable, "-c", "from kdlab.cli.main import script; script()", "train", *SEARCH, *more]


def _environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_trials_are_runs_within_the_space(undisturbed):
    assert len(undisturbed) == 5 and len({repr(params) for params, _ in undisturbed}) == 5
    for params, value in undisturbed:
        assert (
            1e-4 <= params["optimizer.lr"] <= 1e-1 and params["student.hidden"] in ("[4]", "[16]") and 0 <= value <= 1
        )


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_trials(workplace, undisturbed):
    process = subprocess.Popen(_command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment())
    deadline = time.monotonic() + 120
    while len(list(find_runs(["runs"]))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(trials()) < 5
    done = subprocess.run(_command(), capture_output=True, text=True, env=_environment())
    assert done.returncode == 0, done.stderr
    assert [(trial.params, trial.value) for trial in trials()] == undisturbed
    assert len(table(done.stdout)) == 5, "the trials of the first sitting are in the table, too"


@pytest.mark.slow
def test_more_trials_go_further_and_finished_ones_are_left_alone(kdlab, workplace):
    assert kdlab("train", *SEARCH, "hydra.sweeper.trials=2")[0] == 0
    first = [trial.params for trial in trials()]
    code, out, err = kdlab("train", *SEARCH, "hydra.sweeper.trials=3")
    assert code == 0 and [trial.params for trial in trials()][:2] == first and len(trials()) == 3
    assert "[1/1]" in out, "only the third was run"


@pytest.mark.slow
def test_a_trial_that_is_worse_is_pruned_and_its_run_says_so(kdlab, workplace):
    """Where the rate is next to nothing nothing is learned, so those trials end behind their first epochs."""
    code, out, err = kdlab(
        "train",
        "-m",
        "hydra/sweeper=optuna",
        "strategy=supervised",
        "trainer.max_epochs=4",
        "optimizer.lr=1e-2,1e-9",
        "hydra.sweeper.trials=8",
        "hydra.sweeper.pruner=median",
        "hydra.sweeper.startup_trials=2",
        "hydra.launcher.workers=1",
    )
    assert code == 0, err
    states = {trial.state.name for trial in trials()}
    assert states == {"COMPLETE", "PRUNED"} and "pruned" in {run.status for run in find_runs(["runs"])}
    assert "pruned" in kdlab("runs")[1]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["-m", "hydra/sweeper=optuna", "strategy=supervised"], "nothing to search"),
        ([*SEARCH, "hydra.sweeper.objective=test/accuracy"], "must be a metric of validation"),
        ([*SEARCH, "hydra.sweeper.objective=val/acuracy"], "did you mean 'val/accuracy'"),
        ([*SEARCH, "hydra.sweeper.sampler=tpa"], "did you mean 'tpe'"),
        ([*SEARCH, "hydra.sweeper.trials=0"], "trials must be a whole number of at least 1"),
        ([*SEARCH, "hydra.sweeper.trails=9"], "did you mean 'trials'"),
        ([*SEARCH, "data.validation=interval(0.1,1.5)"], "validation must lie between 0 and 1"),
        ([*SEARCH, "optimizer.weight_decay=tag(log,interval(0,1))"], "optimizer.weight_decay"),
        ([*SEARCH, "hydra/launcher=basic", "~hydra.launcher.workers"], "kdlab's own launcher"),
    ],
)
@pytest.mark.slow
def test_bad_searches(kdlab, workplace, arguments, words):
    code, out, err = kdlab(
        "train",
        *[
            argument
            for argument in arguments
            if not ("basic" in str(arguments) and "hydra.launcher.workers" in argument)
        ],
    )
    assert code == 2 and words in err and "Traceback" not in out + err
    assert not list(workplace.glob("runs/quickstart/*/run.json"))


def test_every_choice_is_checked_before_anything_begins(kdlab, workplace):
    code, out, err = kdlab(
        "train", "-m", "hydra/sweeper=optuna", "strategy=supervised", "student=mlp,mlpp,cnn", "trainer.max_epochs=1"
    )
    assert code == 2 and "did you mean 'mlp'" in err and not (workplace / "runs").exists()


@pytest.mark.slow
def test_a_combination_that_is_bad_fails_its_trial_and_no_other(kdlab, workplace):
    """Each value is right by itself at the ends of the space: 1 with 2000, 2 with 32."""
    search = [
        "-m",
        "hydra/sweeper=optuna",
        "strategy=supervised",
        "trainer.max_epochs=1",
        "data.fraction=1,0.1",
        "data.batch_size=1000,32",
        "hydra.sweeper.sampler=random",
        "hydra.sweeper.trials=8",
        "hydra.launcher.workers=1",
    ]
    code, out, err = kdlab("train", *search)
    assert code == 1 and "larger than the" in err and len(trials()) == 8
    assert {trial.state.name for trial in trials()} == {"COMPLETE", "FAIL"}
    assert kdlab("train", *search)[0] == 0, "nothing is left to do"


@pytest.mark.slow
def test_two_searches_in_one_folder_at_once_are_refused(kdlab, workplace):
    from filelock import FileLock

    assert kdlab("train", *SEARCH, "hydra.sweeper.trials=1")[0] == 0
    with FileLock("runs/quickstart/optuna.db.lock"):
        code, out, err = kdlab("train", *SEARCH, "hydra.sweeper.trials=1")
    assert code == 2 and "another process is searching" in err


def test_a_database_that_is_none(kdlab, workplace):
    (workplace / "runs" / "quickstart").mkdir(parents=True)
    (workplace / "runs" / "quickstart" / "optuna.db").write_text("no database")
    code, out, err = kdlab("train", *SEARCH)
    assert code == 2 and "optuna.db cannot be read" in err and "move it away" in err
