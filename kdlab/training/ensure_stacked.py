"""``ensure_stacked(configs)``: the runs of several configs, trained together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from kdlab.data import Data
from kdlab.errors import KdlabError
from kdlab.launch.devices import evaluation_device, threads
from kdlab.launch.ranks import refuse_other_launchers
from kdlab.runs.curve import Observe

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
    """A run that takes part."""

    number: int
    plan: Plan
    parts: Parts
    teacher: dict | None
    member: Member | None = None
    before: float = 0.0
    began: float = field(default_factory=time.perf_counter)


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
        What a trial found. Where it says why not, nothing was begun.

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
        runs = [one for one in runs if _opened(one, locks, observes[one.number], ended, say)]
        members = [one.member for one in runs if one.member is not None]
        begun(len(members), trial.faster or 1.0)
        _record(members, trial)
        stopped: BaseException | None = None
        try:
            fit_stacked(members, trial.together)
        except BaseException as error:
            stopped = error
        _record(members, trial)
        for one in runs:
            problem = _finished(one, stopped, say)
            ended(one.number, problem)
            if isinstance(problem, KeyboardInterrupt):
                stopped = problem
        if stopped is not None:
            raise stopped
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


def _record(members: Sequence[Member], trial: Trial) -> None:
    """Write into each run that it was trained with others, and its share of the time that this saved so far."""
    for member in members:
        member.run.update(
            stacked={
                "runs": len(members),
                "times_faster": trial.faster,
                "saved_seconds": (trial.saved or 0.0) * member.steps / len(members),
            }
        )


def _opened(one: _Begun, locks: contextlib.ExitStack, observe: Observe | None, ended: Ended, say: Say) -> bool:
    """Lock and begin a run. Returns False where that is not possible."""
    run, config = one.plan.run(), one.plan.config
    try:
        locks.enter_context(locked(run, None, shared=True))
        run = one.plan.run()
        if run.finished and not config["fresh"]:  # another process was faster
            ended(one.number, None)
            return False
        one.before = opened(one.plan, run, one.parts, one.teacher, say)
    except KdlabError as error:
        ended(one.number, error)
        return False
    one.began = time.perf_counter()
    try:
        keep_training_answers(run, one.parts, say)
    except Exception as error:
        ended(one.number, failed(run, error, config, one.before, one.began))
        return False
    one.member = Member(config, run, one.parts, "", observe)
    return True


def _finished(one: _Begun, stopped: BaseException | None, say: Say) -> BaseException | None:
    """Evaluate a trained run, or record why it failed. Returns the exception; None where it is finished."""
    member = one.member
    assert member is not None
    error = member.error or stopped
    try:
        if error is not None:
            raise error
        found = evaluated(member.config, member.run, one.parts, one.teacher, one.before, one.began)
    except BaseException as problem:
        return failed(member.run, problem, member.config, one.before, one.began)
    one.plan.note(member.run)
    say_results(member.config, member.run, one.parts, found, say)
    return None
