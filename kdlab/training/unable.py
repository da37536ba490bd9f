"""Teachers that cannot teach: they learned another task, parameters are untrained, or the number of classes is not that
of the data."""

from __future__ import annotations

from torch import nn

from kdlab.batch import Batch
from kdlab.config.idle import ALONE
from kdlab.config.references import (
    CheckpointFile,
    ComposedRun,
    EnsembleOf,
    FinishedRun,
    Network,
    Reference,
    teacher_reference,
)
from kdlab.errors import InputError, shortened
from kdlab.runs.named import run_named
from kdlab.tasks import Task
from kdlab.tasks.metric import Report, report_of
from kdlab.teachers import Teacher

from .fine_tuning import as_student, beginning, classes_argument, commands, run_as_student


def refuse_other_task(one: Reference, task: Task) -> None:
    """Raises InputError where the run of a teacher learned answers of another kind than its student is to learn.

    The kinds are compared, not the names: a task of the user's own may only add a metric to one of kdlab's.
    """
    if isinstance(one, ComposedRun):
        theirs = report_of(one.config)
        if task.compared_with == "teacher" and one.config["strategy"]["_target_"] == ALONE:
            raise InputError(
                f"{one.key}: {one.name} would be trained on labels, and task={task.name} reads none; name a trained "
                "network: teacher=encoder teacher.pretrained=FOLDER_OR_HUB_NAME teacher.head=embedding, or "
                f"teacher=run teacher.run=RUN of task={task.name}"
            )
    else:
        run = run_named(one)
        if run is None or run.status == "absent":
            return
        theirs = run.read().task
    if wrong := of_other_task(one.name, theirs, task.report):
        raise InputError(
            f"{one.key}: {wrong}; teacher=trained trains one for this task, or name a run of task={task.name}"
        )


def of_other_task(name: str, theirs: Report, ours: Report) -> str:
    """What is wrong with a teacher whose answers are of another kind than the student's; empty if nothing is.

    Args:
        name: of the teacher.

    >>> from kdlab.tasks.metric import CLASSIFICATION, REGRESSION
    >>> of_other_task("runs/a", REGRESSION, CLASSIFICATION)
    'runs/a learned task=regression (values), and this run has task=classification (classes)'
    >>> of_other_task("runs/a", REGRESSION, REGRESSION)
    ''
    """
    if theirs.answers == ours.answers:
        return ""
    return f"{name} learned task={theirs.task} ({theirs.answers}), and this run has task={ours.task} ({ours.answers})"


def refuse_untrained(config: dict, one: Network, network: nn.Module, drawn: list[str]) -> None:
    """Raises InputError where parameters of a network still have the random values of its constructor, however good it
    is on validation."""
    weights = getattr(network, "pretrained_weights", None) or {}
    unfilled = weights.get("unfilled") or drawn
    if not unfilled:
        return
    named, classes = shortened(unfilled), classes_of(config)
    if weights.get("unfilled"):
        known = weights["classes"]
        why = (
            f"its weights know {known} classes, the data have {classes}, so its head ({named}) would be untrained"
            if known
            else f"its weights hold no head ({named}), which would be untrained"
        )
    else:
        matrices = [name for name, value in network.named_parameters() if value.dim() > 1]
        most = 2 * sum(name in drawn for name in matrices) > len(matrices)
        why = f"{named} hold{'s' if len(drawn) == 1 else ''} the random numbers that its constructor drew" + (
            ": it has no trained weights" if most else ""
        )
    node, argument = one.node, classes_argument(one.node, None)
    student = as_student(node, node[argument], classes) if argument in node else as_student(node)
    raise InputError(f"{one.key}: {one.name}: {why}. Fine-tune it first{commands(config, one.key, student)}")


def wrong_classes(config: dict, teacher: Teacher, batch: Batch) -> list[str]:
    """Problems of all teachers whose number of classes differs from that of the data.

    Args:
        batch: a few samples. A single teacher that cannot read them is left to
            :func:`kdlab.training.preparation.prepare`, which cannot check the members of an ensemble one by one.
    """
    one = teacher_reference(config)
    if one is None:
        return []
    owners: list[tuple[Reference, Teacher]] = [(one, teacher)]
    if isinstance(one, EnsembleOf):
        owners = [(one.members[name], member) for name, member in teacher.members.items()]
    found = []
    for own, asked in owners:
        try:
            answered = asked.teach(batch).classes
        except Exception as error:
            if own is not one and isinstance(error, InputError):
                found += [f"{own.key}: {problem}" for problem in error.problems]
            continue
        if answered != config["data"]["classes"] and report_of(config).answers == "vectors":
            found.append(
                f"{own.key}: {own.name} answers with vectors of {answered} numbers, and data.classes="
                f"{config['data']['classes']}, which is their width; set data.classes={answered}"
            )
        elif answered != config["data"]["classes"]:
            found.append(_of_other_classes(config, own, answered))
    return found


def _of_other_classes(config: dict, one: Reference, answered: int) -> str:
    classes, key = config["data"]["classes"], one.key
    if isinstance(one, ComposedRun) and one.config["data"]["classes"] == classes:
        return (
            f"{key}: the network answers with {answered} classes, but the data have {classes}; set student.classes "
            f"(or the argument of that network that gives its number of classes) to {classes} in {one.changed_by}"
        )
    student, which = None, one.name
    if isinstance(one, (ComposedRun, FinishedRun)):
        run = run_named(one)
        student = run_as_student(one.config if isinstance(one, ComposedRun) else run.config, run)
    elif isinstance(one, CheckpointFile):
        owner, described = run_named(one), one.network
        if described is not None:
            student = as_student(described, answered, classes)
        elif owner is not None:
            student = run_as_student(owner.config, owner)
        student = student and [text for text in student if "initial" not in text]
        student = student and student + beginning("checkpoint", one.name)
        argument = described and classes_argument(described, answered)
        which += f" ({key}.network.{argument}={answered})" if argument else ""
    else:
        student = as_student(one.node, answered, classes)
        argument = classes_argument(one.node, answered)
        which += f" ({key}.{argument}={answered})" if argument in one.node else ""
    return (
        f"{key}: {which} answers with {answered} classes, but the data have {classes}. A network of other classes "
        f"cannot teach these; fine-tune it first{commands(config, key, student)}"
    )


def classes_of(config: dict) -> int | None:
    """The number of classes of the data, if the config gives it."""
    return (config.get("data") or {}).get("classes")
