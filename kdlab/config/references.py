"""References: how a config names an earlier run or a network.

A teacher, a member of an ensemble, and ``student.initial`` are each a node in one of these forms:

| form | variant | names |
| --- | --- | --- |
| ``experiment`` | :class:`ExperimentRun` | the run of an experiment file |
| ``student`` | :class:`StudentRun` | the run of a network that learns the labels of the same data |
| ``same_but`` | :class:`SameButRun` | the run of the same config with other overrides |
| ``run`` | :class:`FinishedRun` | a run's directory |
| ``checkpoint`` | :class:`CheckpointFile` | a file of weights |
| ``layers`` | :class:`LayersOf` | layers of the run's teacher, or of another of these; only for ``student.initial`` |
| ``members`` | :class:`EnsembleOf` | several of these, whose outputs are combined |
| ``members`` with ``terms`` | :class:`OnePerTerm` | several of these, one for each term of the loss |
| ``members`` with ``column`` | :class:`RoutedByColumn` | several of these, one for each value of a column of the data |
| ``_target_`` | :class:`Network` | a class or function that returns a trained network |

The config keeps the plain node, which is hashed and written. :func:`reference` turns it into its variant. No other
package looks at the keys of such a node.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdlab.errors import InputError

from .keys import TEACHER_KEYS, role_of, run_nodes, takes_over_the_seed
from .names import data_name, readable_name


@dataclass(frozen=True, eq=False)
class Reference:
    """What a node names.

    Args:
        key: the node's dotted key, for messages.
        node: the plain node.
    """

    key: str
    node: dict = field(repr=False)

    @property
    def name(self) -> str:
        """The name for people."""
        raise NotImplementedError

    @property
    def role(self) -> str:
        """The role, in one word: ``teacher`` or ``initial``."""
        return role_of(self.key)

    @property
    def normalisation(self) -> dict | None:
        """``mean`` and ``std`` of the network's inputs, if the config gives them."""
        return self.node.get("normalisation")

    @property
    def singles(self) -> list[Reference]:
        """The references to one network each: this one, or those of the members."""
        return [self]


class ComposedRun(Reference):
    """A run whose config is part of this config. It is trained when it is needed."""

    @property
    def config(self) -> dict:
        """The composed config of that run. It is the object in the node, not a copy."""
        return self.node["config"]

    @property
    def takes_over_the_seed(self) -> bool:
        """Whether that run has the seed of the run that names it (:func:`kdlab.config.keys.takes_over_the_seed`)."""
        return takes_over_the_seed(self.node)

    @property
    def changed_by(self) -> str:
        """The key whose overrides change that run."""
        return f"{self.key}.overrides"

    @property
    def advice(self) -> str:
        """How the run is trained and how another is chosen, as the end of a line; empty if the name says it."""
        return ""


class ExperimentRun(ComposedRun):
    """The run of an experiment file."""

    @property
    def experiment(self) -> str:
        """The name of the file below conf/experiment, without its ending."""
        return self.node["experiment"]

    @property
    def name(self) -> str:
        """The experiment and the seed."""
        return f"{self.experiment} (seed {self.config['seed']})"


class StudentRun(ComposedRun):
    """The run of a network that learns the labels of this run's data (:mod:`kdlab.config.own_teacher`)."""

    @property
    def student(self) -> str:
        """The name of the network's file below conf/student, without its ending."""
        return self.node["student"]

    @property
    def name(self) -> str:
        """Network, data and seed."""
        return f"{self.student} on {data_name(self.config)} (seed {self.config['seed']})"

    @property
    def advice(self) -> str:
        """The recipe of the run, and the keys that change it."""
        return (
            "; it learns the labels of these data by this run's recipe (teacher.student=NAME takes another network, "
            "teacher.overrides=[…] changes its run)"
        )


class SameButRun(ComposedRun):
    """The run of this config with other overrides (:mod:`kdlab.config.chains`)."""

    @property
    def overrides(self) -> list[str]:
        """The overrides in which that run differs."""
        return self.node["same_but"]

    @property
    def name(self) -> str:
        """The readable part of the run's directory."""
        return readable_name(self.config)

    @property
    def changed_by(self) -> str:
        """The key whose overrides change that run."""
        return f"{self.key}.same_but"


