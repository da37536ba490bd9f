"""All problems of a config, found at once, before anything is built or written."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from kdlab.errors import InputError, did_you_mean
from kdlab.schedules import SCHEDULES, is_schedule

from .chains import ending, lifted, place
from .clock import clock_problems
from .forms import initial_problems, teacher_problems
from .keys import DEFAULT_TASK, GIVE_IT, GIVEN, matching, own_keys
from .quoting import written
from .references import ComposedRun, ExperimentRun, SameButRun, StudentRun, composed_runs
from .signature import Signature, fits, locate, signature, type_name
from .tokens import token_problems, told_of_its_student

# key -> (annotation, what it is). The groups are dicts (or null where a group may be empty).
SCHEMA: dict[str, tuple[object, str]] = {
    "name": (str, "the run's folder below paths.runs"),
    "seed": (int, "of initialisation, shuffling, augmentation and dropout"),
    "threads": (int, "threads of torch per process"),
    "fresh": (bool, "start over, even if the run is finished"),
    "compile": (bool | str, "compile the student in place: true, or the name of a backend"),
    "channels_last": (bool, "weights of convolutions in memory with the channels last"),
    "progress": (str, "auto, bar, lines or none"),
    "paths": (dict, "runs: the folder of the runs; data: the folder of the data sets"),
    "task": (dict, "what a label means"),
    "data": (dict, "the data set"),
    "student": (dict, "the network that learns"),
    "teacher": (dict | None, "the network that teaches it"),
    "loss": (dict, "the named terms"),
    "strategy": (dict, "which network learns from which, and when"),
    "optimizer": (dict, "the optimiser"),
    "scheduler": (dict | None, "the learning-rate schedule"),
    "trainer": (dict, "Lightning's Trainer"),
    "logger": (dict | None, "further loggers of the curves, besides metrics.csv"),
    "callbacks": (dict | None, "Lightning callbacks"),
    "choices": (dict, "which file of every group was chosen"),
    "overrides": (list, "what was typed"),
}
MUST_BE_TARGETS = ("task", "data", "student", "strategy", "optimizer", "trainer")
REFUSED = {
    "fast_dev_run": "a run of one batch would count as finished; debug=fast tries things out under a name of its own",
    "overfit_batches": "it needs an unshuffled loader, which a run does not have; data.fraction trains on a small part",
}
SHARDED = ("fsdp", "deepspeed")  # strategies of Lightning that split a network, by how their names begin
PROGRESS = ("auto", "bar", "lines", "none")
MOST_THREADS = 1024  # with more, torch may end the process because the system has no more threads


def check(config: dict) -> None:
    """Raises InputError that lists every problem of a composed config."""
    found = list(dict.fromkeys(problems(config)))
    if found:
        raise InputError(*found)


def problems(config: dict, prefix: str = "") -> Iterator[str]:
    """Every problem, in the order of the config. ``prefix`` names the teacher whose config this is."""
    yield from _own_problems(config, prefix)
    yield from teacher_problems(config.get("teacher"), prefix, _channels(config))
    yield from initial_problems(_node(config, "student").get("initial"), f"{prefix}student.initial")
    for one in composed_runs(config):
        if isinstance(one, ExperimentRun):
            name = f"{prefix}{one.key}.experiment={one.experiment}: "
            yield from (inside(text, one, config) for text in problems(one.config, name))
            continue
        # an error that both runs share is reported once
        reported = set(_own_problems(config, ""))
        if isinstance(one, StudentRun):  # it shares all but the student
            reported = {text for text in reported if not text.startswith("student.")}
        theirs = [text for text in problems(one.config) if text not in reported]
        if isinstance(one, StudentRun):
            theirs = [text for text in theirs if not told_of_its_student(text, one)]
            yield from (f"{prefix}{one.key}.student={one.student}: {inside(text, one, config)}" for text in theirs)
        if isinstance(one, SameButRun):
            yield from (f"{prefix}{one.key}.same_but: {lifted(text, one.key, one.overrides)}" for text in theirs)
            if _lacks_teacher(one.config):
                yield (
                    f"{prefix}{one.key}.same_but={one.overrides}: the run before this one has no teacher, and its "
                    f"losses need one. {ending(one.key, one.overrides)}"
                )


def inside(problem: str, one: ComposedRun, config: dict) -> str:
    """A value that an earlier run lacks is given by an override of that run.

    Args:
        problem: of the earlier run; returned as it is if it is another one.
        one: refers to that run.
        config: of the later run.

    >>> one = StudentRun("teacher", {"student": "timm", "overrides": ["seed=2"]})
    >>> print(inside("student.model has no value; give it with student.model=…", one, {}))
    student.model has no value; give it with 'teacher.overrides=["seed=2","student.model=…"]'
    """
    text, found, cure = problem.partition(GIVE_IT)
    if not found:
        return problem
    given = one.node.get("overrides") or []
    if given and any(place(typed) == f"{one.key}.student" for typed in config.get("overrides") or []):
        given = [own for own in given if own != f"student={given[0].partition('=')[2]}"]  # teacher.student=… adds it
    override = shlex.quote(f"{one.key}.overrides={written([*given, *shlex.split(cure)])}")
    return f"{text}{found}{override}"


def _lacks_teacher(config: dict) -> bool:
    """Whether a run needs a frozen teacher and has none."""
    if config.get("teacher") is not None or (config.get("choices") or {}).get("strategy") not in (
        "offline",
        "funmatch",
        "assistant",
    ):
        return False
    try:
        return any(
            getattr(locate(term["_target_"]), "needs_teacher", False) for term in (config.get("loss") or {}).values()
        )
    except (LookupError, KeyError, TypeError, AttributeError):
        return False  # reported elsewhere


def _own_problems(config: dict, prefix: str) -> Iterator[str]:
    """The problems of the config itself, without those of the earlier runs in it."""
    missing = list(_missing(config))
    yield from (f"{prefix}{key} has no value{GIVE_IT}{key}=…" for key in missing)
    yield from _schema(config, prefix)
    for key, node in _targets(config):
        yield from _signature(prefix, key, node)
    yield from _loss(config.get("loss"), prefix)


def _channels(config: dict) -> int | None:
    """The channels of the inputs, where these are images."""
    shape = _node(config, "data").get("shape")
    return shape[0] if isinstance(shape, list) and len(shape) == 3 and isinstance(shape[0], int) else None


def _node(config: dict, key: str) -> dict:
    """A node of the config; empty where the value is no node."""
    node = config.get(key)
    return node if isinstance(node, dict) else {}


def _missing(node: object, key: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name not in ("config", "overrides"):
                yield from _missing(value, f"{key}.{name}" if key else str(name))
    elif node == "???":
        yield key


def _schema(config: dict, prefix: str) -> Iterator[str]:
    for key in config:
        if key == "experiment":
            yield (
                f"{prefix}the experiment file '{(config.get('choices') or {}).get('experiment')}' must begin with the "
                "line '# @package _global_', or what is in it counts for nothing"
            )
        elif key not in SCHEMA:
            yield f"{prefix}{key}: kdlab has no such key{did_you_mean(key, SCHEMA)}"
    for key, (annotation, meaning) in SCHEMA.items():
        value = config.get(key)
        if key == "loss" and value is None:
            continue  # the result of loss=[]; the check of the terms has a better message
        if annotation in (dict, list, dict | None):
            if not isinstance(value, (dict, list) if annotation is not list else list) and not (
                value is None and annotation == dict | None
            ):
                yield f"{prefix}{key} ({meaning}) is missing"
        elif not fits(value, annotation):
            yield f"{prefix}{key} ({meaning}) must be {type_name(annotation)}, got {value!r}"
    for key in ("runs", "data"):
        if not isinstance(_node(config, "paths").get(key), str) or not config["paths"][key]:
            yield f"{prefix}paths.{key} must be the name of a folder, got {(config.get('paths') or {}).get(key)!r}"
    for key in _node(config, "paths"):
        if key not in ("runs", "data"):
            yield f"{prefix}paths.{key}: kdlab has no such key{did_you_mean(key, ('runs', 'data'))}"
    for key in ("seed", "threads"):
        smallest, largest = (0, 2**63 - 1) if key == "seed" else (1, MOST_THREADS)
        if isinstance(config.get(key), int) and not smallest <= config[key] <= largest:
            yield f"{prefix}{key} must be at least {smallest} and at most {largest}, got {config[key]}"
    if config.get("progress") not in PROGRESS:
        yield (
            f"{prefix}progress must be one of {', '.join(PROGRESS)}, got "
            f"{config.get('progress')!r}{did_you_mean(str(config.get('progress')), PROGRESS)}"
        )
    name = config.get("name")
    if isinstance(name, str) and (not name or name.startswith(("/", ".")) or ".." in name.split("/")):
        yield f"{prefix}name must be a folder name below paths.runs, got {name!r}"
    for key in MUST_BE_TARGETS:
        node = config.get(key)
        if isinstance(node, dict) and not node.get("_target_"):
            yield f"{prefix}{key} needs a _target_, the dotted name of a class or function"
    yield from _own(config, prefix)


def _own(config: dict, prefix: str) -> Iterator[str]:
    """kdlab's own keys inside the groups."""
    data, scheduler, trainer = (_node(config, key) for key in ("data", "scheduler", "trainer"))
    classifier = DEFAULT_TASK["_target_"]
    least = 2 if (_node(config, "task").get("_target_") or classifier) == classifier else 1
    classes = data.get("classes")
    words = "vocabulary" in data and data["vocabulary"] is None and classes is None  # said of the vocabulary
    if classes != "???" and not words and (type(classes) is not int or classes < least):
        yield f"{prefix}data.classes must be the number of classes ({least} or more), got {classes!r}" + (
            "; data with one number to predict need task=regression" if classes == 1 else ""
        )
    if not isinstance(data.get("shape"), list) or not all(isinstance(size, int) for size in data["shape"]):
        yield f"{prefix}data.shape must be the shape of one input, for example [1,28,28], got {data.get('shape')!r}"
    yield from token_problems(config, prefix)
    if data.get("vocabulary") is not None and (type(data["vocabulary"]) is not int or data["vocabulary"] < 1):
        yield f"{prefix}data.vocabulary must be the number of tokens of the tokenizer, got {data['vocabulary']!r}"
    if scheduler.get("_target_") and scheduler.get("interval") not in ("epoch", "step"):
        yield f"{prefix}scheduler.interval must be 'epoch' or 'step', got {scheduler.get('interval')!r}"
    yield from clock_problems(config, prefix)
    if trainer.get("limit_train_batches") == 0:
        yield f"{prefix}trainer.limit_train_batches must be greater than 0, or nothing is trained"
    if str(trainer.get("strategy")).startswith(SHARDED):
        yield (
            f"{prefix}trainer.strategy={trainer['strategy']} is not supported yet: each device holds all of a student; "
            "trainer.strategy=ddp"
        )
    for key, reason in REFUSED.items():
        if trainer.get(key):
            yield f"{prefix}trainer.{key} is not supported: {reason}"
    for key in ("student", "teacher"):
        taps = _node(config, key).get("taps") or {}
        if not isinstance(taps, dict) or not all(isinstance(path, str) for path in taps.values()):
            yield f"{prefix}{key}.taps must map names to dotted module paths, got {taps!r}"


