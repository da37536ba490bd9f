"""``kdlab train -m``: failures, kills, interrupts, shared teachers, what is found again, what is refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import kdlab as package
from kdlab.runs.run import find_runs

SHORT = ["strategy=supervised", "trainer.max_epochs=2"]
ROOT = Path(__file__).parents[2]
SCRIPT = [sys.executable, "-c", "from kdlab.cli.main import script; script()", "train", "-m"]


def trouble(name: str) -> list[str]:
    return [*SHORT, f"strategy._target_=tests.sweep.trouble.{name}"]


def statuses(folder="runs/quickstart"):
    return {run.record["seed"]: run.status for run in find_runs([folder])}


def rows(out: str) -> dict[str, str]:
    """The table at the end: job -> status."""
    return {
        found[1].strip(): found[2]
        for found in re.finditer(
            r"^ *\d+  (.+?)  +(trained|found|failed|refused|pruned|interrupted|not started) ", out, re.M
        )
    }


def test_a_sweep_trains_its_teacher_once_and_first_and_is_found_again(kdlab, workplace):
    sweep = [
        "trainer.max_epochs=2",
        'teacher.overrides=["trainer.max_epochs=3"]',
        "loss.kd.temperature=2,4",
        "seed=1,2",
    ]
    code, out, err = kdlab("train", "-m", *sweep)
    assert code == 0, err
    assert out.index("trained teacher teacher/digits (seed 1)") < out.index("[1/4]")
    assert list(rows(out).values()) == ["trained"] * 4 and len(list(find_runs(["runs/teachers"]))) == 1
    stamps = {run.path: run.checkpoint("last").stat().st_mtime_ns for run in find_runs(["runs"])}
    code, out, err = kdlab("train", "-m", *sweep)
    assert code == 0 and list(rows(out).values()) == ["found"] * 4
    assert {run.path: run.checkpoint("last").stat().st_mtime_ns for run in find_runs(["runs"])} == stamps


def test_a_baseline_in_a_sweep_ignores_the_teacher_of_the_others(kdlab, workplace):
    teacher = package.train(["strategy=supervised", "trainer.max_epochs=2", "name=taught", "progress=none"])
    given = ["teacher=run", f"teacher.run={teacher.path}"]
    code, out, err = kdlab(
        "train", "-m", "strategy=supervised,offline", *given, "trainer.max_epochs=1", "data.validation=0.3", "seed=1,2"
    )
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == (
        f"strategy=supervised learns without a teacher: teacher=run, teacher.run={teacher.path} count for the other "
        "jobs alone"
    )
    score = teacher_score(teacher)
    assert lines.count(f"teacher: {teacher.path}, accuracy {score:.4f} on validation") == 1
    assert sum("teacher: warning: its data.validation differ" in line for line in lines) == 1
    assert list(rows(out)) == [f"strategy={name} seed={seed}" for name in ("supervised", "offline") for seed in (1, 2)]
    assert sorted(run.record["uses_teacher"] for run in find_runs(["runs/quickstart"])) == [False, False, True, True]
    code, out, err = kdlab("train", "-m", "strategy=supervised", *given, "seed=1,2")
    assert code == 2 and "strategy=supervised uses no teacher; leave out teacher=" in err, "no job has a teacher"


def teacher_score(teacher):
    """On the validation samples of its students, as one of their records has it."""
    return next(
        run.record["teacher"]["validation_accuracy"] for run in find_runs(["runs/quickstart"]) if run.record["teacher"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("job", [SHORT, ["trainer.max_epochs=2", 'teacher.overrides=["trainer.max_epochs=2"]']])
def test_the_command_of_a_sweep_imports_nothing_heavy(workplace, job):
    """Neither to train the runs, where that would cost what a warm process costs, nor to find them again."""
    program = (
        "import sys; from kdlab.cli.main import main; sys.argv[0] = 'kdlab'; "
        f"code = main(['train', '-m', *{job!r}, sys.argv[1]]); "
        "print(code, [name for name in ('torch', 'lightning', 'transformers') if name in sys.modules])"
    )
    for seeds, status in (("seed=1,2", "trained"), ("seed=2,1", "found")):
        done = subprocess.run([sys.executable, "-c", program, seeds], capture_output=True, text=True)
        assert done.stdout.strip().splitlines()[-1] == "0 []", done.stdout + done.stderr
        assert done.stdout.count(f"  {status}  ") >= 2  # a teacher too


@pytest.mark.slow
def test_a_job_of_a_sweep_has_the_bits_of_the_job_alone(kdlab, workplace):
    """With two beside each other, after others in the same sweep, dropout and augmentation on; on one machine with one
    build, as is promised."""
    common = [
        "student.dropout=0.2",
        "data.augment.crop_padding=1",
        "trainer.max_epochs=2",
        'teacher.overrides=["trainer.max_epochs=2"]',
    ]
    assert kdlab("train", "-m", *common, "seed=1,2,3", "hydra.launcher.workers=2")[0] == 0
    for swept in find_runs(["runs/quickstart"]):
        alone = package.train([*common, f"seed={swept.record['seed']}", "paths.runs=alone", "progress=none"])
        assert alone.path.name == swept.path.name and alone.metrics == swept.metrics
        for which in ("last", "best"):
            ours, theirs = (
                torch.load(run.checkpoint(which), weights_only=True)["state_dict"] for run in (alone, swept)
            )
            assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_every_job_has_a_process_of_its_own(kdlab, workplace):
    code, out, err = kdlab("train", "-m", *trouble("Leaving"), "seed=1,2,3", "hydra.launcher.workers=1")
    assert code == 0, out


def test_a_failure_is_gone_past_kept_and_tried_again_by_the_same_command(kdlab, workplace):
    sweep = ["train", "-m", *trouble("Unlucky"), "seed=1,2,3"]
    code, out, err = kdlab(*sweep)
    assert code == 1 and "1 of the 3 jobs failed" in err and "Traceback" not in out + err
    assert (
        rows(out) == {"seed=1": "trained", "seed=2": "failed", "seed=3": "trained"}
        and "RuntimeError: out of luck" in out
    )
    assert statuses() == {1: "finished", 2: "failed", 3: "finished"}
    failed = next(run for run in find_runs(["runs"]) if run.status == "failed")
    assert (
        "out of luck" in (failed.path / "error.txt").read_text()
        and "Traceback" in (failed.path / "error.txt").read_text()
    )
    Path("luck").touch()
    code, out, err = kdlab(*sweep)
    assert code == 0 and rows(out) == {"seed=1": "found", "seed=2": "trained", "seed=3": "found"}
    assert len(failed.record["resumed"]) == 1, "it went on from its first epoch"


def test_a_killed_job_is_a_failed_job(kdlab, workplace):
    code, out, err = kdlab("train", "-m", *trouble("Killed"), "seed=1,2")
    assert (
        code == 1
        and rows(out) == {"seed=1": "trained", "seed=2": "failed"}
        and "killed by signal 9" in out
        and "memory" in out
    )
    assert statuses() == {1: "finished", 2: "failed"}


@pytest.mark.slow
def test_retry(kdlab, workplace):
    code, out, err = kdlab(
        "train", "-m", *trouble("UnluckyOnce"), "seed=1,2", "hydra.launcher.workers=1", "hydra.launcher.retry=1"
    )
    assert code == 0 and "failed, and tried again: seed=1" in out and statuses() == {1: "finished", 2: "finished"}


def test_fail_fast(kdlab, workplace):
    code, out, err = kdlab(
        "train", "-m", *trouble("Unlucky"), "seed=2,1,3", "hydra.launcher.workers=1", "hydra.launcher.fail_fast=true"
    )
    assert code == 1 and rows(out) == {"seed=2": "failed", "seed=1": "not started", "seed=3": "not started"}
    assert statuses() == {2: "failed"}


@pytest.mark.slow
def test_a_teacher_that_fails_fails_its_students_and_no_others(kdlab, workplace):
    """Every student says why; a student without a teacher is trained."""
    (workplace / "mine" / "experiment").mkdir(parents=True)
    (workplace / "mine" / "experiment" / "bad.yaml").write_text(
        "# @package _global_\n"
        "defaults: [override /strategy: supervised]\n"
        "name: teachers\n"
        "seed: 2\n"
        "trainer: {max_epochs: 2}\n"
        "strategy: {_target_: tests.sweep.trouble.Unlucky}\n"
    )
    code, out, err = kdlab(
        "train",
        "-m",
        "--config-dir",
        workplace / "mine",
        "teacher.experiment=bad,teacher/digits",
        "teacher.seed=2",
        'teacher.overrides=["trainer.max_epochs=2"]',
        "trainer.max_epochs=1",
        "seed=1,2",
    )
    assert code == 1
    table = rows(out)
    assert [status for job, status in table.items() if "=bad" in job] == ["failed", "failed"] and list(
        table.values()
    ).count("trained") == 2
    assert out.count("came to nothing") >= 2 and "out of luck" in out


def test_two_jobs_that_are_the_same_run_are_trained_once(kdlab, workplace):
    """1 and 1.0 are the same number."""
    code, out, err = kdlab("train", "-m", *trouble("Counting"), "data.fraction=1,1.0", "seed=1")
    assert code == 0 and sorted(rows(out).values()) == ["found", "trained"] and "the same run as" in out
    assert len(Path("began.txt").read_text().splitlines()) == 1


def test_bad_input_in_one_job_is_found_before_any_begins(kdlab, workplace):
    code, out, err = kdlab("train", "-m", *SHORT[:1], "trainer.max_epochs=1,0,2")
    assert (
        code == 2
        and "trainer.max_epochs must be" in err
        and "[in trainer.max_epochs=0]" in err
        and "No job was started" in err
    )
    assert not list(workplace.iterdir())


def test_what_only_the_data_can_tell_is_found_before_any_begins(kdlab, workplace):
    code, out, err = kdlab("train", "-m", *SHORT, "data.batch_size=32,100000", "seed=1,2")
    assert code == 2 and "larger than the 1151 training samples" in err and "1 more" not in err
    assert not list(workplace.iterdir())


@pytest.mark.slow
def test_a_parameter_that_only_some_losses_have_gets_the_answer(kdlab, workplace):
    code, out, err = kdlab("train", "-m", "loss=[ce,kd],[ce,logit_mse]", "loss.kd.weight=0.1,0.5", "seed=1,2")
    assert code == 2
    commands = [line.strip() for line in err.splitlines() if line.startswith("  kdlab train -m")]
    assert commands == [
        "kdlab train -m 'loss=[ce,kd]' loss.kd.weight=0.1,0.5 seed=1,2",
        "kdlab train -m 'loss=[ce,logit_mse]' seed=1,2",
    ]


@pytest.mark.parametrize(
    "option, words",
    [
        ("workers=0", "workers"),
        ("retry=-1", "retry"),
        ("wrokers=2", "did you mean 'workers'"),
        ("jobs_per_device=x", "jobs_per_device"),
    ],
)
def test_bad_options_of_the_launcher(kdlab, workplace, option, words):
    code, out, err = kdlab("train", "-m", *SHORT, "seed=1,2", f"hydra.launcher.{option}")
    assert code == 2 and words in err and "Traceback" not in out + err and not list(workplace.iterdir())


@pytest.mark.slow
def test_workers_know_the_directory_environment_and_path_of_now(kdlab, workplace, monkeypatch):
    """The warm process was started elsewhere, before this test; the user's module is here."""
    (workplace / "my_strategy.py").write_text(
        "from tests.sweep.trouble import Counting\n\n\nclass Mine(Counting):\n    pass\n"
    )
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "from the test")
    code, out, err = kdlab("train", "-m", *SHORT, "strategy._target_=my_strategy.Mine", "seed=1,2")
    assert code == 0, out + err
    assert sorted(Path("began.txt").read_text().splitlines()) == [
        f"seed {seed} devices from the test cwd {workplace}" for seed in (1, 2)
    ]


