"""From overrides to one plain dict: the only place where configs are composed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, InterpolationToMissingValueError

from kdlab.errors import InputError, KdlabError, did_you_mean, yaml_problem

from .keys import teacher_nodes
from .paths import conf_dir

VERSION_BASE = "1.3"


_within_hydra: ContextVar[bool] = ContextVar("within_hydra", default=False)


@contextlib.contextmanager
def composing_within_hydra():
    """For a job of kdlab's own ``hydra.main``: compose in its search path. (Within somebody else's Hydra application kdlab composes its own.)"""
    token = _within_hydra.set(True)
    try:
        yield
    finally:
        _within_hydra.reset(token)


_teachers: ContextVar[dict | None] = ContextVar("teachers", default=None)


@contextlib.contextmanager
def sharing_teachers():
    """For the jobs of a sweep: a teacher's config is composed once for all that name it in the same way."""
    token = _teachers.set({})
    try:
        yield
    finally:
        _teachers.reset(token)


@contextlib.contextmanager
def _own_hydra():
    """Hydra set up for kdlab's conf/, whatever it was set up for; as it was behind it."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE), composing_within_hydra():
            yield
    finally:
        GlobalHydra.instance().hydra = before


def register_resolvers() -> None:
    """``${one_minus:loss.kd.weight}``: Hinton's convention, 1 where that key is absent, the complement of a schedule where it is one."""
    OmegaConf.register_new_resolver("one_minus", _one_minus, replace=True)


def _one_minus(key: str, *, _root_: DictConfig):
    value = OmegaConf.select(_root_, key, default=None)
    if value is None:
        return 1.0
    if OmegaConf.is_config(value):
        return {"schedule": "complement", "of": OmegaConf.to_container(value, resolve=True)}
    try:
        return round(1.0 - float(value), 12)
    except (TypeError, ValueError):
        return None         # the check names the wrong number itself, by its own key


def compose(overrides: Sequence[str] = (), students: tuple[str, ...] = ()) -> dict:
    """The plain config of one run, its teacher's config composed into it.

    Args:
        overrides: as on the command line.
        students: the experiments whose teacher this is, if it is one: a teacher cannot be its own student.

    Raises:
        InputError: an override names no key, a file does not exist, a value cannot be parsed.
    """
    register_resolvers()
    with explaining(overrides):
        # within a job of ours the search path holds the user's own config folders
        with contextlib.nullcontext() if _within_hydra.get() else _own_hydra():
            return plain(hydra_compose("train", list(overrides), return_hydra_config=True), students)


@contextlib.contextmanager
def explaining(overrides: Sequence[str] = ()):
    """Around what composes or resolves a config: whatever goes wrong there is about the user's overrides and files.

    Raises:
        InputError: in place of Hydra's, OmegaConf's and YAML's errors, and the plain ones that they let through.
    """
    try:
        yield
    except KdlabError:
        raise
    except Exception as error:
        raise InputError(explain(error, overrides)) from error


def plain(config: DictConfig, students: tuple[str, ...] = ()) -> dict:
    """A composed config (with its ``hydra`` node) as plain containers, with the teacher's config in it.

    Missing values stay as ``???`` for the check to report, all at once.
    """
    hydra = config.hydra
    overrides = OmegaConf.to_container(hydra.overrides.task, resolve=False)         # as they were typed, references and all
    choices = {group: choice for group, choice in OmegaConf.to_container(hydra.runtime.choices).items() if not group.startswith("hydra/")}
    config = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    _leave_out_idle_terms(config, _file_of("strategy", choices.get("strategy"), hydra.runtime.config_sources))
    result = OmegaConf.to_container(config, resolve=True)
    result["choices"], result["overrides"] = choices, overrides
    for node in teacher_nodes(result.get("teacher")):
        if "experiment" in node and node["experiment"] != "???":
            node["config"] = _teacher_config(node, result, students)
    return result


def _file_of(group: str, choice: str | None, sources) -> Path | None:
    """The file that was chosen of a group: the first in the search path."""
    folders = [conf_dir() if source.schema == "pkg" else Path(source.path) for source in sources]
    files = [folder / group / f"{choice}.yaml" for folder in folders]
    return next((file for file in files if file.is_file()), None)