def _targets(node: object, key: str = "") -> Iterator[tuple[str, dict]]:
    """Every node with a ``_target_``, with its dotted key (a teacher's own config is checked as a config of its
    own)."""
    if isinstance(node, dict):
        if node.get("_target_") not in (None, "???"):
            yield key, node
        for name, value in node.items():
            if name != "config":
                yield from _targets(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _targets(value, f"{key}[{number}]")


def _signature(prefix: str, key: str, node: dict) -> Iterator[str]:
    place = f"{prefix}{key}"
    try:
        accepted = signature(node["_target_"])
    except LookupError as error:
        yield f"{place}: {error}"
        return
    own, given = own_keys(key), set(matching(GIVEN, key))
    if key == "scheduler" and node.get("horizon"):
        if node["horizon"] not in accepted.accepted:
            yield (
                f"{place}.horizon: {node['_target_']} has no argument "
                f"'{node['horizon']}'{did_you_mean(node['horizon'], accepted.accepted)}"
            )
        given.add(node["horizon"])
    names = {name for name in node if not name.startswith("_") and name not in own}
    for name in sorted(names - set(accepted.accepted)):
        if not accepted.open:
            known = sorted((set(accepted.accepted) - given) | own)
            yield (
                f"{place}.{name}: {node['_target_']} has no argument '{name}'{did_you_mean(name, known)}"
                f" (it has {', '.join(known) or 'none'})"
            )
    for name in sorted(names & given):
        yield f"{place}.{name}: kdlab gives this argument itself; leave it out"
    for name in sorted(accepted.required - names - given):
        yield f"{place}.{name}: {node['_target_']} needs this argument"
    for name in sorted(names & set(accepted.accepted)):
        value = node[name]
        if is_schedule(value):
            takes_any = key == "strategy" and accepted.accepted[name] is Any  # strategy.share of on_policy
            if takes_any or key.startswith("loss.") and fits(0.5, accepted.accepted[name]):
                yield from _schedule(f"{place}.{name}", value)
            else:
                yield (
                    f"{place}.{name} must be {type_name(accepted.accepted[name])}; only a number of a loss can have "
                    "a schedule"
                )
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{place}.{name} must be a finite number, got {value}"
        elif key == "trainer" and name in ("max_epochs", "max_steps"):
            pass  # kdlab's own check has a better message
        elif value != "???" and not fits(value, accepted.accepted[name]):
            yield f"{place}.{name} must be {type_name(accepted.accepted[name])}, got {value!r}"


def _loss(terms: object, prefix: str) -> Iterator[str]:
    if not isinstance(terms, dict) and terms is not None:
        return
    if not terms:
        yield f"{prefix}loss: no term is chosen; for example loss=[ce,kd]"
        return
    for name, node in terms.items():
        place = f"{prefix}loss.{name}"
        if not isinstance(node, dict) or not node.get("_target_"):
            yield f"{place} is no loss term: it has no _target_; choose it with loss=[…,{name}] if conf/loss/ has it"
            continue
        weight = node.get("weight", 1.0)
        if name == "ce" and _is_odd(weight) and _is_odd(_node(terms, "kd").get("weight", 1.0)):
            continue  # tied to the weight of kd, which is reported itself
        if is_schedule(weight):
            yield from _schedule(f"{place}.weight", weight)
        elif not fits(weight, float) or isinstance(weight, bool) or math.isnan(weight) or weight == math.inf:
            yield f"{place}.weight must be a finite number, got {weight!r}"
        elif weight < 0:
            tied = (
                " (it is tied to one minus the weight of loss.kd; give it a number of its own)"
                if name == "ce" and "kd" in terms
                else ""
            )
            yield f"{place}.weight must not be negative, got {weight}{tied}"


def _is_odd(weight: object) -> bool:
    """Neither a schedule nor a finite number."""
    return not is_schedule(weight) and not (isinstance(weight, (int, float)) and math.isfinite(weight))


def _schedule(place: str, node: dict) -> Iterator[str]:
    kind = node.get("schedule")
    if kind not in SCHEDULES:
        hint = did_you_mean(str(kind), SCHEDULES)
        yield f"{place}.schedule must be one of {', '.join(SCHEDULES)}, got {kind!r}{hint}"
        return
    accepted = signature(f"kdlab.schedules.{SCHEDULES[kind].__name__}")
    names = set(node) - {"schedule"}
    if "steps" in node and "epochs" in accepted.accepted:
        # a length in steps replaces the length in epochs, even if the latter has no value
        names -= {"steps"}
        steps = node["steps"]
        if not fits(steps, float) or isinstance(steps, bool) or not 0 < steps < math.inf:
            yield f"{place}.steps must be a number of optimiser steps greater than 0, got {steps!r}"
        if node.get("epochs") is not None:
            yield f"{place}: steps={steps} and epochs={node['epochs']}: a schedule has one length; leave one out"
        names, accepted = names - {"epochs"}, _without(accepted, "epochs")
    elif node.get("epochs", 0) is None:
        names -= {"epochs"}
        accepted = _without(accepted, "epochs")
    for name in sorted(names - set(accepted.accepted)):
        yield f"{place}.{name}: schedule '{kind}' has no argument '{name}'{did_you_mean(name, accepted.accepted)}"
    for name in sorted(accepted.required - names):
        yield f"{place}.{name}: schedule '{kind}' needs this argument"
    for name in sorted(names & set(accepted.accepted)):
        if is_schedule(node[name]):
            yield from _schedule(f"{place}.{name}", node[name])
        elif not fits(node[name], accepted.accepted[name]):
            yield f"{place}.{name} must be {type_name(accepted.accepted[name])}, got {node[name]!r}"


def _without(accepted: Signature, name: str) -> Signature:
    """A signature that does not need one of its arguments."""
    return replace(accepted, required=accepted.required - {name})


def check_facts(config: dict) -> None:
    """Raises InputError where ``data.classes`` or ``data.shape`` contradict the data set's class."""
    data, found = config["data"], locate(config["data"]["_target_"])
    task = (config.get("task") or {}).get("_target_")
    is_width = task is not None and getattr(locate(task), "compared_with", "labels") == "teacher"
    wrong = [
        f"data.{key}={given!r}, but {data['_target_']} has {actual!r}; leave it as conf/data/ has it"
        for key, given, actual in (
            ("classes", data["classes"], getattr(found, "CLASSES", None)),
            ("shape", tuple(data["shape"]), getattr(found, "SHAPE", None)),
        )
        if actual is not None and given != actual and not (key == "classes" and is_width)
    ]
    if wrong:
        raise InputError(*wrong)
