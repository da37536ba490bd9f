"""``ensure_stacked(configs)``: the runs of several configs, trained together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from kdlab.data import Data
from kdlab.errors import KdlabError, told
from kdlab.launch.devices import evaluation_device, threads
from kdlab.launch.ranks import refuse_other_launchers
from kdlab.runs.curve import Observe
from kdlab.runs.run import INTERRUPTED

from .assemble import Parts
from .ensure import locked, prepared
from .execute import quiet
from .plan import Plan
from .recording import Say, evaluated, failed, keep_training_answers, opened, say_results
from .stacked import Member, fit_stacked
from .trial import Trial, tried

#: called when a run has ended: its number, and the exception that ended it; None: it is finished
Ended = Callable[[int, BaseException | None], None]


@dataclass(eq=False)
class _Begun:
    """A run that takes part.

    Args:
        before: the seconds that it took before it was resumed.
        began: when it was begun, or resumed now (``time.perf_counter``).
        begun_now: whether it had no directory before.
        stacked: what its record says of the stack.
        saved: the seconds that a step saves.
        saved_before: the seconds that were saved before it was resumed.
    """

    number: int
    plan: Plan
    parts: Parts
    teacher: dict | None
    member: Member | None = None
    before: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    begun_now: bool = False
    stacked: dict | None = None
    saved: float = 0.0
    saved_before: float = 0.0


def ensure_stacked(
    configs: Sequence[dict],
    observes: Sequence[Observe | None],
    ended: Ended,
    say: Say = print,
    say_of_teacher: Say | None = None,
    always: bool = False,
    begun: Callable[[int, float], None] = lambda runs, faster: None,
) -> Trial:
    """Train the runs of several configs together, as :func:`kdlab.training.ensure.ensure` trains each alone. Each is
    recorded, resumed, evaluated and fails by itself. Their teachers must be trained.

    Args:
        configs: composed and plain. They differ in numbers of the loss, in the optimiser's learning rate and weight
            decay, and in the seed.
        observes: of each run: called at the end of every epoch.
        ended: called for each run that was trained or cannot be. It is not called for the others where they are not
            stacked.
        always: stack also where it does not pay.
        begun: called before the first step with the number of runs, and how many times faster a step was in the trial.

    Returns:
        What a trial found. Where it says why not, the runs for which ``ended`` was not called are to be trained alone:
        nothing of them was begun, or their common training failed, and their finished epochs are kept.

    Raises:
        KeyboardInterrupt: the user stopped it; finished epochs are kept.
    """
    quiet()
    with threads(configs[0]["threads"]), torch.random.fork_rng(devices=[]), contextlib.ExitStack() as locks:
        found = [_prepared(number, config, ended, say, say_of_teacher) for number, config in enumerate(configs)]
        runs = [one for one in found if one is not None]
        if len(runs) < 2:
            return Trial("fewer than two runs are left")
        for one in runs:
            if isinstance(one.parts.data, Data):
                one.parts.data.share_samples(runs[0].parts.data)
            if one.parts.caching is not None:
                one.parts.caching.fill("train", say)
        trial = tried([one.parts for one in runs], evaluation_device(configs[0]), always)
        if trial.why_not:
            return trial
        opened_runs: list[_Begun] = []
        stopped: BaseException | None = None
        try:
            for one in runs:
                if _opened(one, locks, observes[one.number], ended, say):
                    opened_runs.append(one)
            if len(opened_runs) < 2:
                return replace(trial, why_not=_left(opened_runs))
            begun(len(opened_runs), trial.faster or 1.0)
            saved = (trial.saved or 0.0) / len(runs)  # by a step of each run
            _train(opened_runs, trial, saved)
        except BaseException as error:
            stopped = error
        apart: BaseException | None = None
        for one in opened_runs:
            problem = _finished(one, stopped, say)
            if one.member is not None and one.member.of_all and stopped is None:
                apart = one.member.error
                continue
            ended(one.number, problem)
            if isinstance(problem, KeyboardInterrupt):
                stopped = problem
        if stopped is not None:
            raise stopped
        if apart is not None:
            why = f"their common training failed ({told(apart).rstrip('.')})"
            return replace(trial, why_not=f"{why}; each goes on alone, from its last finished epoch")
    return trial


def _prepared(number: int, config: dict, ended: Ended, say: Say, say_of_teacher: Say | None) -> _Begun | None:
    """A run's parts; None where it is finished already, or cannot be trained."""
    try:
        plan = Plan.of(config)
        run = plan.run()
        if run.finished and not config["fresh"]:
            plan.note(run)
            ended(number, None)
            return None
        refuse_other_launchers(config)
        return _Begun(number, plan, *prepared(config, say, "", say_of_teacher))
    except Exception as error:  # the user's own code may fail in any way
        ended(number, error)
        return None


