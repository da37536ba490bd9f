"""Removes settings of what is not chosen: of loss terms, in a strategy's file or marked in an experiment, and of other
initial weights in an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from omegaconf import DictConfig, OmegaConf, open_dict

from kdlab.errors import InputError

from .chains import place
from .keys import LOSSES, teacher_nodes
from .paths import conf_dir
from .written import as_dict, content, find

MARK = "if_chosen"
INITIAL = "student.initial"
#: the strategy that has no teacher
ALONE = "kdlab.strategies.Supervised"
#: what conf/teacher says of kept answers by default, or where there are none
USUAL: dict[str, tuple[str | None, ...]] = {
    "cache": ("auto", "live", None),
    "cache_dtype": ("float32", None),
    "cache_codec": ("dense", None),
}


def leave_out_idle_terms(config: DictConfig, strategy: str | None, sources: Iterable) -> None:
    """Remove a strategy's settings of its own terms where others are chosen (``strategy=cs_kd loss=[ce,dkd]``).
    Settings of such a term from any other source stay, and the check reports them: they were meant to count.

    Args:
        config: changed in place.
        strategy: the name of the chosen file, or None.
        sources: Hydra's search path.
    """
    settings = content(find(sources, "strategy", strategy)).get("loss")
    terms = config.get("loss")
    if not isinstance(settings, dict) or not isinstance(terms, DictConfig):
        return
    written, idle = as_dict(terms, resolve=False), []
    for name, node in settings.items():
        if isinstance(written.get(name), dict) and "_target_" not in written[name] and written[name] == node:
            idle.append(name)
            with open_dict(config):
                del terms[name]
    for name, node in settings.items():  # a weight that was tied to a removed term gets the tie of its own file
        for key, value in node.items():
            if name in terms and written[name].get(key) == value and any(f"loss.{one}." in str(value) for one in idle):
                own = content(conf_dir() / "loss" / f"{name}.yaml")
                terms[name][key] = own[name][key]


def leave_out_teacher_terms(config: DictConfig, choices: dict, typed: Sequence[str], sources: Iterable) -> None:
    """Keep only one term of the losses that a task's file chooses, if the strategy's file wants one of that role: the
    loss on labels (``loss: [ce]`` in ``strategy=supervised``), or the one on a teacher's answers (``loss: [kd]`` in
    ``strategy=funmatch``). Losses that were typed stay.

    Args:
        config: changed in place.
        choices: which file of every group was chosen.
        typed: the overrides of the command line.
        sources: Hydra's search path.

    Raises:
        InputError: the strategy is nothing but a loss of its own for classes, and the task's file replaces it.
    """
    wanted, chosen = (_losses_of(sources, group, choices.get(group)) for group in ("strategy", "task"))
    terms = config.get("loss")
    if not chosen or not wanted or not OmegaConf.is_dict(terms) or list(terms) != chosen:
        return
    if any(place(text) == "loss" for text in typed):
        return
    if len(wanted) > 1:
        if (config.get("strategy") or {}).get("_target_") == ALONE:
            strategy, task = choices["strategy"], choices["task"]
            raise InputError(
                f"strategy={strategy} is loss=[{','.join(wanted)}], which is for classes, and task={task} has "
                f"loss=[{','.join(chosen)}]; take another strategy, for example strategy=offline"
            )
        return
    on_labels, on_teacher = chosen[:1], chosen[1:2]
    kept = on_teacher if wanted[0] in {taught for _, taught in LOSSES.values()} else on_labels
    with open_dict(config):
        for name in chosen:
            if name not in kept and not any(place(text).startswith(f"loss.{name}.") for text in typed):
                del terms[name]


def _losses_of(sources: Iterable, group: str, name: str | None) -> list[str]:
    """The losses that a file of a group chooses in its defaults list."""
    for entry in content(find(sources, group, name)).get("defaults") or []:
        if isinstance(entry, dict):
            for key, value in entry.items():
                if str(key).split() == ["override", "/loss"]:
                    return list(value) if isinstance(value, list) else [value]
    return []


def leave_out_unchosen_terms(config: DictConfig, typed: Sequence[str]) -> None:
    """Remove an experiment's settings of terms that are not chosen, where they are marked with ``if_chosen``: ``loss:
    {hint: {if_chosen: true, student_tap: stage3}}`` counts only with ``loss=[ce,hint]``. The mark itself is removed,
    too. Overrides of the command line for such a term stay, and the check reports them.

    Args:
        config: changed in place.
        typed: the overrides of the command line.

    >>> config = OmegaConf.create({"loss": {"kd": {"_target_": "a.Loss", "if_chosen": True, "weight": 2},
    ...     "hint": {"if_chosen": True, "weight": 3}}})
    >>> leave_out_unchosen_terms(config, [])
    >>> config
    {'loss': {'kd': {'_target_': 'a.Loss', 'weight': 2}}}
    """
    terms, places = config.get("loss"), [place(text) for text in typed]
    if not OmegaConf.is_dict(terms):
        return
    for name in [name for name, node in terms.items_ex(resolve=False) if OmegaConf.is_dict(node) and MARK in node]:
        meant = any(one == f"loss.{name}" or one.startswith(f"loss.{name}.") for one in places)
        with open_dict(config):
            marked = terms[name].pop(MARK)
            if marked and "_target_" not in terms[name] and not meant:
                del terms[name]


def leave_out_other_initial(config: DictConfig, typed: Sequence[str], sources: Iterable) -> None:
    """Remove what an experiment says of the initial weights where others are typed. With ``initial=none`` the student
    is new; with ``initial=run`` the experiment's layers do not count. Typed keys of ``student.initial`` stay.

    Args:
        config: changed in place.
        typed: the overrides of the command line.
        sources: Hydra's search path.
    """
    chosen = [value.strip() for key, _, value in (text.partition("=") for text in typed) if key.strip() == "initial"]
    node = OmegaConf.select(config, INITIAL)
    if not chosen or not OmegaConf.is_dict(node):
        return
    own = {*content(find(sources, "initial", chosen[-1])), *(place(text).removeprefix(f"{INITIAL}.") for text in typed)}
    kept = {key: value for key, value in node.items_ex(resolve=False) if key in own}
    with open_dict(config):
        config.student.initial = kept or None


def leave_out_caches_of_members(config: dict) -> None:
    """Remove what a file of conf/teacher says of kept answers, where it describes a member
    (``+teacher@teacher.members.maths=causal``): the teacher as a whole says that. Other values stay, and the check
    reports them.

    >>> config = {"teacher": {"cache": "auto", "members": {"a": {"run": "x", "cache": "auto", "cache_codec": "top_k"}}}}
    >>> leave_out_caches_of_members(config)
    >>> config
    {'teacher': {'cache': 'auto', 'members': {'a': {'run': 'x', 'cache_codec': 'top_k'}}}}
    """
    for key, node in teacher_nodes(config.get("teacher")).items():
        for name in [name for name, usual in USUAL.items() if name in node and node[name] in usual]:
            if key != "teacher":
                del node[name]