def _leave_out_idle_terms(config: DictConfig, strategy: Path | None) -> None:
    """A strategy's file gives weights to the terms that it chooses; where others are chosen in their place, what it says of its own goes with them.

    What anything else has said of such a term stays, for the check to find: it was meant to count.
    """
    told = OmegaConf.to_container(OmegaConf.load(strategy), resolve=False).get("loss") if strategy is not None else None
    terms = config.get("loss")
    for name, node in told.items() if isinstance(told, dict) and OmegaConf.is_dict(terms) else ():
        mine = OmegaConf.to_container(terms, resolve=False).get(name)
        if isinstance(mine, dict) and "_target_" not in mine and mine == node:
            with open_dict(config):
                del terms[name]


def _teacher_config(node: dict, student: dict, students: tuple[str, ...]) -> dict:
    """The composed config of the run that trains a teacher. It keeps its own seed, so that a sweep over seeds shares it."""
    experiment, chain = node["experiment"], (*students, student["choices"].get("experiment"))
    if not isinstance(experiment, str):
        raise InputError(f"teacher.experiment must be the name of a file below conf/experiment, got {experiment!r}")
    given = node.get("overrides") or []
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise InputError(f"""teacher.overrides must be a list of texts, for example 'teacher.overrides=["trainer.max_epochs=9"]', got {given!r}""")
    if experiment in chain:
        raise InputError(f"teacher.experiment={experiment}: this experiment would be its own teacher ({' <- '.join(map(str, chain))} <- {experiment})")
    overrides = [f"experiment={experiment}", f"seed={node.get('seed', 1)}", *given]
    shared, key = _teachers.get(), (*overrides, *map(str, chain))
    try:
        config = shared[key] if shared and key in shared else compose(overrides, chain)
        if shared is not None:
            shared[key] = config
    except InputError as error:
        raise InputError(*(problem if "teacher.experiment=" in problem else f"teacher.experiment={experiment}: {problem}"
                           for problem in error.problems)) from error
    return {**config, "paths": student["paths"], "progress": student["progress"]}


# launchers and sweepers that other packages bring, and what installs them
ELSEWHERE = {"joblib": "'kdlab[joblib]'", "submitit_local": "'kdlab[submitit]'", "submitit_slurm": "'kdlab[submitit]'", "ray": "'kdlab[ray]'",
             "ray_aws": "'kdlab[ray]'", "rq": "hydra-rq-launcher", "ax": "hydra-ax-sweeper", "nevergrad": "hydra-nevergrad-sweeper"}


def explain(error: Exception, overrides: Sequence[str] = ()) -> str:
    """An error of Hydra, OmegaConf or YAML in one message, with a suggestion where a key or an option was misspelled.

    Args:
        overrides: what was typed; for errors that do not say what they are about.
    """
    if isinstance(error, OverrideParseException):
        form = "" if "=" in error.override else "; it is KEY=VALUE, for example seed=2"
        return (f"{error.override}: this is not how an override is written{form}; quote what holds brackets, "
                """commas or =, for example 'loss=[ce,kd]' or 'teacher.overrides=["trainer.max_epochs=9"]'""")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_file(error.missing_cfg_file.removesuffix(".yaml"))
    if isinstance(error, (yaml.YAMLError, UnicodeDecodeError)):
        file = _file_read(error)
        if file == "<unicode string>":          # no file, but what was typed
            return f"{' '.join(overrides)}: this is not how a value is written: {yaml_problem(error)}"
        return f"{file or 'a config file'} is not YAML: {yaml_problem(error)}"
    if isinstance(error, RecursionError):
        return "a config file takes in itself by its defaults, and so without end; see the files that are named by the overrides"
    if isinstance(error, InterpolationToMissingValueError):
        missing = str(error).splitlines()[0].rpartition(": ")[2]
        return f"{missing} has no value; give it with {missing}=… ({error.full_key} is made of it)"
    message = " ".join(line.strip() for line in str(error).splitlines()
                       if line.strip() and not line.strip().startswith(("full_key", "object_type", "reference_type", "To append", "Set the env")))
    cause = error.__cause__ or error
    key = getattr(error, "full_key", None) or getattr(cause, "full_key", None)
    if isinstance(cause, InterpolationResolutionError):
        name = re.search(r"key '(.+)' not found", message)
        typed = [text for text in overrides if f"${{{name[1]}}}" in text] if name else [text for text in overrides if "${" in text]
        key = key or " ".join(text.partition("=")[0].lstrip("+") for text in typed) or "the config"
        if name is None:
            return f"{key}: {message}"
        known = _all_keys(getattr(cause, "parent_node", None))
        return f"{key}: it refers to '{name[1]}', and there is no such key{did_you_mean(name[1], known)}"
    place = re.search(r"Could not override '(.+?)'. No match in the defaults list", message)
    if place:
        return f"{message.partition('. No match')[0]}: {_not_to_override(place[1])}"
    if "group override must be a string" in message:
        wrong = [text for text in overrides if re.fullmatch(r"[+]*[\w/]*=[-+.\d]+", text)]
        return f"{' '.join(wrong) or message}: a group is chosen by the name of one of its files, for example student=mlp"
    if "merge DictConfig with ListConfig" in message:
        return f"{message.partition(': ')[0]}: a list stands where there must be named keys, or named keys where there must be a list; see conf/train.yaml"
    if "/" in str(key or ""):
        return f"{key}: there is no such group{did_you_mean(key, _groups())} (there are {', '.join(_groups())})"
    if key and hasattr(getattr(cause, "parent_node", None), "keys"):
        parent = cause.parent_node
        known = [name for name in parent.keys() if name != "hydra"]
        word = str(getattr(cause, "key", key)).split(".")[-1]
        prefix = str(key).rpartition(".")[0]
        place = f"'{prefix}'" if prefix else "the config"
        return f"{key}: {place} has no key '{word}'{did_you_mean(word, known)}"
    return message