class FinishedRun(Reference):
    """A run's directory. The run must be finished when its network is needed."""

    @property
    def path(self) -> Path:
        """The directory."""
        return Path(self.node["run"])

    @property
    def which(self) -> str:
        """The checkpoint: ``last`` or ``best``."""
        return self.node.get("which", "last")

    @property
    def name(self) -> str:
        """The directory as the config gives it."""
        return str(self.node["run"])


class CheckpointFile(Reference):
    """A file of weights."""

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.node["checkpoint"])

    @property
    def network(self) -> dict | None:
        """The config node of the network that the weights belong to. None: that of the run that holds the file."""
        return self.node.get("network")

    @property
    def part(self) -> str | None:
        """The part of the file that holds the weights, for example ``state_dict.student``; None: it is searched."""
        return self.node.get("part")

    @property
    def name(self) -> str:
        """The file as the config gives it."""
        return str(self.node["checkpoint"])


class LayersOf(Reference):
    """Layers of a network, with which a student of another size begins (:mod:`kdlab.models.initialisation`)."""

    @property
    def source(self) -> Reference | None:
        """The network; None: the run's teacher."""
        return reference(self.node["of"], f"{self.key}.of") if self.node.get("of") else None

    @property
    def options(self) -> dict[str, Any]:
        """``layers``, ``narrow``, ``embeddings`` and ``head``."""
        defaults = {"narrow": "importance", "embeddings": True, "head": True}
        return {"layers": self.node["layers"], **{key: self.node.get(key, value) for key, value in defaults.items()}}

    @property
    def rows(self) -> int:
        """The number of samples on which activations are measured."""
        return self.node.get("rows", 128)

    @property
    def name(self) -> str:
        """The layers and the network."""
        return f"layers ({self.node['layers']}) of {self.source.name if self.source else 'the teacher'}"


class EnsembleOf(Reference):
    """Several references, whose outputs are combined (:class:`kdlab.teachers.Ensemble`)."""

    @property
    def members(self) -> dict[str, Reference]:
        """The members by name."""
        return {name: reference(node, f"{self.key}.members.{name}") for name, node in self.node["members"].items()}

    @property
    def average(self) -> str | None:
        """How the members' outputs are combined, as the config gives it, since that counts in a run's identity."""
        return self.node.get("average")

    @property
    def rule(self) -> str:
        """How the members' outputs are combined; the default if the config does not give it."""
        return self.node.get("average", "probabilities")

    @property
    def weights(self) -> list[float] | None:
        """One number per member; None: all count the same."""
        return self.node.get("weights")

    @property
    def name(self) -> str:
        """The number of members and their names."""
        return f"ensemble of {len(self.node['members'])} ({', '.join(self.node['members'])})"

    @property
    def singles(self) -> list[Reference]:
        """Those of the members."""
        return [single for member in self.members.values() for single in member.singles]


class OnePerTerm(EnsembleOf):
    """Several references, one for each term of the loss (:class:`kdlab.teachers.PerTerm`)."""

    @property
    def terms(self) -> dict[str, str]:
        """The loss's term -> the name of its member."""
        return self.node["terms"]

    @property
    def name(self) -> str:
        """The member of each term."""
        return f"a teacher per term ({', '.join(f'{term}: {name}' for term, name in self.terms.items())})"


class RoutedByColumn(EnsembleOf):
    """Several references, of which each answers the rows that a column of the data routes to it
    (:class:`kdlab.teachers.Routed`)."""

    @property
    def column(self) -> str:
        """The column's name."""
        return self.node["column"]

    @property
    def given(self) -> dict[str, str]:
        """Value of the column -> the name of its member, for values that are no names of members."""
        return {str(value): name for value, name in (self.node.get("routes") or {}).items()}

    @property
    def routes(self) -> dict[str, str]:
        """Value of the column -> the name of its member. A value that is the name of a member is routed to it."""
        return {**{name: name for name in self.node["members"]}, **self.given}

    @property
    def default(self) -> str | None:
        """The member of all other rows; None: there is none."""
        return self.node.get("default")

    @property
    def name(self) -> str:
        """The column and the members."""
        return f"a teacher by {self.column} ({', '.join(self.node['members'])})"


