"""Slurm and Ray, both stood in for: what their launchers send, and what they make of jobs that end well, badly or not
at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdlab.config.compose import compose
from kdlab.runs.run import find_runs
from kdlab.sweep import ray_launcher, submitit_launcher
from kdlab.sweep.elsewhere import Work

SHORT = ["strategy=supervised", "trainer.max_epochs=1", "data.fraction=0.2", "progress=lines"]
SLURM = ["train", "-m", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=main", *SHORT]


class Handle:
    """A job of submitit's: ``end`` is what its function returns, or what it raises, or the state in which the job ended
    without."""

    def __init__(self, folder: Path, number: int, end):
        self.job_id, self.end, self.cancelled = f"7_{number}", end, False
        place = folder / self.job_id
        place.mkdir(parents=True)
        self.paths = SimpleNamespace(
            folder=place, result_pickle=place / "result.pkl", stdout=place / "log.out", stderr=place / "log.err"
        )
        self.state = end if isinstance(end, str) else "COMPLETED"
        if not isinstance(end, str):
            self.paths.result_pickle.touch()
        if self.state == "NODE_FAIL":
            self.paths.stderr.touch()

    def done(self):
        return self.state != "RUNNING"

    def _get_outcome_and_result(self):
        return ("error", str(self.end)) if isinstance(self.end, Exception) else ("success", self.end)

    def cancel(self, check=True):
        self.cancelled, self.state = True, "CANCELLED"


@pytest.fixture
def submitit(monkeypatch):
    """Stands in for submitit. ``made`` is what its executor was made with; ``ends`` what comes of jobs by their seeds
    (default: they are run)."""
    stub = SimpleNamespace(made={}, ends={}, handles=[])

    class Executor:
        def __init__(self, **options):
            stub.made.update(options)

        def update_parameters(self, **options):
            stub.made.update(options)

        def map_array(self, job, configs):
            folder = Path(stub.made["folder"]).absolute().parent
            for number, config in enumerate(configs):
                end = stub.ends.get(config["seed"])
                stub.handles.append(Handle(folder, number, Work.__call__(job, config) if end is None else end))
            return stub.handles

    stub.AutoExecutor = Executor
    monkeypatch.setattr(submitit_launcher, "package", lambda name, extra: stub)
    monkeypatch.setattr(submitit_launcher, "PAUSE", 0.01)
    monkeypatch.setattr(submitit_launcher.SlurmLauncher, "_late", lambda self, handle: False)
    monkeypatch.setattr(sys, "argv", ["kdlab", *SLURM, "seed=1,2,3"])
    return stub


def test_jobs_of_slurm_are_kept_beside_the_runs_which_say_what_was_typed(kdlab, workplace, submitit):
    code, out, err = kdlab(*SLURM, "seed=1,2")
    assert code == 0, err
    assert (
        submitit.made["cluster"] == "slurm"
        and submitit.made["slurm_partition"] == "main"
        and submitit.made["timeout_min"] == 60
    )
    assert submitit.made["slurm_max_num_timeout"] == 0 and submitit.made["tasks_per_node"] == 1
    folder = Path(submitit.made["folder"])
    assert (
        folder.parts[:2] == ("runs", ".sweeps") and folder.parts[3:] == (".submitit", "%j") and folder.parent.is_dir()
    )
    runs = list(find_runs(["runs"]))
    assert [run.status for run in runs] == ["finished"] * 2
    assert {run.record["command"] for run in runs} == {f"kdlab {' '.join(SLURM)} seed=1,2"}
    assert "submitted to slurm: 2 jobs, 7_0 to 7_1" in out and "[2/2] trained seed=2" in out
    submitit.made.clear()
    assert kdlab(*SLURM, "seed=1,2")[0] == 0 and not submitit.made  # found; nothing is sent


@pytest.mark.parametrize(
    "given, folder", [("paths.runs=elsewhere", "elsewhere/.sweeps/"), ("hydra.sweep.dir=mine", "mine/")]
)
def test_the_folder_goes_with_the_runs_or_where_it_is_put(kdlab, workplace, submitit, given, folder):
    submitit.ends.update({1: ("trained", "x")})
    assert kdlab(*SLURM, "seed=1", given)[0] == 0
    assert submitit.made["folder"].startswith(folder)


def test_a_job_that_is_cancelled_or_lost_is_named_and_the_others_are_waited_for(kdlab, workplace, submitit):
    submitit.ends.update(
        {
            1: "CANCELLED by 0",
            2: "NODE_FAIL",
            4: ValueError("Traceback …\nValueError: pickled"),
            5: ("interrupted", "interrupted by SIGUSR2"),
        }
    )
    code, out, err = kdlab(*SLURM, "seed=1,2,3,4,5")
    assert (
        code == 1
        and "4 of the 5 jobs failed; the same command tries only these again" in err
        and "Traceback" not in out + err
    )
    failed = dict(
        line.removeprefix("failed: ").rpartition(" seed=")[2].split(": ", 1)
        for line in out.splitlines()
        if line.startswith("failed: ")
    )
    assert failed["1"] == "job 7_0 of slurm was cancelled"
    assert failed["2"].startswith("job 7_1 of slurm has ended (NODE_FAIL); its output is in ") and failed["2"].endswith(
        "7_1/log.err"
    )
    assert failed["4"] == "ValueError: pickled" and failed["5"] == "interrupted by SIGUSR2"
    assert [run.status for run in find_runs(["runs"])] == ["finished"]


def test_a_job_that_wrote_nothing_points_at_the_folder(kdlab, workplace, submitit):
    submitit.ends.update({1: "FAILED"})
    code, out, err = kdlab(*SLURM, "seed=1")
    assert code == 1 and "do all machines see that folder? hydra.sweep.dir=… names another" in out


def test_bad_input_in_all_jobs_is_bad_input(kdlab, workplace, submitit):
    submitit.ends.update(dict.fromkeys((1, 2), ("refused", "data.folder: there is no such folder")))
    code, out, err = kdlab(*SLURM, "seed=1,2")
    assert code == 2 and "data.folder" in out


def test_interrupted_it_cancels_its_jobs_and_keeps_their_folder(kdlab, workplace, submitit, monkeypatch):
    submitit.ends.update({1: "RUNNING", 2: "RUNNING"})
    monkeypatch.setattr(submitit_launcher.time, "sleep", lambda seconds: os.kill(os.getpid(), signal.SIGUSR1))
    code, out, err = kdlab(*SLURM, "seed=1,2")
    assert code == 130 and "stopping: 2 jobs are cancelled" in out and "the same command resumes" in err
    assert all(handle.cancelled and handle.paths.folder.is_dir() for handle in submitit.handles)


@pytest.mark.parametrize(
    "shown, code, error, done",
    [
        ("7_0 main R\n", 0, "", False),
        ("", 0, "", True),
        ("", 1, "slurm_load_jobs error: Invalid job id specified", True),
        ("", 1, "Unable to contact slurm controller", False),
    ],
)
def test_squeue_is_asked_where_sacct_has_nothing_to_say(workplace, monkeypatch, shown, code, error, done):
    monkeypatch.setattr(submitit_launcher, "ASK", 0.0)
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: SimpleNamespace(stdout=shown, returncode=code, stderr=error)
    )
    handle = Handle(workplace, 0, "RUNNING")
    assert submitit_launcher.SlurmLauncher(submitit_folder="jobs")._done(handle) is done


@pytest.mark.parametrize(
    "launcher, options, words",
    [
        ("submitit_slurm", ["hydra.launcher.nodes=2"], "hydra.launcher.nodes=2: kdlab trains a run in one task"),
        ("submitit_slurm", ["hydra.launcher.tasks_per_node=2"], "hydra.launcher.tasks_per_node=2"),
        ("submitit_slurm", ["hydra.launcher.partitoin=gpu"], "did you mean 'partition'?"),
        ("submitit_local", ["hydra.launcher.nodes=2"], "hydra.launcher.nodes=2"),
        ("ray", ["hydra.launcher.ray.int.address=auto"], "hydra.launcher.ray.int"),
    ],
)
def test_bad_options(kdlab, workplace, launcher, options, words):
    code, out, err = kdlab("train", "-m", f"hydra/launcher={launcher}", *options, *SHORT, "seed=1,2")
    assert code == 2 and words in err and not (workplace / "runs").exists()


@pytest.mark.parametrize("launcher, cure", [("submitit_slurm", "pip install submitit"), ("ray", "pip install ray")])
def test_a_package_that_is_missing(kdlab, workplace, monkeypatch, launcher, cure):
    monkeypatch.setitem(sys.modules, {"ray": "ray"}.get(launcher, "submitit"), None)
    code, out, err = kdlab("train", "-m", f"hydra/launcher={launcher}", *SHORT, "seed=1,2")
    assert code == 2 and cure in err


class Ray:
    """Stands in for Ray: runs a job where its reference is waited for."""

    def __init__(self, lost=()):
        self.lost, self.init_arguments, self.remote_arguments, self.names = lost, None, None, []

    def is_initialized(self):
        return self.init_arguments is not None

    def init(self, **arguments):
        assert arguments.get("address") is None or arguments.get("object_store_memory") is None, (
            "ray: must not be provided when connecting to a cluster"
        )
        self.init_arguments = arguments

    def remote(self, **arguments):
        self.remote_arguments = arguments

        def task(function):
            def options(name):
                self.names.append(name)
                return SimpleNamespace(remote=lambda *given: (name, lambda: function(*given)))

            return SimpleNamespace(options=options)

        return task

    def wait(self, references, num_returns, timeout):
        return references[:1], references[1:]

    def get(self, reference):
        if reference[0] in self.lost:
            raise RuntimeError("The worker died unexpectedly while executing this task.\nmore")
        return reference[1]()


def test_ray_joins_a_cluster(kdlab, workplace, monkeypatch):
    stub = Ray(lost=("seed=2",))
    monkeypatch.setattr(ray_launcher, "package", lambda name, extra: stub)
    code, out, err = kdlab(
        "train",
        "-m",
        "hydra/launcher=ray",
        "hydra.launcher.ray.init.address=auto",
        "+hydra.launcher.ray.remote.num_gpus=1",
        *SHORT,
        "seed=1,2,3",
    )
    assert (
        code == 1
        and "failed: " in out
        and "seed=2: RuntimeError: The worker died unexpectedly while executing this task." in out
    )
    assert stub.init_arguments["address"] == "auto" and stub.init_arguments.get("object_store_memory") is None
    assert stub.remote_arguments == {"num_cpus": 1, "max_calls": 1, "max_retries": 0, "num_gpus": 1} and stub.names == [
        "seed=1",
        "seed=2",
        "seed=3",
    ]
    assert [run.status for run in find_runs(["runs"])] == ["finished"] * 2


def test_ray_on_this_machine_and_with_the_option_that_was_needed_before(kdlab, workplace, monkeypatch):
    for options in ([], ["hydra.launcher.ray.init.address=auto", "+hydra.launcher.ray.init.object_store_memory=null"]):
        stub = Ray()
        monkeypatch.setattr(ray_launcher, "package", lambda name, extra, stub=stub: stub)
        assert kdlab("train", "-m", "hydra/launcher=ray", *options, *SHORT, "seed=1", "fresh=true")[0] == 0
        assert stub.init_arguments["address"] == ("auto" if options else None)


def test_work_says_what_came_of_it(workplace, monkeypatch):
    config = compose([*SHORT, "progress=none"])
    work = Work("kdlab train -m what was typed")
    status, path = work(config)
    assert (
        status == "trained"
        and next(find_runs(["runs"])).record["command"] == "kdlab train -m what was typed"
        and Path(path).is_dir()
    )
    assert work(compose([*SHORT, "optimizer.lr=-1"]))[0] == "refused"
    from kdlab.strategies.base import Strategy

    monkeypatch.setattr(Strategy, "training_step", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    status, message = work(compose([*SHORT, "progress=none", "seed=2"]))
    assert status == "interrupted" and message.startswith("interrupted by SIGTERM; finished epochs are kept")
    assert sorted(run.status for run in find_runs(["runs"])) == ["finished", "interrupted"]


@pytest.mark.parametrize("comes_back", [True, False])
def test_at_a_time_limit_the_run_is_interrupted_and_then_its_job_queued_again(workplace, monkeypatch, comes_back):
    submitit = pytest.importorskip("submitit")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "5")
    statuses = []

    def requeue(number, frame):  # submitit's, which ends the process where the job may come back
        statuses.extend(run.status for run in find_runs(["runs"]))
        if comes_back:
            raise SystemExit(144)
        raise submitit.core.utils.UncompletedJobError("Job not requeued because: timed-out too many times.")

    from kdlab.strategies.base import Strategy

    monkeypatch.setattr(Strategy, "training_step", lambda *_: os.kill(os.getpid(), signal.SIGUSR2))
    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        work, config = submitit_launcher.SubmititWork("kdlab train -m"), compose([*SHORT, "progress=none"])
        if comes_back:
            with pytest.raises(SystemExit):
                work(config)
            again = work.checkpoint(config)
            assert again.function.command == "kdlab train -m" and again.args == (config,)
        else:
            status, message = work(config)
            assert (
                status == "interrupted"
                and message.startswith("job 5 was interrupted by SIGUSR2")
                and "max_num_timeout=N queues it again" in message
            )
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert statuses == ["interrupted"]
