"""Searches by Optuna: spaces, pruning, resuming, what is refused."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from kdlab.errors import InputError
from kdlab.runs.run import find_runs
from kdlab.sweep.job import FAILED, FOUND, INTERRUPTED, PRUNED, REFUSED, TRAINED, Job, Outcome
from kdlab.sweep.search import OptunaSweeper, Search, distribution
from kdlab.tasks.metric import CLASSIFICATION, REGRESSION

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


# -- without a run ------------------------------------------------------------------------------------------------


class Planning:
    """A launcher that takes every point for a job, but those that ``bad`` is in."""

    def __init__(self, bad="nothing"):
        self.bad = bad

    def planned(self, points, more=False):
        ((*overrides,),) = points
        if self.bad in overrides:
            raise InputError(f"{self.bad} is bad")
        return SimpleNamespace(jobs=[Job(" ".join(overrides), overrides, {}, "0", died="never begun")])


RATE = {"lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)}


def begun(study=None, space=RATE, bad="nothing", **options):
    """A search, and the study in memory that it keeps."""
    sweeper = OptunaSweeper(**options)
    sweeper.settle(CLASSIFICATION)
    sweeper.launcher = Planning(bad)
    study = study or optuna.create_study(direction=sweeper.direction, pruner=sweeper._pruner(optuna))
    return Search(sweeper, study, space, ["epochs=1"]), study


def run_through(search, *values):
    """Have trials end with these values, one after the other; what was chosen for them."""
    chosen = []
    for value in values:
        job = search.next()
        search.ended(Outcome(job, TRAINED, metrics={"val/accuracy": value}))
        chosen.append(job.overrides)
    return chosen


@pytest.mark.parametrize(
    "report, objective, direction",
    [
        (CLASSIFICATION, None, "maximize"),
        (CLASSIFICATION, "val/accuracy", "maximize"),
        (CLASSIFICATION, "val/nll", "minimize"),
        (CLASSIFICATION, "val/ece", "minimize"),
        (CLASSIFICATION, "train/loss_kd", "minimize"),
        (REGRESSION, None, "minimize"),
        (REGRESSION, "val/r2_best", "maximize"),
    ],
)
def test_what_is_better_follows_from_the_objective_unless_it_is_said(report, objective, direction):
    def settled(**options):
        sweeper = OptunaSweeper(**options)
        sweeper.settle(report)
        return sweeper.objective, sweeper.direction

    assert settled(objective=objective) == (objective or f"val/{report.headline.name}", direction)
    for said in ("maximize", "minimize"):
        assert settled(objective=objective, direction=said)[1] == said


@pytest.mark.parametrize("objective", ["test/accuracy", "accuracy", "best_epoch"])
def test_only_validation_is_looked_at(objective):
    with pytest.raises(InputError, match="must be a metric of validation"):
        OptunaSweeper(objective=objective)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_trial_is_a_function_of_the_seed_and_its_number(sampler):
    def chosen(seed, trials=3):
        return [overrides[1] for overrides in run_through(begun(sampler=sampler, seed=seed)[0], *([0.5] * trials))]

    first = chosen(1)
    assert chosen(1) == first and len(set(first)) == 3 and not set(first) & set(chosen(2))


def test_a_search_that_is_gone_on_with_chooses_what_it_would_have_chosen():
    values = [0.5, 0.6, 0.4, 0.7]
    whole = run_through(begun(startup_trials=2)[0], *values)
    search, study = begun(startup_trials=2)
    first = run_through(search, *values[:2])
    assert first + run_through(begun(study, startup_trials=2)[0], *values[2:]) == whole


def test_trials_are_random_until_so_many_have_ended():
    def sixth(startup):
        return run_through(begun(startup_trials=startup)[0], 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)[-1]

    assert sixth(5) != sixth(6) and sixth(6) == sixth(20)


def test_it_is_exhausted_when_all_were_asked_for():
    search, study = begun(trials=2)
    assert search.total == 2 and not search.exhausted
    run_through(search, 0.5)
    assert not search.exhausted
    run_through(search, 0.6)
    assert search.exhausted and begun(study, trials=2)[0].exhausted
    more, _ = begun(study, trials=3)
    assert more.total == 1 and not more.exhausted


def test_what_was_interrupted_comes_first_next_time():
    search, study = begun(trials=3)
    run_through(search, 0.5)
    job = search.next()
    search.ended(Outcome(job, INTERRUPTED))
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE", "RUNNING"]
    again, _ = begun(study, trials=3)
    assert again.total == 2, "the one that was begun, and the third"
    assert again.next().overrides == job.overrides and again.next().overrides != job.overrides and again.exhausted


@pytest.mark.parametrize(
    "status, state",
    [(TRAINED, "COMPLETE"), (FOUND, "COMPLETE"), (PRUNED, "PRUNED"), (FAILED, "FAIL"), (REFUSED, "FAIL")],
)
def test_the_study_is_told_how_a_trial_ended(status, state):
    search, study = begun()
    search.ended(Outcome(search.next(), status, metrics={"val/accuracy": 0.75} if status in (TRAINED, FOUND) else {}))
    (trial,) = study.get_trials()
    assert trial.state.name == state and trial.value == (0.75 if state == "COMPLETE" else None)


def test_bad_input_fails_its_trial():
    search, study = begun(space={"size": optuna.distributions.CategoricalDistribution(["7"])}, bad="size=7")
    assert search.next() is None and search.refused == ["trial 1: size=7 is bad"]
    assert [trial.state.name for trial in study.get_trials()] == ["FAIL"]


def test_a_trial_that_is_worse_is_told_to_end():
    search, _ = begun(pruner="median", startup_trials=1)
    best, worst, without = search.next(), search.next(), search.next()
    assert search.asks and search.should_continue(best, 1, {"val/accuracy": 0.9})
    search.ended(Outcome(best, TRAINED, metrics={"val/accuracy": 0.9}))
    assert not search.should_continue(worst, 1, {"val/accuracy": 0.1})
    assert search.should_continue(without, 1, {"train/loss": 3.0}), "an epoch without validation"
    assert search.should_continue(without, 1, {"val/accuracy": 0.95})


@pytest.mark.parametrize(
    "text, expected",
    [
        ("lr=interval(0.1,1)", optuna.distributions.FloatDistribution(0.1, 1.0)),
        ("lr=tag(log,interval(1e-4,1e-1))", RATE["lr"]),
        ("width=int(interval(4,64))", optuna.distributions.IntDistribution(4, 64)),
        ("width=range(1,10,3)", optuna.distributions.IntDistribution(1, 7, step=3)),
        ("width=range(1,9,3)", optuna.distributions.IntDistribution(1, 7, step=3)),
        ("width=range(1,11,3)", optuna.distributions.IntDistribution(1, 10, step=3)),
        ("student=mlp,cnn", optuna.distributions.CategoricalDistribution(["mlp", "cnn"])),
    ],
)
def test_the_spaces_of_hydras_grammar(text, expected):
    (override,) = OverridesParser.create().parse_overrides([text])
    assert distribution(override) == expected
