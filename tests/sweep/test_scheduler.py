"""What the scheduler makes of jobs and of how they end. The processes are stand-ins that end at once."""

import itertools
from pathlib import Path

import pytest

from kdlab.runs.run import Run
from kdlab.sweep import scheduler
from kdlab.sweep.job import FAILED, FOUND, NOT_STARTED, REFUSED, TRAINED, Job
from kdlab.sweep.scheduler import Grid, Scheduler
from kdlab.sweep.slots import Slots
from kdlab.sweep.stacked_worker import work_stacked
from kdlab.sweep.worker import BUSY

KILLED = None  # in place of an end: the process is killed before it says one


class Named(Job):
    """A job whose run lies in a folder of the name of its hash."""

    @property
    def run(self) -> Run:
        return Run(Path(self.config["paths"]["runs"]) / self.digest)


class Process:
    exitcode = -9

    def join(self, timeout=None):
        pass

    def is_alive(self):
        return False

    def terminate(self):
        pass


class Watched:
    """A view that remembers the lines that it was told, and ends a scheduler that waits for nothing."""

    def __init__(self):
        self.lines, self._ticks = [], itertools.count()

    def tick(self):
        assert next(self._ticks) < 40, "it waits, and nothing is at work"

    def told(self, line):
        self.lines.append(line)

    def __getattr__(self, name):
        return lambda *arguments: None


@pytest.fixture
def job(tmp_path):
    """Makes a job. Those of one ``digest`` are the same run."""
    numbers = itertools.count(1)

    def make(label, earlier=(), digest=None, fresh=False, number=True):
        config = {"paths": {"runs": str(tmp_path)}, "name": "sweep", "fresh": fresh}
        return Named(
            label, [], config, digest or label, earlier=list(earlier), number=next(numbers) if number else None
        )

    return make


@pytest.fixture
def scheduled(monkeypatch):
    """Schedules jobs, one at a time. ``ends``: how each attempt at a job ends, by its name; otherwise it is trained."""
    monkeypatch.setattr(scheduler, "PAUSE", 0.01)

    def run(*jobs, retry=0, fail_fast=False, ends=None):
        begun, ends, runs = (
            [],
            {name: list(statuses) for name, statuses in (ends or {}).items()},
            {job.digest: job.run for job in all_of(jobs)},
        )

        def start(function, config, digest, output, line, *others, name, variables):
            begun.append(name)
            if function is work_stacked:
                return start_stack(config, digest, line)
            status = ends[name].pop(0) if ends.get(name) else TRAINED
            record = {"format": 1, "hash": digest, "group": "", "metrics": {"val/accuracy": 0.5}, "durations": {}}
            if status in (TRAINED, KILLED):
                runs[digest].begin(config, {**record, "status": "finished" if status == TRAINED else "running"})
            if status is not KILLED:
                line.send(("end", status, "" if status == TRAINED else "out of luck"))
            return Process()

        def start_stack(configs, digests, line):
            """The first job is trained; then the process of all is killed."""
            for number, (config, digest) in enumerate(zip(configs, digests)):
                record = {"format": 1, "hash": digest, "group": "", "metrics": {}, "durations": {}}
                runs[digest].begin(config, {**record, "status": "running" if number else "finished"})
            line.send(("of", 0, "end", TRAINED, ""))
            return Process()

        monkeypatch.setattr(scheduler.processes, "start", start)
        view = Watched()
        outcomes = Scheduler(Grid(jobs), Slots(cores=4, workers=1), view, retry, fail_fast).run()
        run.lines = view.lines
        return begun, [(outcome.job.label, outcome.status) for outcome in outcomes], outcomes

    return run


def all_of(jobs):
    return [*jobs, *(one for job in jobs for one in all_of(job.earlier))]


def test_jobs_are_trained_one_after_the_other_where_there_is_one_slot(job, scheduled):
    begun, ended, outcomes = scheduled(job("a"), job("b"), job("c"))
    assert begun == ["a", "b", "c"] and ended == [("a", TRAINED), ("b", TRAINED), ("c", TRAINED)]
    assert outcomes[0].metrics == {"val/accuracy": 0.5}


@pytest.mark.parametrize("end, other", [(TRAINED, FOUND), (FAILED, FAILED), (REFUSED, REFUSED)])
def test_a_job_that_is_the_same_run_ends_as_the_first_did(job, scheduled, end, other):
    begun, ended, outcomes = scheduled(job("a", digest="0"), job("b", digest="0"), ends={"a": [end]})
    assert begun == ["a"] and ended == [("a", end), ("b", other)]
    assert outcomes[1].message == ("the same run as a" if end == TRAINED else "out of luck")


