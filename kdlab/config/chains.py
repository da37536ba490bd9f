"""Chains: runs whose teacher, or whose student's first weights, are the run before them; *this run but for some
overrides*.

Generations, assistants and stages are all made of that one form, ``same_but: [override, …]``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from kdlab.errors import InputError

from .quoting import check_readable, written

LONGEST = 20  # runs in a chain; more is a chain without end
NULLABLE = ("experiment", "student", "same_but", "assistants", "run", "checkpoint")
PLACES = {"initial": "student.initial"}  # groups that do not stand under their own name in the config


def place(override: str) -> str:
    """The dotted key that an override is about.

    >>> place("++strategy.generation=2"), place("~loss.kd"), place("initial=run")
    ('strategy.generation', 'loss.kd', 'student.initial')
    >>> place("+student@strategy.peers.wide=mlp_wide")
    'strategy.peers.wide'
    """
    group, _, package = override.lstrip("+~").partition("=")[0].strip().partition("@")
    return package.rpartition(":")[2] or PLACES.get(group, group)


def superseding(typed: Sequence[str], given: Sequence[str]) -> list[str]:
    """Overrides with further ones, each of which takes the place of those of the same key and below it. Other losses
    take the place of a preset, too, which holds numbers of the former ones.

    >>> superseding(["strategy=born_again", "strategy.generation=2", "student.hidden=[8]"], ["strategy=supervised"])
    ['student.hidden=[8]', 'strategy=supervised']
    """
    places = [place(text) for text in given]
    places += ["preset"] if "loss" in places else []
    kept = [
        text for text in typed if not any(place(text) == one or place(text).startswith(f"{one}.") for one in places)
    ]
    return [*kept, *given]


def are_overrides(value) -> bool:
    """Whether a value of a config is a list of overrides."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def run_before(
    key: str, node: dict, run: dict, base: Sequence[str], later: tuple[str, ...]
) -> tuple[list[str], tuple[str, ...]]:
    """The overrides of the run before this one, and the names of the runs that come behind that.

    Args:
        key: of the node.
        node: with ``same_but`` and perhaps ``seed`` (None: this run's).
        run: the composed config of this run.
        base: what ``same_but`` changes: this run's own overrides, or those of the run that an assistant is to be like.
        later: the names of the runs that come behind this one.

    Raises:
        InputError: the list is none, the chain comes to a run that it holds already, or has no end.
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
        if given and set(given) <= set(
            run["overrides"]
        ):  # it was applied to the run after this one already, and changes nothing more
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
    """What to type so that a list of ``same_but`` ends the chain of runs.

    >>> print(ending("teacher", ["student=cnn_wide"]))
    Type 'teacher.same_but=["student=cnn_wide","teacher=none","strategy=supervised"]'
    """
    needed = ["initial=none"] if key == "student.initial" else ["teacher=none", "strategy=supervised"]
    kept = [text for text in given if place(text) not in map(place, needed) or text in needed]
    return f"Type {shlex.quote(f'{key}.same_but={written([*kept, *(text for text in needed if text not in kept)])}')}"


def lifted(problem: str, key: str, given: Sequence[str]) -> str:
    """A problem of the run before, with what to type as an override of this run: where the list of ``same_but`` says it
    of that run, the whole list is typed.

    Args:
        key: of the node that holds the list.
        given: the list.

    >>> print(lifted("it is so. Type 'teacher.same_but=[]'", "teacher", ["student=cnn", 'teacher.same_but=["seed=2"]']))
    it is so. Type 'teacher.same_but=["student=cnn","teacher.same_but=[]"]'
    """
    found = re.fullmatch(r"(.*[.;,] [Tt]ype )(\S.*)", problem, re.DOTALL)
    try:
        (cure,) = shlex.split(found[2]) if found else ()
    except ValueError:  # no line to be typed, or something behind it
        return problem
    if place(cure) not in map(place, given):  # this run's own override, which that run has taken over
        return problem
    whole = [cure if place(text) == place(cure) else text for text in given]
    return found[1] + shlex.quote(f"{key}.same_but={written(whole)}")


def _name(overrides: Sequence[str]) -> str:
    return " ".join(sorted(text.lstrip("+") for text in overrides))


def leave_out_null_forms(config: dict) -> None:
    """A form that is null is none: ``teacher.same_but=null`` ends a chain even where an experiment file says what the
    teacher is, below which a choice of the group could not go. A node with no other form is no node.

    >>> config = {"teacher": {"same_but": None, "seed": None},
    ...     "student": {"initial": {"run": None, "experiment": "teacher/digits"}}}
    >>> leave_out_null_forms(config)
    >>> config
    {'teacher': None, 'student': {'initial': {'experiment': 'teacher/digits'}}}
    """
    for parent, key in ((config, "teacher"), (config.get("student"), "initial")):
        node = parent.get(key) if isinstance(parent, dict) else None
        null = [form for form in NULLABLE if form in node and node[form] is None] if isinstance(node, dict) else []
        for form in null:
            del node[form]
        if null and not any(form in node for form in (*NULLABLE, "members", "_target_")):
            parent[key] = None


def expand_assistants(key: str, node: dict, typed: Sequence[str]) -> list[str]:
    """Replace ``assistants`` in a teacher's node by what it stands for: the run of the last of them, whose own teacher
    is the one before it; where there are none, the teacher by its experiment.

    Args:
        typed: the overrides of the run whose node it is.

    Returns:
        The overrides of the student that all of them assist. Each is a run like the student's, not like the next
        assistant's, so these are handed on in the key ``of``.

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
        for name in ("experiment", "student", "overrides"):  # of the first teacher, which the largest assistant has
            node.pop(name, None)
        node["same_but"] = [
            *last,
            f"{key}.assistants=[{','.join(map(written, larger))}]",
            f"++{key}.of={written(base)}",
        ]
    return base


def previous_generation(generation) -> list[str]:
    """``${previous_generation:${strategy.generation}}``: what makes a run that of the generation before it. Generation
    0 learns from labels.

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
    return ["strategy=supervised", "loss=[ce]", "teacher=none", "++strategy.generation=0"]
