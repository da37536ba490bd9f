"""The jobs of a sweep are checked before the first begins; one that ends the process that checks it is the failure of
that job alone."""

import re
from types import SimpleNamespace

import pytest

from kdlab.config.compose import compose
from kdlab.runs.run import find_runs
from kdlab.sweep import plan
from kdlab.sweep.job import Need
from tests.data.images.pictures import folder_of_pictures

SHORT = ["strategy=supervised", "trainer.max_epochs=1"]
DIES = "student._target_=tests.sweep.trouble.Dies"
KILLED = "killed by signal 9 (the system does so when memory runs out) while the job was checked"


def rows(out: str) -> dict[str, str]:
    """The table at the end: job -> status."""
    return {
        found[1].strip(): found[2]
        for found in re.finditer(r"^ *\d+  (.+?)  +(trained|found|failed|refused|not started) ", out, re.M)
    }


def test_a_job_that_dies_while_it_is_checked_is_named_and_the_rest_is_trained(kdlab, workplace):
    code, out, err = kdlab(
        "train", "-m", *SHORT, "student._target_=tests.sweep.trouble.Dies,kdlab.models.MLP", "seed=1,2"
    )
    assert code == 1 and "2 of the 4 jobs failed" in err and "Traceback" not in out + err
    assert rows(out) == {
        f"{DIES} seed=1": "failed",
        f"{DIES} seed=2": "failed",
        "student._target_=kdlab.models.MLP seed=1": "trained",
        "student._target_=kdlab.models.MLP seed=2": "trained",
    }
    assert out.count(f"failed {DIES} seed=1  its process was {KILLED}") == 1
    assert [run.status for run in find_runs(["runs"])] == ["finished"] * 2


def test_a_constructor_that_raises_keyboard_interrupt_ends_the_sweep_as_ctrl_c_does(kdlab, workplace):
    code, out, err = kdlab("train", "-m", *SHORT, "student._target_=tests.sweep.trouble.Interrupted", "seed=1,2")
    assert code == 130 and err == "kdlab: interrupted; the same command resumes from the last checkpoint\n"
    assert rows(out) == {} and not (workplace / "runs").exists()


@pytest.mark.parametrize(
    "by, words",
    [("SIGSEGV", "killed by signal 11 (SIGSEGV) while"), ("exit", "its process ended with exit code 0 while")],
)
def test_every_job_may_die(kdlab, workplace, by, words):
    """The input was not found bad, so it is a failure (1), although nothing was begun."""
    code, out, err = kdlab("train", "-m", *SHORT, DIES, f"+student.by={by}", "seed=1,2")
    assert (
        code == 1
        and out.count(f"  its process was {words}" if by != "exit" else f"  {words}") >= 2
        and "2 of the 2 jobs failed" in err
    )
    assert list(rows(out).values()) == ["failed"] * 2 and not list(find_runs(["runs"]))


def test_a_module_that_dies_when_it_is_imported(kdlab, workplace, monkeypatch):
    (workplace / "dies_at_import.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    monkeypatch.syspath_prepend(str(workplace))
    code, out, err = kdlab("train", "-m", *SHORT, "student._target_=kdlab.models.MLP,dies_at_import.Network")
    assert code == 1 and rows(out) == {
        "student._target_=kdlab.models.MLP": "trained",
        "student._target_=dies_at_import.Network": "failed",
    }
    assert KILLED in out


def test_with_bad_input_beside_it_nothing_is_begun_and_both_are_named(kdlab, workplace):
    code, out, err = kdlab("train", "-m", *SHORT, DIES, "optimizer.lr=0.01,-1")
    assert (
        code == 2
        and "optimizer.lr" in err
        and f"its process was {KILLED}" in err
        and "No job was started: none of the 2 can be run" in err
    )
    assert not (workplace / "runs").exists()


def test_a_job_is_given_up_only_where_it_dies_in_a_process_of_its_own(kdlab, workplace):
    code, out, err = kdlab(
        "train", "-m", *SHORT, "student._target_=tests.sweep.trouble.DiesAfterAnother", "student.hidden=[8],[9]"
    )
    assert code == 0, out + err
    assert [run.status for run in find_runs(["runs"])] == ["finished"] * 2


def test_a_job_whose_teacher_dies_when_it_is_tried(kdlab, workplace):
    """Its students' check asks a stand-in of the teacher, which dies; a student without a teacher is trained."""
    dies, lives = '["student._target_=tests.sweep.trouble.Dies"]', '["trainer.max_epochs=2"]'
    code, out, err = kdlab("train", "-m", "trainer.max_epochs=1", f"teacher.overrides={dies},{lives}")
    assert code == 1 and rows(out) == {
        f"teacher.overrides={dies}": "failed",
        f"teacher.overrides={lives}": "trained",
    }, out + err
    assert KILLED in out and "Traceback" not in out + err


def test_a_trial_that_dies_while_it_is_checked_fails_and_the_search_goes_on(kdlab, workplace):
    pytest.importorskip("optuna")
    code, out, err = kdlab(
        "train",
        "-m",
        "hydra/sweeper=optuna",
        *SHORT,
        "student._target_=kdlab.models.MLP,tests.sweep.trouble.Dies",
        "hydra.sweeper.trials=4",
        "hydra.sweeper.sampler=random",
        "hydra.launcher.workers=1",
    )
    states = re.findall(r" (complete|fail) ", out)
    assert (
        code == 1 and sorted(set(states)) == ["complete", "fail"] and len(states) == 4 and "Traceback" not in out + err
    )
    assert KILLED in out and f"{states.count('fail')} of the 4 trials failed" in err


def test_a_check_that_takes_long_says_what_it_is_at(kdlab, workplace, monkeypatch):
    monkeypatch.setattr(plan, "SECONDS_TO_WAIT", 0.0)
    code, out, err = kdlab("train", "-m", *SHORT, "seed=1,2")
    assert code == 0 and "still checking seed=1\n" in out


def test_a_line_about_the_data_is_printed_once_in_all_plans_of_a_search(workplace, capsys):
    pictures = folder_of_pictures(workplace / "pictures")
    next((pictures / "train").iterdir()).joinpath("a.heic").write_bytes(b"x")
    overrides = [
        "data=image_folder",
        "data.folder=pictures",
        "data.classes=3",
        "data.size=8",
        "data.batch_size=4",
        "data.validation=0.25",
        "data.workers=0",
        "student=mlp",
        "teacher=none",
        "strategy=supervised",
    ]
    printed = set()
    for rate in ("0.1", "0.2"):
        planned = plan.plan([overrides], [compose([*overrides, f"optimizer.lr={rate}"])], printed=printed)
        assert len(planned.jobs) == 1 and len(printed) == 1
    assert capsys.readouterr().out.count("left out: 1 file (.heic 1)") == 1


def test_with_fresh_a_finished_run_is_examined_like_any_other(monkeypatch):
    """Its need and its teachers are known from the examination alone."""
    found = SimpleNamespace(hash="found")
    described = {"digest": "examined", "need": Need(3), "earlier": [], "gpus": 0, "metrics": set()}
    monkeypatch.setattr(plan.known, "key_of", lambda config: "key")
    monkeypatch.setattr(plan.known, "finished", lambda config, key: found)
    answer = plan._Answer(description=described)
    monkeypatch.setattr(plan, "_examined", lambda configs, labels: [answer for _ in configs])
    jobs = plan.plan([["seed=1"], ["seed=2"]], [{"fresh": False}, {"fresh": True}]).jobs
    assert [(job.digest, job.need) for job in jobs] == [("found", Need()), ("examined", Need(3))]
