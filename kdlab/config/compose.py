"""From overrides to one plain dict: the only place where configs are composed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from kdlab.errors import InputError, KdlabError

from .chains import are_overrides, expand_assistants, leave_out_null_forms, lifted, previous_generation, run_before
from .clock import leave_out_default_clock
from .explain import explain
from .idle import (
    leave_out_caches_of_members,
    leave_out_idle_terms,
    leave_out_other_initial,
    leave_out_teacher_terms,
    leave_out_unchosen_terms,
)
from .keys import role_of, run_nodes, takes_over_the_seed
from .own_teacher import is_by_name, learn_from_labels, overrides_of, settle, trains_on_other_data
from .paths import conf_dir, config_folders
from .presets import NONE, holds_schedule, replace_schedules, settle_presets
from .quoting import check_readable, value_text
from .references import replace_configs
from .remembered import remember
from .repeats import listed_choices, repeated_choices
from .tie import ce_weight, leave_out_stated_weights
from .written import as_dict, as_list, content, find

VERSION_BASE = "1.3"
DEFAULT_DATA = "data"  # paths.data in conf/train.yaml


_within_hydra: ContextVar[bool] = ContextVar("within_hydra", default=False)


@contextlib.contextmanager
def composing_within_hydra() -> Iterator[None]:
    """Compose in the search path of kdlab's own ``hydra.main``, inside one of its jobs. (Inside another Hydra
    application kdlab uses its own search path.)"""
    token = _within_hydra.set(True)
    try:
        yield
    finally:
        _within_hydra.reset(token)


_TURN = threading.RLock()  # Hydra is set up once for the whole process; threads take turns


_teachers: ContextVar[dict | None] = ContextVar("teachers", default=None)


@contextlib.contextmanager
def sharing_teachers() -> Iterator[dict]:
    """Share the configs of earlier runs (such as a teacher) between the jobs of a sweep: each is composed once. Yields
    the shared configs, keyed by what they were composed from."""
    shared: dict = {}
    token = _teachers.set(shared)
    try:
        yield shared
    finally:
        _teachers.reset(token)


@contextlib.contextmanager
def own_hydra() -> Iterator[None]:
    """Sets Hydra up for kdlab's conf/ inside the context, and restores the former setup afterwards. All compositions
    inside share this setup."""
    with _TURN:
        before = GlobalHydra.instance().hydra
        GlobalHydra.instance().hydra = None
        try:
            with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE), composing_within_hydra():
                remember(GlobalHydra.instance().config_loader())
                yield
        finally:
            GlobalHydra.instance().hydra = before


def register_resolvers() -> None:
    """Register kdlab's resolvers.

    ``${one_minus:loss.kd.weight}`` is 1 minus that key (Hinton's convention), 1 where the key is absent, and the
    complement of a schedule. ``${ce_weight:}`` is the weight of ce that the chosen terms state (:mod:`.tie`).
    ``${share:0.25,trainer.max_epochs}`` is that share of another number.
    ``${previous_generation:${strategy.generation}}`` is :func:`kdlab.config.chains.previous_generation`."""
    OmegaConf.register_new_resolver("one_minus", _one_minus, replace=True)
    OmegaConf.register_new_resolver("ce_weight", ce_weight, replace=True)
    OmegaConf.register_new_resolver("share", _share, replace=True)
    OmegaConf.register_new_resolver("previous_generation", previous_generation, replace=True)


def _one_minus(key: str, *, _root_: DictConfig) -> float | dict | None:
    value = OmegaConf.select(_root_, key, default=None)
    if value is None:
        return 1.0
    if OmegaConf.is_config(value):
        return {"schedule": "complement", "of": OmegaConf.to_container(value, resolve=True)}
    try:
        return round(1.0 - float(value), 12)
    except (TypeError, ValueError):
        return None  # the check reports the wrong number under its own key


def _share(share: float, key: str, *, _root_: DictConfig) -> float | None:
    whole = OmegaConf.select(_root_, key, default=None)
    if whole is None:
        return None  # of a training whose length is max_steps; the check names the schedule
    if not isinstance(whole, (int, float)) or isinstance(whole, bool) or whole <= 0:
        return 1.0  # the check reports the wrong number under its own key
    return share * whole


def compose(overrides: Sequence[str] = (), students: tuple[str, ...] = ()) -> dict:
    """The plain config of one run. The configs of earlier runs (its teacher's) are composed into it.

    Args:
        overrides: as on the command line.
        students: the names of the runs after this one (experiments or overrides), to detect a run that needs itself.

    Raises:
        InputError: an override names no key, a file does not exist, a value cannot be parsed.
    """
    register_resolvers()
    with explaining(overrides):
        # inside a job of kdlab's, the search path holds the user's own config folders
        with contextlib.nullcontext() if _within_hydra.get() else own_hydra():
            return plain(hydra_compose("train", list(overrides), return_hydra_config=True), students)


@contextlib.contextmanager
def explaining(overrides: Sequence[str] = ()) -> Iterator[None]:
    """A context for code that composes or resolves a config: errors in it come from the user's overrides and files.

    Raises:
        InputError: in place of errors of Hydra, OmegaConf and YAML, and of plain ones that these let through.
    """
    try:
        yield
    except KdlabError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while isinstance(cause, InterpolationResolutionError):  # its cause may be an error of one of kdlab's resolvers
            cause = cause.__context__
        if isinstance(cause, KdlabError):
            raise cause from error
        raise InputError(explain(error, overrides)) from error


def plain(config: DictConfig, students: tuple[str, ...] = ()) -> dict:
    """A composed config (with its ``hydra`` node) as plain containers, with the configs of earlier runs in it.

    Missing values stay as ``???`` for the check to report, all at once.

    Raises:
        InputError: a list of choices names one twice.
    """
    hydra = config.hydra
    # as they were typed, with unresolved references
    overrides = as_list(hydra.overrides.task, resolve=False)
    chosen = as_dict(hydra.runtime.choices, resolve=False)
    choices = {group: choice for group, choice in chosen.items() if not group.startswith("hydra/")}
    sources, folders = list(hydra.runtime.config_sources), config_folders(hydra.runtime.config_sources)
    if twice := repeated_choices(overrides, choices, folders):
        raise InputError(*twice)
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    presets = _chosen_presets(choices, overrides, folders)
    leave_out_unchosen_terms(config, overrides)
    leave_out_other_initial(config, overrides, sources)
    numbers = [preset.terms for preset in settle_presets(config, presets, sources, overrides)]
    leave_out_idle_terms(config, choices.get("strategy"), sources)
    leave_out_teacher_terms(config, choices, overrides, sources)
    if holds_schedule(config.get("loss")):
        files = [
            content(find(sources, group, choices.get(group))).get("loss") or {} for group in ("strategy", "experiment")
        ]
        own = [content(find(sources, "loss", name)) for name in config.loss]
        replace_schedules(config, [*own, *numbers, *files])
    choices["preset"] = presets if len(presets) > 1 else presets[0] if presets else choices.get("preset")
    _name_data(config, choices)
    result = as_dict(config)
    naming = {key: node for key, node in config.items_ex(resolve=False) if key in ("teacher", "student")}
    written = {key: OmegaConf.to_container(node) for key, node in naming.items() if OmegaConf.is_config(node)}
    for key, node in run_nodes(written).items():
        if node.get("seed") == "${seed}":  # null means the same, and group_hash expects null
            run_nodes(result)[key]["seed"] = None
    leave_out_stated_weights(result.get("loss"))
    result["choices"], result["overrides"] = choices, overrides
    leave_out_null_forms(result)
    leave_out_caches_of_members(result)
    leave_out_default_clock(result)
    for key, node in run_nodes(result).items():
        base = expand_assistants(key, node, overrides) if "assistants" in node else overrides
        if role_of(key) == "teacher" and isinstance(result.get("data"), dict):
            settle(node, result, folders)
        if "experiment" in node and node["experiment"] != "???":
            node["config"] = _teacher_config(key, node, result, students)
            if (
                role_of(key) == "teacher"
                and is_by_name(node["experiment"], result)
                and trains_on_other_data(node["config"], result)
            ):
                learn_from_labels(node, result)
        if "experiment" in node:
            continue
        if "student" in node and isinstance(result.get("data"), dict):
            node["config"] = _own_teacher_config(key, node, result)
        elif "same_but" in node and node["same_but"] != "???":
            node["config"] = _predecessor_config(key, node, result, base, students)
    return result


def _chosen_presets(choices: dict, typed: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The names of the chosen presets. Hydra records a single choice; a list is read from the overrides or the
    files."""
    one = choices.get("preset")
    if isinstance(one, str):
        return [one] if one != NONE else []
    return listed_choices("preset", typed, choices, folders)


def _name_data(config: DictConfig, choices: dict) -> None:
    """Name the user's own data after their file if they have no name: a teacher is looked up by the name of the
    data."""
    data, teacher = config.get("data"), config.get("teacher")
    if not OmegaConf.is_dict(data) or "name" in data or not OmegaConf.is_dict(teacher):
        return
    members = teacher.get("members") if "members" in teacher else None
    for node in [teacher, *(members.values() if isinstance(members, DictConfig) else ())]:
        if OmegaConf.is_dict(node) and dict(node.items_ex(resolve=False)).get("experiment") == "teacher/${data.name}":
            node.experiment = f"teacher/{choices.get('data')}"


def _predecessor_config(key: str, node: dict, run: dict, base: Sequence[str], later: tuple[str, ...]) -> dict:
    """The composed config of a run like this one but for some overrides. A finished run is reused even where this run
    has ``fresh=true``."""
    overrides, chain = run_before(key, node, run, base, later)
    try:
        config = _shared(("same_but", *overrides), lambda: compose(overrides, chain))
    except InputError as error:
        lifted_problems = (lifted(problem, key, node["same_but"]) for problem in error.problems)
        named = (problem if "same_but" in problem else f"{key}.same_but: {problem}" for problem in lifted_problems)
        raise InputError(*named) from error
    return {**_placed(config, run), "fresh": False}


def _shared(key: tuple[str, ...], make: Callable[[], dict]) -> dict:
    """A config that is composed once for all jobs of a sweep."""
    shared = _teachers.get()
    if shared is None:
        return make()
    if key not in shared:
        shared[key] = make()
    return shared[key]


def _placed(config: dict, run: dict) -> dict:
    """The config of an earlier run. It and the runs before it take over the later run's keys for storage and output."""
    placed = {**config, "paths": run["paths"], "progress": run["progress"]}
    return replace_configs(placed, lambda one: _placed(one.config, run))


def _where_data_are(run: dict) -> list[str]:
    """The override by which an earlier run's config names the files of a run's own data folder."""
    place = (run.get("paths") or {}).get("data")
    return [] if place in (None, DEFAULT_DATA) else [f"paths.data={value_text(place)}"]


def _checked(key: str, node: dict) -> list[str]:
    """The overrides of a teacher's node. Raises InputError where they are no overrides."""
    given = node.get("overrides") or []
    if not are_overrides(given):
        raise InputError(
            f"""{key}.overrides must be a list of texts, for example '{key}.overrides=["trainer.max_epochs=9"]', """
            f"got {given!r}"
        )
    check_readable(f"{key}.overrides", given)
    return given


def _own_teacher_config(key: str, node: dict, student: dict) -> dict:
    """The composed config of the run that trains a teacher on a run's own data."""
    _checked(key, node)
    try:
        overrides = overrides_of(node, student, lambda text: _shared(("own", *text), lambda: compose(text)))
        config = _shared(("own", *overrides), lambda: compose(overrides))
    except InputError as error:
        raise InputError(*(f"{key}.student={node['student']}: {problem}" for problem in error.problems)) from error
    return _placed(config, student)


def _teacher_config(key: str, node: dict, student: dict, students: tuple[str, ...]) -> dict:
    """The composed config of the run that trains a teacher. It keeps its own seed, so that a sweep over seeds shares
    it; with a null seed it takes this run's."""
    experiment, chain = node["experiment"], (*students, student["choices"].get("experiment"))
    if not isinstance(experiment, str):
        raise InputError(f"{key}.experiment must be the name of a file below conf/experiment, got {experiment!r}")
    given = _checked(key, node)
    if experiment in chain:
        raise InputError(
            f"{key}.experiment={experiment}: this experiment would be its own teacher ({' <- '.join(map(str, chain))} "
            f"<- {experiment})"
        )
    seed = student["seed"] if takes_over_the_seed(node) else node.get("seed", 1)
    overrides = [f"experiment={experiment}", f"seed={seed}", *_where_data_are(student), *given]
    try:
        config = _shared((*overrides, *map(str, chain)), lambda: compose(overrides, chain))
    except InputError as error:
        raise InputError(
            *(
                problem if f"{key}.experiment=" in problem else f"{key}.experiment={experiment}: {problem}"
                for problem in error.problems
            )
        ) from error
    return _placed(config, student)
