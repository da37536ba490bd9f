"""A student's initial weights, from an earlier run or a file, and the state of that run's losses.

``student.initial`` names it in one of the forms ``experiment``, ``same_but``, ``run``, ``checkpoint``, or ``layers``:
then a student of another size begins with layers of the teacher. It is used only for training; a finished student is
loaded from its own checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.config.build import build
from kdlab.config.references import CheckpointFile, ComposedRun, FinishedRun, Initial, LayersOf, Reference
from kdlab.errors import InputError, shortened
from kdlab.models.causal import CausalModel
from kdlab.models.initialisation import inherit, needs_batch
from kdlab.models.lora import for_adapters, has_adapters
from kdlab.models.quantised import is_quantised
from kdlab.objective import Objective
from kdlab.runs.checkpoints import expected_node, naming, read_checkpoint, student_weights
from kdlab.runs.files import content_hash
from kdlab.runs.named import run_named
from kdlab.runs.run import Run, run_of
from kdlab.teachers import Teacher
from kdlab.weights.fit import OtherClasses, misfits, other_classes
from kdlab.weights.foreign import WrongClasses, lines_of, weights_for

KEY = "student.initial"
_NEW_HEAD = f"; {KEY}.new_head=true loads the rest and leaves the head of the student untrained"
_TERMS = "objective.terms."  # where the state of the losses is in a checkpoint


def load_weights(
    student: nn.Module,
    initial: Initial | None,
    trained: Callable[[dict], Run | None],
    note: Callable[[str], None] = lambda line: None,
) -> dict | None:
    """Load the weights that ``student.initial`` names into the student. With ``new_head``, weights for another number
    of classes are loaded without their head.

    Args:
        trained: returns the finished run of a config, or None where it is not trained yet. Then only the shapes are
            compared.
        note: receives lines on how a file was read and which head is new.

    Returns:
        The content of the checkpoint, for :func:`load_losses`; None where there is nothing to load (yet).

    Raises:
        InputError: they are of another network, or the run is not finished.
    """
    if (
        has_adapters(student)
        and not hasattr(student, "pretrained_weights")
        and (initial is None or not initial.weights)
    ):
        raise InputError(
            "student.lora: the weights of this student are random, and adapters do not train them; begin with trained "
            f"ones, as in initial=run {KEY}.run=runs/…, or set student.lora=null"
        )
    if initial is None or isinstance(initial.source, LayersOf):  # layers are taken over once there are data
        return None
    source = initial.source
    path, module = _checkpoint(initial, trained)
    if path is None:
        expected = build(expected_node(cast(ComposedRun, source).config), "student").state_dict()
        if initial.weights:
            _fitting(student, for_adapters(expected, student), initial, "the student of the run before")
        return None
    with naming(f"{KEY}.checkpoint" if isinstance(source, CheckpointFile) else KEY):
        content = read_checkpoint(path)
    if not initial.weights:
        return content
    if module is None:
        place = f"{KEY}.checkpoint"
        try:
            part = weights_for(student, content, path, place, cast(CheckpointFile, source).part, initial.new_head)
        except WrongClasses as error:
            raise InputError(f"{error}{_NEW_HEAD}") from error
        weights, other, lines = part.weights, part.other, lines_of(part, path, place)
    else:
        with naming(KEY):
            weights = for_adapters(student_weights(content, path, module), student)
        other, lines = _fitting(student, weights, initial, str(path)), []
    new = [] if other is None else other.names
    student.load_state_dict({name: value for name, value in weights.items() if name not in new}, strict=not new)
    for line in lines:
        note(line)
    if other is not None:
        note(
            f"{KEY}: {path} knows {other.theirs} classes, this student {other.ours}: its head ({shortened(new)}) is "
            "new and untrained"
        )
    return content


def inherit_layers(
    student: nn.Module,
    initial: Initial | None,
    teacher: Teacher | None,
    source: Callable[[Reference], nn.Module],
    batch: Callable[[int], Batch],
    note: Callable[[str], None] = lambda line: None,
) -> dict | None:
    """Fill the student with layers of the teacher, or of another network, if ``student.initial.layers`` asks for it.

    Args:
        teacher: of the run.
        source: loads the network that ``student.initial.of`` names.
        batch: returns training samples, of which the teacher's activations are measured.
        note: receives lines on what was done.

    Returns:
        What was done, for the record; None where nothing was asked for.

    Raises:
        InputError: there is no teacher, it is not one network, or the networks do not fit.
    """
    if initial is None or not isinstance(initial.source, LayersOf):
        return None
    one = initial.source
    network = None if teacher is None else teacher.network
    if one.source is not None:
        network = source(one.source)
    if network is None:
        why = "this run has no teacher" if teacher is None else "the teacher is not one network"
        choice = "causal" if isinstance(student, CausalModel) else "encoder"
        raise InputError(
            f"{KEY}: {why}, so name the network whose layers the student takes over: "
            f"'{KEY}.of={{run: runs/…}}' or +teacher@{KEY}.of={choice} {KEY}.of.pretrained=…"
        )
    if is_quantised(network):
        raise InputError(
            f"{KEY}: the teacher's weights have {network.bits} bits, so a student cannot take over its layers; name "
            f"the network again without bits: +teacher@{KEY}.of=causal {KEY}.of.pretrained=…"
        )
    try:
        samples = batch(one.rows) if needs_batch(student, network) else None
        if samples is not None and one.source is None:
            samples = samples.for_teacher()
        inputs = None if samples is None else samples.inputs
        place = next(network.parameters()).device
        if isinstance(inputs, dict):
            inputs = {name: value.to(place) for name, value in inputs.items()}
        done = inherit(student, network, **one.options, inputs=inputs)
    except ValueError as error:
        raise InputError(f"{KEY}: {error}") from error
    layers = ", ".join(map(str, done.layers))
    note(f"{KEY}: the student begins with layers {layers} of {one.source.name if one.source else 'the teacher'}")
    for line in done.narrowed:
        note(f"{KEY}: {line}")
    for line in done.lines:
        note(f"{KEY}: {line}")
    if done.new:
        note(f"{KEY}: {shortened(done.new)} {'is' if len(done.new) == 1 else 'are'} new and untrained")
    return {"layers": done.layers, "narrowed": done.narrowed, "new": done.new}


def _fitting(student: nn.Module, weights: dict[str, Tensor], initial: Initial, what: str) -> OtherClasses | None:
    """Raises InputError where weights do not fit the student. Returns the head if it has another number of classes and
    may be left out."""
    expected = student.state_dict()
    wrong, other = misfits(weights, expected), other_classes(weights, expected)
    if not wrong or other is not None and initial.new_head:
        return other
    cure = "" if other is None else _NEW_HEAD
    raise InputError(f"{KEY}: {what} does not fit {type(student).__name__}: {wrong}{cure}")


def _checkpoint(initial: Initial, trained: Callable[[dict], Run | None]) -> tuple[Path | None, str | None]:
    """The file (None where the run is not trained yet), and the module within the strategy that the run keeps (None for
    a file that belongs to no run)."""
    source = initial.source
    if isinstance(source, CheckpointFile):
        run = run_of(source.path)
        if run is None:
            return source.path, None
        return source.path, run.kept(source.path.stem)["module"] if run.finished else "student"
    if isinstance(source, FinishedRun):
        run, which = Run(source.path), source.which
    else:
        run, which = trained(cast(ComposedRun, source).config), "last"
    if run is None:
        return None, "student"
    if not run.finished:
        raise InputError(
            f"{KEY}.run: {run.path} is not finished (its status is {run.status}); start it again until it is"
        )
    return run.checkpoint(which), run.kept(which)["module"]


def load_losses(objective: Objective, content: dict | None, wanted: bool | list[str]) -> None:
    """Load the state of loss terms (connectors, a paraphraser), once it is prepared.

    Args:
        content: of the checkpoint; None where the run is not trained yet. Then only the names are checked.
        wanted: true loads every term whose state has the same names and shapes in the checkpoint; otherwise dotted
            names of the parts to load (``factor``, ``factor.paraphraser``).

    Raises:
        InputError: this run or the checkpoint has no such state, or nothing fits.
    """
    own = objective.terms.state_dict()
    names = list(objective.terms) if wanted is True else list(wanted or ())
    loaded = False
    for name in names:
        mine = _below(own, name)
        if not mine and wanted is not True:
            raise InputError(f"{KEY}.losses: this run's losses hold no state '{name}'")
        if content is None or not mine:
            continue
        kept = content.get("state_dict", {}) if isinstance(content, dict) else {}
        kept = {key.removeprefix(_TERMS): value for key, value in kept.items() if key.startswith(_TERMS)}
        theirs = _below(kept, name)
        wrong = misfits(theirs, mine)
        if not wrong:
            objective.terms.load_state_dict(theirs, strict=False)
            loaded = True
        elif wanted is not True:
            raise InputError(f"{KEY}.losses: the state of '{name}' does not fit that of the run before: {wrong}")
    if wanted is True and content is not None and not loaded:
        raise InputError(
            f"{KEY}.losses: no loss term of this run ({', '.join(names)}) has a state that fits one of the run before; "
            f"{KEY}.losses=false leaves them as they are"
        )


def _below(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key == name or key.startswith(f"{name}.")}


def origin(initial: Initial | None) -> dict | None:
    """Where the first weights came from, for the record: a path, and the hash of the run or the content of the file."""
    if initial is None:
        return None
    source = initial.source
    if isinstance(source, LayersOf):
        return {"path": source.name, "hash": None}
    if isinstance(source, CheckpointFile):
        return {"path": source.name, "hash": content_hash(source.path)}
    run = run_named(cast(ComposedRun | FinishedRun, source))
    return {"path": str(run.path), "hash": run.hash}
