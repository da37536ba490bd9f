"""Chains: runs whose teacher or initial weights come from the run before, given as *this run but for some overrides*.

Generations, assistants and stages all use this one form, ``same_but: [override, …]``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from omegaconf import DictConfig

from kdlab.errors import InputError

from .keys import LOSSES
from .quoting import check_readable, written

LONGEST = 20  # runs in a chain; a longer one is taken for a chain without end
NULLABLE = ("experiment", "student", "same_but", "assistants", "run", "checkpoint")
PLACES = {"initial": "student.initial"}  # groups whose node has another key than their name


def place(override: str) -> str:
    """The dotted key that an override changes.

    >>> place("++strategy.generation=2"), place("~loss.kd"), place("initial=run")
    ('strategy.generation', 'loss.kd', 'student.initial')
    >>> place("+student@strategy.peers.wide=mlp_wide")
    'strategy.peers.wide'
    """
    group, _, package = override.lstrip("+~").partition("=")[0].strip().partition("@")
    return package.rpartition(":")[2] or PLACES.get(group, group)


def superseding(typed: Sequence[str], given: Sequence[str]) -> list[str]:
    """Overrides with further ones added. Each replaces those of the same key and of keys below it. A choice of losses
    also replaces a preset, which holds numbers for the former losses.

    >>> superseding(["strategy=born_again", "strategy.generation=2", "student.hidden=[8]"], ["strategy=supervised"])
    ['student.hidden=[8]', 'strategy=supervised']
    """
    places = [place(text) for text in given]
    places += ["preset"] if "loss" in places else []
    kept = [
        text for text in typed if not any(place(text) == one or place(text).startswith(f"{one}.") for one in places)
    ]
    return [*kept, *given]


def are_overrides(value: object) -> bool:
    """Whether a value of a config is a list of overrides."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def run_before(
    key: str, node: dict, run: dict, base: Sequence[str], later: tuple[str, ...]
) -> tuple[list[str], tuple[str, ...]]:
    """The overrides of the run before this one, and the names of the runs after that.

    Args:
        key: of the node.
        node: with ``same_but`` and perhaps ``seed`` (None: this run's).
        run: the composed config of this run.
        base: the overrides that ``same_but`` changes: this run's own, or those of the run that an assistant resembles.
        later: the names of the runs after this one.

    Raises:
        InputError: ``same_but`` is no list of overrides, or the chain repeats a run or has no end.
    """
    given, seed = node["same_but"], node.get("seed")
    if not are_overrides(given):
        raise InputError(
            f"{key}.same_but must be a list of overrides, for example "
            f"""'{key}.same_but=["student=mlp_wide","teacher=trained"]', got {given!r}"""
        )
    check_readable(f"{key}.same_but", given)
    own = superseding(run["overrides"], [f"seed={run['seed']}"])
    overrides = superseding(superseding(base, [f"seed={run['seed'] if seed is None else seed}"]), given)
    chain = (*later, _name(own))
    if _name(overrides) in chain:
        # it was already applied to the run after this one, and changes nothing again
        if given and set(given) <= set(run["overrides"]):
            raise InputError(
                f"{key}.same_but={given}: the list does not end the chain of runs, since the run before this one asks"
                f" for a run before it in the same way. {ending(key, given)}"
            )
        raise InputError(
            f"{key}.same_but={given}: the run would be its own predecessor, since these overrides change nothing in it"
        )
    if len(chain) >= LONGEST:
        raise InputError(
            f"{key}.same_but={given}: the chain of runs has no end (this would be run {len(chain) + 1} of it, and the "
            f"most are {LONGEST})"
        )
    return overrides, chain


def ending(key: str, given: Sequence[str]) -> str:
    """A hint: the ``same_but`` list to type so that the chain of runs ends.

    >>> print(ending("teacher", ["student=cnn_wide"]))
    Type 'teacher.same_but=["student=cnn_wide","teacher=none","strategy=supervised"]'
    """
    needed = ["initial=none"] if key == "student.initial" else ["teacher=none", "strategy=supervised"]
    kept = [text for text in given if place(text) not in map(place, needed) or text in needed]
    return f"Type {shlex.quote(f'{key}.same_but={written([*kept, *(text for text in needed if text not in kept)])}')}"


