"""The order of a teacher's classes: by their names, its outputs are brought into the order of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from kdlab.config.build import build
from kdlab.config.own_teacher import STUDENTS_OWN
from kdlab.config.quoting import value_text
from kdlab.config.references import Network, Reference
from kdlab.data import Data
from kdlab.errors import InputError, KdlabError, shortened
from kdlab.runs.named import data_config
from kdlab.tasks import Task

_SHOWN = 12  # names of classes in a message


def named(names: Sequence[str] | None) -> list[str]:
    """The names of classes; empty where these are only numbers (``0``, ``LABEL_0``).

    >>> named(["neg", "pos"]), named(["0", "1"]), named(["LABEL_0", "LABEL_1"]), named(None)
    (['neg', 'pos'], [], [], [])
    """
    found = [str(name) for name in names or ()]
    generic = (str, "LABEL_{}".format, "label_{}".format)
    return [] if any(found == [make(number) for number in range(len(found))] for make in generic) else found


def order_of(theirs: Sequence[str], ours: Sequence[str]) -> list[int] | None:
    """For each of our classes its number in their order; None if the two have other names. Upper and lower case count
    as the same, as do spaces, hyphens and underscores, where the names stay different without them.

    >>> order_of(["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], ["entailment", "neutral", "contradiction"])
    [2, 1, 0]
    >>> order_of(["NEGATIVE", "POSITIVE"], ["neg", "pos"]) is None
    True
    """
    for form in (str, _plain):
        mine, other = [form(name) for name in ours], [form(name) for name in theirs]
        if len(set(other)) == len(other) and sorted(mine) == sorted(other):
            return [other.index(name) for name in mine]
    return None


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def class_order(
    one: Reference,
    network: nn.Module | None,
    data: Data | None,
    task: Task,
    config: dict,
    note: Callable[[str], None] = lambda line: None,
) -> list[int] | None:
    """For each class of the data its column in a teacher's outputs; None where they have the same order, or where one
    of them has no names.

    Args:
        one: to the teacher.
        network: a teacher that is no run; its attribute ``class_names`` holds its names.
        data: of the student.
        config: of the student's run.
        note: receives a line where the order differs.

    Raises:
        InputError: a network names other classes than the data, or ``class_names`` of its node does.
    """
    if data is None or task.report.answers == "values":
        return None
    given = one.node.get("class_names")
    if given is not None and not isinstance(given, (list, tuple)):
        raise InputError(f"{one.key}.class_names must be a list of names, for example [neg,pos], got {given!r}")
    if isinstance(one, Network):
        theirs = named(getattr(network, "class_names", None)) if given is None else [str(name) for name in given]
    else:
        theirs = _of_run(one, config)
    ours = named(getattr(data, "class_names", None)) if theirs else []
    if given is not None and not ours:
        ours = [str(number) for number in range(data.classes)]
    if not theirs or not ours or (len(theirs) != len(ours) and given is None):
        return None  # another number of classes is refused where the network is asked
    order = order_of(theirs, ours)
    if order is None and given is not None:
        raise InputError(
            f"{one.key}.class_names={value_text(theirs)}: it must hold each class of the data once, in the order of "
            f"the teacher's outputs; the data have {_listed(ours)}"
        )
    if order is None and isinstance(one, Network):
        example = f"'{one.key}.class_names=[{','.join(ours)}]'" if len(ours) <= _SHOWN else f"{one.key}.class_names=[…]"
        raise InputError(
            f"{one.key}: {one.name} names its classes {_listed(theirs)}, and the data have {_listed(ours)}, so it is "
            f"not known which is which. Give the names of the data in the order of the teacher's classes: {example}"
        )
    if order is None:
        note(
            f"{one.key}: warning: {one.name} learned the classes {_listed(theirs)}, and the data have {_listed(ours)}; "
            "they are taken as the same, by their numbers"
        )
        return None
    if order == list(range(len(ours))):
        return None
    note(
        f"{one.key}: its classes are in the order {_listed(theirs)}; its outputs are brought into the order of the "
        f"data, {_listed(ours)}"
    )
    return order


def _listed(names: Sequence[str]) -> str:
    return shortened(list(names), _SHOWN)


def _of_run(one: Reference, config: dict) -> list[str]:
    """The names of the classes of a teacher's run; empty where its data are those of the student, or not available."""
    theirs = data_config(one)

    def shared(node: dict) -> dict:
        return {name: value for name, value in node.items() if f"data.{name}" not in STUDENTS_OWN}

    try:
        if theirs is None or shared(theirs) == shared(config["data"]):
            return []
        return named(getattr(build(theirs, "data"), "class_names", None))
    except (KdlabError, OSError):  # the data have moved
        return []