@pytest.mark.slow
def test_what_a_job_prints_stands_in_its_run(kdlab, workplace):
    kdlab("train", "-m", *SHORT, "seed=1,2")
    for run in find_runs(["runs"]):
        assert "test accuracy" in (run.path / "output.txt").read_text()


@pytest.mark.slow
def test_a_run_that_another_process_trains_is_come_back_to(workplace, forked, kdlab):
    """Two sweeps over the same seeds, begun together: each run is trained once, by one of them, and both end well."""
    first = forked(
        _sweep, workplace, [*trouble("Slow"), "trainer.max_epochs=8", "seed=1,2", "hydra.launcher.workers=1"]
    )
    deadline = time.monotonic() + 60
    while not Path("began.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    code, out, err = kdlab(
        "train", "-m", *trouble("Slow"), "trainer.max_epochs=8", "seed=1,2", "hydra.launcher.workers=1"
    )
    first.join(timeout=120)
    assert code == 0 and first.exitcode == 0 and statuses() == {1: "finished", 2: "finished"}
    assert sorted(line[:6] for line in Path("began.txt").read_text().splitlines()) == ["seed 1", "seed 2"]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_an_interrupted_sweep_ends_its_jobs_and_says_how_to_go_on(workplace, sent):
    arguments = [*trouble("Slow"), "trainer.max_epochs=300", "seed=1,2,3", "hydra.launcher.workers=2"]
    process = subprocess.Popen(
        [*SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 120
    while (
        len(list(workplace.glob("runs/quickstart/*/checkpoints/last.ckpt"))) < 2
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.05)
    os.killpg(process.pid, sent)  # as a terminal does, and Slurm: to all of them
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command resumes" in err and "Traceback" not in err
    assert rows(out) == {"seed=1": "interrupted", "seed=2": "interrupted", "seed=3": "not started"}
    assert statuses() == {1: "interrupted", 2: "interrupted"}


@pytest.mark.slow
def test_a_job_whose_own_code_raises_keyboard_interrupt_ends_the_sweep_as_ctrl_c_does(kdlab, workplace):
    code, out, err = kdlab("train", "-m", *trouble("InterruptedLater"), "seed=1,2,3", "hydra.launcher.workers=1")
    assert code == 130 and err == "kdlab: interrupted; the same command resumes from the last checkpoint\n"
    assert rows(out) == {"seed=1": "trained", "seed=2": "interrupted", "seed=3": "not started"}
    assert "interrupted seed=2" in out and "its own code raised KeyboardInterrupt" in out
    assert statuses() == {1: "finished", 2: "interrupted"}


@pytest.mark.slow
def test_workers_end_with_their_launcher(workplace):
    """Killed, it can tell them nothing; their runs are free for the next one at once."""
    arguments = [*trouble("Slow"), "trainer.max_epochs=300", "seed=1,2", "hydra.launcher.workers=2"]
    process = subprocess.Popen(
        [*SCRIPT, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 120
    while len(list(workplace.glob("runs/quickstart/*/checkpoints/last.ckpt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    runs = list(find_runs(["runs"]))
    deadline = time.monotonic() + 10
    while any(run.being_trained for run in runs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(runs) == 2 and not any(run.being_trained for run in runs)
    before = [run.metrics_file.read_text() for run in runs]
    time.sleep(0.5)
    assert [run.metrics_file.read_text() for run in runs] == before


@pytest.mark.slow
def test_two_processes_a_job(kdlab, workplace):
    """Each job is trained once, by two ranks that were forked warm, and comes to what one process comes to."""
    common = [*trouble("Counting"), "data.drop_last=false", "seed=1,2"]
    code, out, err = kdlab("train", "-m", *common, "trainer=ddp_cpu", "name=two")
    assert code == 0, out + err
    # a line a rank
    assert sorted(line[:6] for line in Path("began.txt").read_text().splitlines()) == ["seed 1"] * 2 + ["seed 2"] * 2
    assert kdlab("train", "-m", *common, "name=one")[0] == 0
    losses = {
        name: {run.record["seed"]: run.metrics["train/loss"] for run in find_runs([f"runs/{name}"])}
        for name in ("one", "two")
    }
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-5)


def _sweep(folder, arguments):
    from kdlab.cli.main import main

    os.chdir(folder)
    raise SystemExit(main(["train", "-m", *arguments]))


@pytest.mark.slow
def test_a_record_that_was_cut_short_is_the_failure_of_one_job(kdlab, workplace):
    assert kdlab("train", "-m", *SHORT, "seed=1,2,3")[0] == 0
    damaged = next(run for run in find_runs(["runs"]) if run.record["seed"] == 2)
    text = (damaged.path / "run.json").read_text()
    (damaged.path / "run.json").write_text(text[: len(text) // 2])
    code, out, err = kdlab("train", "-m", *SHORT, "seed=1,2,3")
    assert code == 2 and "run.json" in err and "move" in err and str(damaged.path) in err
    assert {
        json.loads((path).read_text())["status"]
        for path in Path("runs").glob("*/*/run.json")
        if path.parent != damaged.path
    } == {"finished"}


@pytest.mark.slow
def test_a_sweep_over_names_trains_into_each_folder(kdlab, workplace):
    code, out, err = kdlab("train", "-m", *SHORT, "name=a,b")
    assert code == 0 and list(rows(out).values()) == ["trained", "trained"]
    assert [statuses(f"runs/{name}") for name in "ab"] == [{1: "finished"}, {1: "finished"}]


@pytest.mark.slow
def test_labels_are_shown_as_they_are(kdlab, workplace):
    """Brackets are no markup."""
    code, out, err = kdlab(
        "train", "-m", "loss=[ce],[ce,logit_mse]", "trainer.max_epochs=1", 'teacher.overrides=["trainer.max_epochs=2"]'
    )
    assert code == 0 and set(rows(out)) == {"loss=[ce]", "loss=[ce,logit_mse]"}


@pytest.mark.slow
def test_fail_fast_names_every_job_also_one_that_is_the_same_run(kdlab, workplace):
    code, out, err = kdlab(
        "train",
        "-m",
        *trouble("Unlucky"),
        "seed=2",
        "data.fraction=1,1.0,0.5",
        "hydra.launcher.workers=1",
        "hydra.launcher.fail_fast=true",
    )
    assert code == 1 and "Traceback" not in out + err
    assert rows(out)["data.fraction=1"] == "failed" and len(rows(out)) == 3


@pytest.mark.slow
def test_a_teacher_that_changes_while_the_sweep_runs_is_told_and_the_others_go_on(workplace, taught, forked):
    """The first job is trained with the file as it was; the second is refused, not credited to a run that it is not."""
    import shutil

    shutil.copytree(taught.path, workplace / "mine")
    other = package.train(
        ["experiment=teacher/digits", "trainer.max_epochs=1", "seed=5", "paths.runs=other", "progress=none"]
    )
    arguments = [
        "teacher=checkpoint",
        "teacher.checkpoint=mine/checkpoints/last.ckpt",
        "trainer.max_epochs=25",
        "seed=1,2",
        "hydra.launcher.workers=1",
    ]
    process = forked(_sweep, workplace, arguments)
    deadline = time.monotonic() + 60
    while not list(Path("runs/quickstart").glob("*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    shutil.copy(other.checkpoint("last"), "mine/checkpoints/last.ckpt")
    process.join(timeout=120)
    assert process.exitcode == 1 and statuses() == {1: "finished"}
    again = package.train([*arguments[:3], "seed=1", "progress=none"])
    assert len(list(find_runs(["runs"]))) == 2 and again.record["resumed"] == [], (
        "the changed teacher makes another run, which is trained"
    )