def lifted(problem: str, key: str, given: Sequence[str]) -> str:
    """A problem of the run before, with its cure as an override of this run. Where the wrong override is in the list of
    ``same_but``, the cure is the whole list.

    Args:
        key: of the node that holds the list.
        given: the list.

    >>> print(lifted("it is so. Type 'teacher.same_but=[]'", "teacher", ["student=cnn", 'teacher.same_but=["seed=2"]']))
    it is so. Type 'teacher.same_but=["student=cnn","teacher.same_but=[]"]'
    """
    found = re.fullmatch(r"(.*[.;,] [Tt]ype )(\S.*)", problem, re.DOTALL)
    if found is None:  # no line to type
        return problem
    try:
        (cure,) = shlex.split(found[2])
    except ValueError:  # there is text after it
        return problem
    if place(cure) not in map(place, given):  # an override of this run that the earlier run has inherited
        return problem
    whole = [cure if place(text) == place(cure) else text for text in given]
    return found[1] + shlex.quote(f"{key}.same_but={written(whole)}")


def _name(overrides: Sequence[str]) -> str:
    return " ".join(sorted(text.lstrip("+") for text in overrides))


def leave_out_null_forms(config: dict) -> None:
    """Remove forms that are null. So ``teacher.same_but=null`` ends a chain even where an experiment file defines the
    teacher, where ``teacher=none`` could not. A node without another form becomes null.

    >>> config = {"teacher": {"same_but": None, "seed": None},
    ...     "student": {"initial": {"run": None, "experiment": "teacher/digits"}}}
    >>> leave_out_null_forms(config)
    >>> config
    {'teacher': None, 'student': {'initial': {'experiment': 'teacher/digits'}}}
    """
    for parent, key in ((config, "teacher"), (config.get("student"), "initial")):
        node = parent.get(key) if isinstance(parent, dict) else None
        if not isinstance(parent, dict) or not isinstance(node, dict):
            continue
        null = [form for form in NULLABLE if form in node and node[form] is None]
        for form in null:
            del node[form]
        if null and not any(form in node for form in (*NULLABLE, "members", "_target_")):
            parent[key] = None


def expand_assistants(key: str, node: dict, typed: Sequence[str]) -> list[str]:
    """Replace ``assistants`` in a teacher's node: by the run of the last assistant, whose own teacher is the assistant
    before it. Without assistants, by the teacher's experiment.

    Args:
        typed: the overrides of the run whose node it is.

    Returns:
        The overrides of the student. Each assistant is a run like the student's, not like the next assistant's, so
        these are passed on in the key ``of``.

    >>> node = {"assistants": [["student=cnn"], ["student.hidden=[64]"]], "experiment": "teacher/digits", "seed": 1,
    ...     "overrides": []}
    >>> expand_assistants("teacher", node, ["name=mine"])
    ['name=mine']
    >>> node["same_but"]
    ['student.hidden=[64]', 'teacher.assistants=[["student=cnn"]]', '++teacher.of=["name=mine"]']

    Raises:
        InputError: they are no list of lists of overrides.
    """
    assistants, base = node["assistants"], list(node.pop("of", typed))
    if not isinstance(assistants, list) or not all(are_overrides(one) and one for one in assistants):
        raise InputError(
            f"{key}.assistants must be a list, and each assistant in it a list of overrides, for example "
            f"""'{key}.assistants=[["student=mlp","student.hidden=[128]"]]', got {assistants!r}"""
        )
    del node["assistants"]
    if assistants:
        *larger, last = assistants
        # these describe the first teacher, which teaches the largest assistant
        for name in ("experiment", "student", "overrides"):
            node.pop(name, None)
        node["same_but"] = [
            *last,
            f"{key}.assistants=[{','.join(map(written, larger))}]",
            f"++{key}.of={written(base)}",
        ]
    return base


def previous_generation(generation: object, *, _root_: DictConfig | None = None) -> list[str]:
    """``${previous_generation:${strategy.generation}}``: the overrides that turn a run into that of the previous
    generation. Generation 0 learns from labels, by the loss on labels of the task.

    >>> previous_generation(3)
    ['++strategy.generation=2']

    Raises:
        InputError: there is none before it.
    """
    if not isinstance(generation, int) or isinstance(generation, bool) or generation < 1:
        raise InputError(
            f"strategy.generation must be a whole number of at least 1, got {generation!r}; generation 0 is the "
            "student alone: strategy=supervised"
        )
    if generation > 1:
        return [f"++strategy.generation={generation - 1}"]
    task, terms = ({}, {}) if _root_ is None else (_root_.get("task") or {}, _root_.get("loss") or {})
    known = LOSSES.get(task.get("_target_", next(iter(LOSSES))))
    if known is not None and not known[0]:
        raise InputError(
            "strategy.generation: generation 0 learns from labels, and this task reads none; name the teacher of the "
            "first generation yourself: strategy=offline teacher=run teacher.run=runs/…"
        )
    labels = known[0] if known else next(iter(terms), "ce")  # of a task of the user's own: the first term
    return ["strategy=supervised", f"loss=[{labels}]", "teacher=none", "++strategy.generation=0"]
