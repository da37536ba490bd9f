"""What a person sees of a sweep."""

import io
from pathlib import Path

from rich.console import Console

from kdlab.sweep.job import FAILED, FOUND, NOT_STARTED, PRUNED, REFUSED, TRAINED, Job, Outcome
from kdlab.sweep.view import View


def jobs(count: int) -> list[Job]:
    return [Job(f"seed={number}", [], {}, f"hash{number}", number=number) for number in range(1, count + 1)]


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=140, color_system=None)


def test_a_line_a_job_where_there_is_no_terminal():
    (first, second, third), screen = jobs(3), console(False)
    with View(3, "test/accuracy", console=screen) as view:
        view.started(first)
        view.row(first, 1, 2, {"train/loss": 0.5})
        view.ended(Outcome(first, TRAINED, Path("runs/x"), "", 1.25, {"test/accuracy": 0.5}))
        view.ended(Outcome(second, FOUND, Path("runs/y"), "", None, {"test/accuracy": 0.6}))
        view.ended(
            Outcome(
                third,
                FAILED,
                Path("runs/z"),
                "Traceback (most recent call last):\n  File\nRuntimeError: out of luck",
                0.5,
            )
        )
    assert screen.file.getvalue().splitlines() == [
        "[1/3] trained seed=1  accuracy 0.5000  1.2 s",
        "[3/3] failed seed=3  0.5 s  RuntimeError: out of luck",
    ]


def test_a_teacher_that_jobs_share_is_named_once():
    screen = console(False)
    with View(2, "test/accuracy", console=screen) as view:
        for line in ("teacher: a, accuracy 0.9 on validation", "teacher: a, accuracy 0.9 on validation", "teacher: b"):
            view.told(line)
    assert screen.file.getvalue().splitlines() == ["teacher: a, accuracy 0.9 on validation", "teacher: b"]
    silent = console(False)
    View(2, "test/accuracy", "none", console=silent).told("teacher: a")
    assert silent.file.getvalue() == ""


def test_the_live_picture_counts_and_tells_the_time_left():
    (first, second, third, _), screen = jobs(4), console(True)
    with View(4, "test/accuracy", console=screen) as view:
        assert view.left() is None
        view.started(first)
        view.ended(Outcome(first, TRAINED, Path("runs/x"), "", 10.0, {"test/accuracy": 0.5}))
        view.started(second)
        view.started(third)
        view.row(second, 3, 8, {"train/loss": 0.25, "val/accuracy": 0.75})
        # three to go, two at a time, 10 s each
        assert view.left() == 15.0 and view.summary() == "1 of 4 done, 2 running, about 15 s left"
        view.row(third, 200, 300, {"train/loss": 0.5}, "step")
        view.tick()
        view.ended(Outcome(third, FAILED, None, "out of luck", 1.0))
        assert view.summary() == "1 of 4 done, 1 running, 1 failed, about 20 s left"
    shown = screen.file.getvalue()
    assert "epoch 3/8" in shown and "step 200/300" in shown and "val/accuracy 0.7500" in shown and "seed=3" in shown


def test_a_pruned_job_is_done_and_one_that_was_refused_has_failed():
    view = View(4, "test/accuracy", console=console(False), progress="none")
    for job, status in zip(jobs(3), (FOUND, PRUNED, REFUSED)):
        view.ended(Outcome(job, status))
    assert view.summary() == "2 of 4 done, 0 running, 1 failed"


def test_the_table_names_every_job_in_order():
    (first, second, third), screen = jobs(3), console(False)
    teacher = Job("teacher/digits (seed 1)", [], {"name": "teachers", "paths": {"runs": "runs"}}, "hash0")
    View(3, "test/accuracy", console=screen).table(
        [
            Outcome(second, FAILED, None, "its data are gone"),
            Outcome(first, TRAINED, Path("runs/x"), "", 1.0, {"test/accuracy": 0.5}),
            Outcome(teacher, TRAINED, Path("runs/t"), "", 2.0, {"test/accuracy": 0.9}),
            Outcome(third, NOT_STARTED),
        ]
    )
    head, *lines = [line.split() for line in screen.file.getvalue().splitlines()]
    assert head == ["job", "status", "test/accuracy", "seconds", "run"]
    assert [line[0] for line in lines] == ["teacher", "1", "2", "3"]
    assert lines[1] == ["1", "seed=1", "trained", "0.5000", "1.0", "runs/x"] and lines[2][2:] == [
        "failed",
        "its",
        "data",
        "are",
        "gone",
    ]


def test_runs_of_two_tasks_show_each_its_own_headline():
    (first, second), screen = jobs(2), console(False)
    second.config["task"] = {"_target_": "kdlab.tasks.Regression"}
    outcomes = [
        Outcome(first, TRAINED, Path("runs/x"), "", 1.0, {"test/accuracy": 0.5}),
        Outcome(second, TRAINED, Path("runs/y"), "", 1.0, {"test/mse": 0.25, "test/accuracy": 0.75}),
    ]
    with View(2, None, console=screen) as view:
        for outcome in outcomes:
            view.ended(outcome)
    view.table(outcomes)
    assert [line.split() for line in screen.file.getvalue().splitlines()] == [
        ["[1/2]", "trained", "seed=1", "accuracy", "0.5000", "1.0", "s"],
        ["[2/2]", "trained", "seed=2", "mse", "0.2500", "1.0", "s"],
        ["job", "status", "test", "seconds", "run"],
        ["1", "seed=1", "trained", "accuracy", "0.5000", "1.0", "runs/x"],
        ["2", "seed=2", "trained", "mse", "0.2500", "1.0", "runs/y"],
    ]
    view.table(outcomes[1:])
    assert screen.file.getvalue().splitlines()[-2].split() == ["job", "status", "test/mse", "seconds", "run"]