def test_what_is_finished_is_found_and_with_fresh_trained_anew(job, scheduled):
    scheduled(job("a"))
    assert scheduled(job("a"))[:2] == ([], [("a", FOUND)])
    assert scheduled(job("a", fresh=True))[:2] == (["a"], [("a", TRAINED)])


@pytest.mark.parametrize("end, students", [(TRAINED, TRAINED), (FAILED, FAILED), (REFUSED, REFUSED)])
def test_a_student_is_begun_only_if_its_teacher_is_there(job, scheduled, end, students):
    teacher = job("wide", number=False)
    begun, ended, outcomes = scheduled(job("a", [teacher]), job("b", [teacher]), job("c"), ends={"teacher wide": [end]})
    assert sorted(ended) == [("a", students), ("b", students), ("c", TRAINED), ("wide", end)]
    assert sorted(begun) == (["a", "b", "c", "teacher wide"] if end == TRAINED else ["c", "teacher wide"])
    told = {outcome.message for outcome in outcomes if outcome.job.label in ("a", "b")}
    assert told == {"" if end == TRAINED else "its teacher wide came to nothing: out of luck"}


@pytest.mark.parametrize("retry", [0, 1, 2])
def test_a_job_that_fails_is_tried_again_as_often_as_was_said(job, scheduled, retry):
    begun, ended, _ = scheduled(job("a"), retry=retry, ends={"a": [FAILED] * 9})
    assert begun == ["a"] * (1 + retry) and ended == [("a", FAILED)]
    assert scheduled(job("b"), retry=retry, ends={"b": [FAILED] * retry})[1] == [("b", TRAINED)]
    assert scheduled(job("c"), retry=retry, ends={"c": [REFUSED] * 9})[0] == ["c"], "bad input stays bad"


def test_a_run_that_another_process_trains_is_come_back_to_and_that_is_no_attempt(job, scheduled):
    begun, ended, _ = scheduled(job("a"), retry=1, ends={"a": [BUSY, BUSY, FAILED]})
    assert begun == ["a"] * 4 and ended == [("a", TRAINED)]
    begun, ended, _ = scheduled(job("b"), ends={"b": [BUSY, FAILED]})
    assert begun == ["b"] * 2 and ended == [("b", FAILED)]


@pytest.mark.parametrize("end", [FAILED, REFUSED])
def test_others_go_on_unless_the_first_failure_is_to_end_it(job, scheduled, end):
    jobs = [job("a"), job("b"), job("c")]
    begun, ended, _ = scheduled(*jobs, ends={"a": [end]})
    assert begun == ["a", "b", "c"] and ended == [("a", end), ("b", TRAINED), ("c", TRAINED)]
    jobs = [job("d"), job("e"), job("f")]
    begun, ended, _ = scheduled(*jobs, ends={"d": [end]}, fail_fast=True)
    assert begun == ["d"] and ended == [("d", end), ("e", NOT_STARTED), ("f", NOT_STARTED)]


def test_a_run_whose_process_was_killed_is_told_so(job, scheduled):
    _, ended, (outcome,) = scheduled(job("a"), ends={"a": [KILLED]})
    assert ended == [("a", FAILED)] and outcome.message.startswith("its process was killed by signal 9")
    run = outcome.job.run
    assert run.status == "failed" and run.record["error"].startswith("its process was killed by signal 9")
    assert (run.path / "error.txt").read_text().startswith("its process was killed by signal 9")


@pytest.mark.parametrize("end", [TRAINED, FAILED])
def test_jobs_of_a_stack_that_was_killed_go_on_alone(job, scheduled, end):
    jobs = [job("a"), job("b"), job("c")]
    for one in jobs:
        one.stack = jobs
    begun, ended, outcomes = scheduled(*jobs, ends={"b": [KILLED if end == FAILED else TRAINED]})
    assert begun == ["a", "b", "c"], "a is the name of the stack"
    assert ended == [("a", TRAINED), ("b", end), ("c", TRAINED)]
    (line,) = scheduled.lines
    assert line.startswith("not stacked: 2 jobs (b, …): its process was killed by signal 9")
    assert line.endswith("; each goes on alone, from its last finished epoch")
    assert outcomes[1].job.run.status == ("failed" if end == FAILED else "finished")
