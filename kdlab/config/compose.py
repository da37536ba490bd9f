"""From overrides to one plain dict: the only place where configs are composed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextvars import ContextVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from kdlab.errors import InputError, did_you_mean

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
    try:
        # within a job of ours the search path holds the user's own config folders
        with contextlib.nullcontext() if _within_hydra.get() else _own_hydra():
            return plain(hydra_compose("train", list(overrides), return_hydra_config=True), students)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error)) from error


def plain(config: DictConfig, students: tuple[str, ...] = ()) -> dict:
    """A composed config (with its ``hydra`` node) as plain containers, with the teacher's config in it.

    Missing values stay as ``???`` for the check to report, all at once.
    """
    hydra = config.hydra
    overrides = [str(entry) for entry in hydra.overrides.task]
    choices = {group: choice for group, choice in OmegaConf.to_container(hydra.runtime.choices).items() if not group.startswith("hydra/")}
    config = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    result = OmegaConf.to_container(config, resolve=True)
    result["choices"], result["overrides"] = choices, overrides
    for node in teacher_nodes(result.get("teacher")):
        if "experiment" in node and node["experiment"] != "???":
            node["config"] = _teacher_config(node, result, students)
    return result


def _teacher_config(node: dict, student: dict, students: tuple[str, ...]) -> dict:
    """The composed config of the run that trains a teacher. It keeps its own seed, so that a sweep over seeds shares it."""
    experiment, chain = node["experiment"], (*students, student["choices"].get("experiment"))
    if experiment in chain:
        raise InputError(f"teacher.experiment={experiment}: this experiment would be its own teacher ({' <- '.join(map(str, chain))} <- {experiment})")
    overrides = [f"experiment={experiment}", f"seed={node.get('seed', 1)}", *(node.get("overrides") or [])]
    shared, key = _teachers.get(), (*overrides, *map(str, chain))
    try:
        config = shared[key] if shared and key in shared else compose(overrides, chain)
        if shared is not None:
            shared[key] = config
    except InputError as error:
        raise InputError(*(problem if "teacher.experiment=" in problem else f"teacher.experiment={experiment}: {problem}"
                           for problem in error.problems)) from error
    return {**config, "paths": student["paths"], "progress": student["progress"]}


def explain(error: Exception) -> str:
    """Hydra's or OmegaConf's error in one message, with a suggestion where a key or an option was misspelled."""
    if isinstance(error, OverrideParseException):
        return (f"{error.override}: this is not how an override is written ({str(error).splitlines()[0]}); quote what holds brackets, "
                """commas or =, for example 'loss=[ce,kd]' or 'teacher.overrides=["trainer.max_epochs=9"]'""")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.removesuffix(".yaml").partition("/")
        folder = conf_dir() / group
        known = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))
        return f"{group}={choice}: there is no '{choice}' in conf/{group}{did_you_mean(choice, known)} (there are {', '.join(known) or 'none'})"
    if isinstance(error, InterpolationToMissingValueError):
        missing = str(error).splitlines()[0].rpartition(": ")[2]
        return f"{missing} has no value; give it with {missing}=… ({error.full_key} is made of it)"
    key = getattr(error, "full_key", None) or getattr(error.__cause__, "full_key", None)
    first = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = " ".join(line for line in first if not line.startswith(("full_key", "object_type", "To append", "Set the env")))
    cause = error.__cause__ or error
    if key and hasattr(getattr(cause, "parent_node", None), "keys"):
        parent = cause.parent_node
        known = [name for name in parent.keys() if name != "hydra"]
        word = str(getattr(cause, "key", key)).split(".")[-1]
        prefix = str(key).rpartition(".")[0]
        place = f"'{prefix}'" if prefix else "the config"
        return f"{key}: {place} has no key '{word}'{did_you_mean(word, known)}"
    return message