def _train(runs: Sequence[_Begun], trial: Trial, saved: float) -> None:
    """Train runs that are open. ``saved``: the seconds that a step together saves each of them."""
    members = []
    for one in runs:
        member = one.member
        assert member is not None
        one.stacked = {"runs": len(runs), "times_faster": trial.faster, "saved_seconds": 0.0}
        one.saved = saved
        try:
            one.saved_before = (member.run.read().stacked or {}).get("saved_seconds", 0.0)
            _record(one)
            members.append(member)
        except Exception as error:  # such as a full disk
            member.error = error
    fit_stacked(members, trial.together)


def _record(one: _Begun) -> None:
    """Write into a run that it was trained with others, and its share of the time that this has saved so far."""
    assert one.member is not None
    if one.stacked is not None:
        saved = one.saved_before + one.saved * one.member.steps
        one.member.run.update(stacked={**one.stacked, "saved_seconds": saved})


def _left(runs: Sequence[_Begun]) -> str:
    """Why the others are not trained together where fewer than two could be begun. What was begun of one is taken back,
    or has the status of a run that was interrupted."""
    for one in runs:
        assert one.member is not None
        if one.begun_now:
            one.member.run.clear()
        else:
            one.member.run.update(status=INTERRUPTED)
    return "fewer than two runs could be begun"


def _opened(one: _Begun, locks: contextlib.ExitStack, observe: Observe | None, ended: Ended, say: Say) -> bool:
    """Lock and begin a run. Returns False where that is not possible."""
    run, config = one.plan.run(), one.plan.config
    try:
        locks.enter_context(locked(run, None, shared=True))
        run = one.plan.run()
        if run.finished and not config["fresh"]:  # another process was faster
            ended(one.number, None)
            return False
        one.begun_now = not run.path.exists() or config["fresh"] and not run.begun_afresh
        one.before = opened(one.plan, run, one.parts, one.teacher, say)
    except KdlabError as error:
        ended(one.number, error)
        return False
    one.began = time.perf_counter()
    try:
        keep_training_answers(run, one.parts, say)
    except BaseException as error:
        problem = failed(run, error, config, one.before, one.began)
        ended(one.number, problem)
        if problem is error:  # the user stopped it
            raise
        return False
    one.member = Member(config, run, one.parts, "", observe)
    return True


def _finished(one: _Begun, stopped: BaseException | None, say: Say) -> BaseException | None:
    """Evaluate a trained run, or record why it failed. Returns the exception; None where it is finished."""
    member = one.member
    assert member is not None
    error = member.error or stopped
    try:
        try:
            _record(one)
        except Exception as unwritten:  # such as a full disk
            error = error or unwritten
        if error is not None:
            raise error
        found = evaluated(member.config, member.run, one.parts, one.teacher, one.before, one.began)
    except BaseException as problem:
        return failed(member.run, problem, member.config, one.before, one.began)
    one.plan.note(member.run)
    say_results(member.config, member.run, one.parts, found, say)
    return None
