"""Other launchers of Hydra's: jobs in processes that kdlab did not start."""

import pytest

from kdlab.runs.run import find_runs

SHORT = ["strategy=supervised", "trainer.max_epochs=1", "progress=none", "seed=1,2"]


@pytest.mark.parametrize(
    "launcher, options, package",
    [
        pytest.param(
            "joblib", ["hydra.launcher.n_jobs=2"], "hydra_plugins.hydra_joblib_launcher", marks=pytest.mark.slow
        ),
        pytest.param("submitit_local", ["hydra.launcher.timeout_min=5"], "submitit", marks=pytest.mark.slow),
        ("basic", [], "hydra"),
    ],
)
def test_it_trains_every_job_and_finds_it_again(kdlab, workplace, launcher, options, package):
    pytest.importorskip(package)
    command = ["train", "-m", f"hydra/launcher={launcher}", *options, *SHORT]
    code, out, err = kdlab(*command)
    assert code == 0, err
    runs = {run.record["seed"]: run for run in find_runs(["runs"])}
    assert {seed: run.status for seed, run in runs.items()} == {1: "finished", 2: "finished"}
    assert not any("_submit" in run.record["command"] or "loky" in run.record["command"] for run in runs.values())
    assert (workplace / "runs" / ".sweeps").exists() == launcher.startswith("submitit")  # empty folders do not stay
    stamps = [run.checkpoint("last").stat().st_mtime_ns for run in runs.values()]
    assert kdlab(*command)[0] == 0 and [run.checkpoint("last").stat().st_mtime_ns for run in runs.values()] == stamps


def test_a_job_that_fails_elsewhere_is_named_and_the_others_are_kept(kdlab, workplace):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    code, out, err = kdlab(
        "train",
        "-m",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=1",
        "strategy=supervised",
        "progress=none",
        "trainer.max_epochs=1,0",
    )
    assert code == 1 and "trainer.max_epochs must be" in out + err and "1 of the 2 jobs failed" in err
    assert [run.status for run in find_runs(["runs"])] == ["finished"]


@pytest.mark.slow
def test_a_process_of_joblibs_that_is_killed_is_a_failure_and_no_bad_input(kdlab, workplace):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    code, out, err = kdlab(
        "train",
        "-m",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "strategy=supervised",
        "progress=none",
        "trainer.max_epochs=2",
        "strategy._target_=tests.sweep.trouble.Killed",
        "seed=1,2",
    )
    assert code == 1 and "hydra/launcher=joblib was killed" in err and "Traceback" not in err
