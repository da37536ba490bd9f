"""The teacher of a run: found and loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from torch import nn

from kdlab.config.build import build
from kdlab.config.names import readable_name
from kdlab.config.references import (
    CheckpointFile,
    ComposedRun,
    EnsembleOf,
    FinishedRun,
    Network,
    OnePerTerm,
    Reference,
    RoutedByColumn,
    teacher_reference,
)
from kdlab.config.signature import locate
from kdlab.data import Data
from kdlab.errors import InputError, KdlabError
from kdlab.models.layout import use_channels_last
from kdlab.models.writes import Writes
from kdlab.normalisation import Normalisation
from kdlab.runs.checkpoints import expected_node, load_student, naming, read_checkpoint
from kdlab.runs.named import data_config
from kdlab.runs.run import Run, RunStore, run_of
from kdlab.tasks import CausalLM, Task
from kdlab.teachers import Ensemble, Frozen, PerTerm, Served, Teacher
from kdlab.teachers.normalisation import known_normalisation
from kdlab.weights.foreign import WrongClasses, lines_of, weights_for

from .caching import Caching
from .class_order import class_order
from .fine_tuning import as_student, beginning, commands
from .routing import routed
from .teacher_tokens import note_other_tokens, refuse_other_tokens, refuse_teacher
from .unable import classes_of, refuse_other_task, refuse_untrained

Trained = Callable[[dict], Run | None]  # the finished run of a teacher's config, or None where it is not trained yet


def make_teacher(
    one: Reference | None,
    task: Task,
    trained: Trained,
    given: Normalisation | None = None,
    channels: int = 3,
    config: dict | None = None,
    note: Callable[[str], None] = lambda line: None,
    caching: Caching | None = None,
    data: Data | None = None,
) -> Teacher | None:
    """The teacher that a reference describes.

    Args:
        one: to the teacher; None: there is none.
        trained: returns the finished run of a teacher's config.
        given: the normalisation of the student's data; inputs are converted to the teacher's own normalisation.
        channels: of the inputs.
        config: of the run that it teaches, for the commands in messages.
        note: receives lines about how its file was read.
        caching: of the answers of each of its networks; None: they are asked in every step.
        data: of the student; a teacher that names its classes is brought into their order.

    Raises:
        InputError: it cannot be found or read, it learned another task, or its weights leave parameters untrained.
    """
    return None if one is None else _made(one, task, trained, given, channels, config or {}, note, caching, data)


def _made(
    one: Reference,
    task: Task,
    trained: Trained,
    given: Normalisation | None,
    channels: int,
    config: dict,
    note: Callable[[str], None],
    caching: Caching | None,
    data: Data | None,
) -> Teacher:
    if isinstance(one, EnsembleOf):
        members = {
            name: _made(member, task, trained, given, channels, config, note, caching, data)
            for name, member in one.members.items()
        }
        if isinstance(one, OnePerTerm):
            return PerTerm(members, one.terms)
        if isinstance(one, RoutedByColumn):
            return routed(one, members, data)
        return Ensemble(members, one.rule, one.weights)
    if isinstance(one, Network) and (served := _is_teacher(one)) is not None:
        if (mode := one.node.get("cache") or "live") not in ("live", "auto"):
            raise InputError(f"{one.key}.cache={mode}: answers of a server are not kept; {one.key}.cache=live")
        if task is not None and not isinstance(task, CausalLM):
            raise InputError(f"{one.key}: {served.__name__} answers with words of a vocabulary, for task=causal_lm")
        teacher = build(one.node, one.key)
        if isinstance(teacher, Served):
            refuse_other_tokens(one.key, teacher, data)
        return teacher
    if task is not None:  # its own problem is listed beside those of the teacher
        refuse_other_task(one, task)

    # a run's order is known without its network
    order = None if isinstance(one, Network) or task is None else class_order(one, None, data, task, config, note)

    if isinstance(task, CausalLM):
        refuse_teacher(one, data, note)
    elif config:
        note_other_tokens(one, data, config, note)

    def live() -> Frozen:
        network, aliases = _teacher_network(one, trained, config, note)
        own_order = order
        if isinstance(one, Network) and task is not None:
            own_order = class_order(one, network, data, task, config, note)
        if config.get("channels_last"):
            use_channels_last(network)
        own = _normalisation(one, network, channels)
        if own is not None:
            own.check_channels(channels, f"{one.key}.normalisation")
        return Frozen(network, task, aliases, own, given, own_order)

    if caching is None:
        return live()
    if isinstance(one, ComposedRun):
        run = trained(one.config)
        return live() if run is None else caching.wrap(one, run, live, order, task)
    return caching.wrap(one, Run(one.path) if isinstance(one, FinishedRun) else None, live, order, task)


def _is_teacher(one: Network) -> type | None:
    """The class of a node that is a teacher itself, and no network; None for a network."""
    try:
        found = locate(one.node["_target_"])
    except LookupError:
        return None
    return found if isinstance(found, type) and issubclass(found, Teacher) else None


def teacher_of(run: Run, data: Data, task: Task) -> Teacher | None:
    """The teacher of a finished run, rebuilt. The run that trained it is looked up in :func:`_stores`.

    Args:
        data: the run's own.

    Raises:
        InputError: it is no longer available.
    """

    def trained(config: dict) -> Run:
        root = Path(config["paths"]["runs"])
        for store in _stores(root, run):
            found = RunStore(store).run(config)
            if found.finished:
                return found
        raise InputError(f"the run of its teacher, {readable_name(config)}, was not found finished in {root}")

    return make_teacher(
        teacher_reference(run.config),
        task,
        trained,
        given=data.normalisation,
        channels=data.shape[0],
        config=run.config,
        data=data,
    )


def run_of_teacher(run: Run) -> Run | None:
    """The finished run that taught a run, if there is one and it is found in :func:`_stores`."""
    teacher = run.read().teacher
    taught = [] if teacher is None else teacher.runs
    if len(taught) != 1:
        return None
    path = Path(taught[0]["path"])
    for store in _stores(path.parent.parent, run):
        found = Run(store / path.parent.name / path.name)
        if (found.path / "run.json").is_file() and found.finished and found.hash == taught[0]["hash"]:
            return found
    return None


def _stores(root: Path, student: Run) -> tuple[Path, ...]:
    """The stores that may hold a teacher's run: the one that its student's config or record names, relative to here and
    to the folder in which the student was trained, and the store of the student."""
    return root, Path(student.read().directory or ".") / root, student.path.resolve().parents[1]


def _normalisation(one: Reference, network: nn.Module, channels: int) -> Normalisation | None:
    """The normalisation of the inputs that a teacher was trained on: from its config, its run's data, or its library.
    None if unknown."""
    if one.normalisation:
        return Normalisation.of(**one.normalisation)
    if isinstance(one, Network):
        return known_normalisation(one.node, network, channels)
    data = data_config(one)
    try:
        return None if data is None else getattr(build(data, "data"), "normalisation", None)
    except KdlabError:  # the user's own data set, which is no longer available
        return None


def network_of(one: Reference, trained: Trained, config: dict, note: Callable[[str], None]) -> nn.Module:
    """The network that a reference names, for what a student begins with. A pretrained one may have an untrained
    head."""
    return build(one.node, one.key) if isinstance(one, Network) else _teacher_network(one, trained, config, note)[0]


def _teacher_network(
    one: Reference, trained: Trained, config: dict, note: Callable[[str], None]
) -> tuple[nn.Module, dict]:
    if isinstance(one, ComposedRun):
        run = trained(one.config)
        if run is not None:
            return run.network("last"), run.network_config("last").get("taps") or {}
        expected = expected_node(one.config)
        return build(expected, "student"), expected.get("taps") or {}
    if isinstance(one, FinishedRun):
        run = Run(one.path)
        if not run.finished:
            raise InputError(
                f"{one.key}.run: {run.path} is not finished (its status is {run.status}); start it again until it is"
            )
        return run.network(one.which), run.network_config(one.which).get("taps") or {}
    if isinstance(one, CheckpointFile):
        return _checkpoint_network(one, config, note)
    with Writes() as writes:
        network = build(one.node, one.key)
    refuse_untrained(config, cast(Network, one), network, writes.drawn(network))
    return network, one.node.get("taps") or {}


def _checkpoint_network(one: CheckpointFile, config: dict, note: Callable[[str], None]) -> tuple[nn.Module, dict]:
    """The network of a checkpoint file, built from its config node, or from the run that holds the file."""
    key, path, place = one.key, one.path, f"{one.key}.checkpoint"
    run, described = run_of(path), one.network
    if not described:
        if run is None:
            raise InputError(
                f"{place}: {path} lies in no kdlab run, so say what network it is of: {key}.network._target_=… "
                "and its arguments"
            )
        described = run.network_config(path.stem)
    network = build(described, f"{key}.network")
    with naming(place):
        content = read_checkpoint(path)
        if run is not None and run.status != "absent":
            load_student(network, path, content, run.kept(path.stem)["module"])
            return network, described.get("taps") or {}
    try:
        part = weights_for(network, content, path, place, one.part)
    except WrongClasses as error:
        other, classes = error.other, classes_of(config)
        student = as_student(described, other.ours, classes or other.ours)
        cure = commands(config, key, student and [*student, *beginning("checkpoint", path)])
        raise InputError(
            f"{place}: {path} knows {other.theirs} classes ({other.names[0]}), and {key}.network has "
            f"{other.ours}. A network of other classes cannot teach these; fine-tune it first{cure}"
        ) from None
    network.load_state_dict(part.weights)
    for line in lines_of(part, path, place):
        note(line)
    return network, described.get("taps") or {}