def _missing_file(name: str) -> str:
    """There is no config file ``group/choice``."""
    parts = name.split("/")
    if len(parts) == 1:
        return f"there is no config file {name}.yaml"
    group = "/".join(parts[:2] if parts[0] == "hydra" and len(parts) > 2 else parts[:1])
    choice = name.removeprefix(f"{group}/")
    folder = conf_dir() / group
    known = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))
    cure = f"; if that is what you mean: pip install {ELSEWHERE[choice]}" if group.startswith("hydra/") and choice in ELSEWHERE else ""
    if "/" in choice and choice.partition("/")[0] in _groups() and not (folder / choice).parent.is_dir():       # a file of the group experiment chose from another group without saying so
        inner, _, file = choice.partition("/")
        cure = f"; in a file's defaults another group is chosen by '- override /{inner}: {file}'"
    return f"{group}={choice}: there is no '{choice}' in conf/{group}{did_you_mean(choice, known)}{cure} (there are {', '.join(known) or 'none'})"


def _not_to_override(group: str) -> str:
    """What may be meant by a group that a file's defaults cannot override."""
    own = group.partition("@")[0]
    for known in _groups():
        if own.endswith(f"/{known}"):
            return f"write '- override /{known}: …', with a slash in front"
    return f"there is no group '{own}'{did_you_mean(own, _groups())} (there are {', '.join(_groups())})"


def _groups() -> list[str]:
    return sorted(str(path.relative_to(conf_dir())) for path in [*conf_dir().glob("*"), *conf_dir().glob("hydra/*")]
                  if path.is_dir() and path.name != "hydra")


def _all_keys(node) -> list[str]:
    """The dotted keys of the whole config that a node stands in."""
    def walk(value, prefix):
        for key in value.keys() if OmegaConf.is_dict(value) else ():
            yield f"{prefix}{key}"
            child = value._get_node(key)
            if OmegaConf.is_dict(child) and not child._is_none() and not child._is_missing() and not child._is_interpolation():
                yield from walk(child, f"{prefix}{key}.")

    return [] if node is None else [key for key in walk(node._get_root(), "") if not key.startswith("hydra.")]


def _file_read(error: Exception) -> str | None:
    """The file that was being read: YAML's errors name it themselves, those of its decoding do not."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    named = getattr(mark, "name", None) or getattr(error, "name", None)
    trace = error.__traceback__
    while trace is not None and not named:
        named = trace.tb_frame.f_locals.get("full_path")         # of Hydra's own reader
        trace = trace.tb_next
    if not isinstance(named, str):
        return None
    return os.path.relpath(named) if os.path.isabs(named) and named.startswith(os.getcwd() + os.sep) else named


def made_by_hydra(error: BaseException) -> bool:
    """Whether an error comes out of Hydra itself, with none of kdlab's functions between: it is about the command line or a config file."""
    trace, inside = error.__traceback__, False
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if inside and name.startswith("kdlab."):
            return False
        inside = inside or name.startswith("hydra.")
        trace = trace.tb_next
    return inside