class Network(Reference):
    """A network by its ``_target_``."""

    @property
    def described(self) -> dict:
        """The node without the normalisation of its inputs, and without what says how answers are kept."""
        absent = {"normalisation", *TEACHER_KEYS, *(["class_names"] if self.node.get("class_names") is None else [])}
        return {name: value for name, value in self.node.items() if name not in absent}

    @property
    def name(self) -> str:
        """The model's name if it has one, or the target."""
        pretrained = self.node.get("pretrained")
        named = self.node.get("model") or (pretrained if isinstance(pretrained, str) else None)
        return str(named or self.node.get("_target_"))


_COMPOSED = {"experiment": ExperimentRun, "student": StudentRun, "same_but": SameButRun}
_OTHERS = {
    "run": FinishedRun,
    "checkpoint": CheckpointFile,
    "layers": LayersOf,
    "terms": OnePerTerm,
    "members": EnsembleOf,
    "_target_": Network,
}


def reference(node: dict, key: str) -> Reference:
    """The reference that a node of a composed config is.

    Args:
        node: of a teacher, of a member, or ``student.initial``.
        key: the node's dotted key.

    Raises:
        InputError: it has none of the forms, or its run is not composed.

    >>> reference({"run": "runs/a", "which": "best"}, "teacher").which
    'best'
    >>> reference({"members": {"a": {"run": "x"}, "b": {"checkpoint": "y"}}}, "teacher").name
    'ensemble of 2 (a, b)'
    """
    has_config = isinstance(node.get("config"), dict)
    for form, variant in {**(_COMPOSED if has_config else {}), **_OTHERS}.items():
        if form in node:
            routed = variant is EnsembleOf and "column" in node
            return (RoutedByColumn if routed else variant)(key, node)
    raise InputError(
        f"{key} must name a run or a network by one of {', '.join([*_COMPOSED, *_OTHERS])}, got "
        f"{', '.join(node) or 'nothing'}; for example {key}.run=runs/…"
    )


def teacher_reference(config: dict) -> Reference | None:
    """The reference to a composed config's teacher; None without a teacher."""
    return reference(config["teacher"], "teacher") if config.get("teacher") else None


@dataclass(frozen=True, eq=False)
class Initial:
    """What a student begins with.

    Args:
        source: the run or file.
        weights: whether its weights are loaded.
        losses: true: also the state of its losses; a list: the state of these terms or parts of terms.
        new_head: whether a head of another number of classes is left untrained.
    """

    source: Reference
    weights: bool = True
    losses: bool | list[str] = False
    new_head: bool = False


def initial_reference(config: dict) -> Initial | None:
    """What the student of a composed config begins with; None for the weights of its constructor."""
    node = config["student"].get("initial")
    return None if node is None else initial(node)


def initial(node: dict) -> Initial:
    """What a node ``student.initial`` describes."""
    named = {name: node[name] for name in ("weights", "losses", "new_head") if name in node}
    return Initial(reference(node, "student.initial"), **named)


def composed_runs(config: dict) -> list[ComposedRun]:
    """The earlier runs whose configs are directly inside a config: teachers, members, and the initial weights.

    >>> earlier = {"seed": 3, "student": {}}
    >>> [one.name for one in composed_runs({"teacher": {"experiment": "teacher/digits", "config": earlier}})]
    ['teacher/digits (seed 3)']
    """
    found = (
        reference(node, key)
        for key, node in run_nodes(config).items()
        if isinstance(node.get("config"), dict) and any(form in node for form in _COMPOSED)
    )
    return [one for one in found if isinstance(one, ComposedRun)]


def replace_configs(config: dict, change: Callable[[ComposedRun], dict]) -> dict:
    """A copy of a config in which ``change`` has replaced the configs of the earlier runs. These themselves are not
    copied: in a long chain that would copy the first run once for every later one."""
    kept = {id(one.config): one.config for one in composed_runs(config)}
    result = copy.deepcopy(config, kept)
    for one in composed_runs(result):
        one.node["config"] = change(one)
    return result


def without_configs(node: Any) -> Any:
    """A config without the configs of earlier runs: the keys that name these are enough. A seed that they take over is
    left out too, since it distinguishes nothing.

    >>> without_configs({"teacher": {"experiment": "a", "seed": None, "config": {"seed": 1}}})
    {'teacher': {'experiment': 'a'}}
    """
    if not isinstance(node, dict):
        return node
    return {
        key: without_configs(value)
        for key, value in node.items()
        if key != "config" and not (key == "seed" and takes_over_the_seed(node))
    }
