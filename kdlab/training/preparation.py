"""Preparing a strategy, once, before the optimiser exists: everything is tried on a few samples, and all misfits are
reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from kdlab.batch import Batch
from kdlab.config.keys import LOSSES
from kdlab.errors import InputError, ended_early
from kdlab.losses.base import Loss, Probe
from kdlab.models.causal import CausalModel
from kdlab.models.text import TextEncoder
from kdlab.objective import Objective
from kdlab.outputs import Outputs
from kdlab.strategies.base import Strategy
from kdlab.tasks import Task
from kdlab.teachers import Ensemble, Frozen, Routed, Teacher
from kdlab.teachers.joined import unlike

Said = TypeVar("Said", bound=Outputs | None)


def prepare(
    strategy: Strategy,
    batch: Batch,
    train_size: int,
    train_target: Tensor | None = None,
    train_rows: Tensor | None = None,
    batch_size: int | None = None,
    label_blocks: Callable[[], Iterator[Tensor]] | None = None,
) -> list[str]:
    """Check the combination, let strategy and losses build the parts that depend on shapes, then try one step. No
    weight or buffer changes.

    Args:
        batch: a few training samples.
        train_size: samples in the stored training split.
        train_target: their labels.
        train_rows: those that are trained on.
        batch_size: of all processes together.
        label_blocks: gives their labels some samples at a time; None: ``train_target``, all at once.

    Returns:
        Warnings for the user.

    Raises:
        InputError: the parts do not fit; independent problems are listed together.
    """
    _refuse(_no_teacher(strategy.teacher))
    _refuse(
        [
            *wrong_answers(strategy),
            *_wrong_heads(strategy),
            *strategy.validate_combination(),
            *_needs_samples(strategy),
            *_no_chain(strategy),
            *_wrong_mixture(strategy, batch),
            *_needs_every_label(strategy, batch),
        ]
    )
    if any(isinstance(value, UninitializedParameter) for value in strategy.student.parameters()):
        raise InputError(
            "student: it has lazy parameters, whose shapes are known only after the first batch; give their sizes"
        )
    objective, teacher = strategy.objective, strategy.teacher
    if teacher is not None:
        learning = {name: term for name, term in objective.losses.items() if term.needs_teacher or term.teacher_taps}
        teacher.prepare({name: term.teacher_taps for name, term in learning.items()})
    before = modes_of(strategy)
    strategy.eval()
    with torch.no_grad():
        student = _answer(lambda: strategy.observe(batch), "student", batch)
        answers = strategy.answers()
        others = {strategy.key_of(name): answers.pop(name) for name in strategy.networks() if name != "student"}
        peers = {key: _answer(partial(answer, batch), key, batch) for key, answer in others.items()}
        members = _members_answers(teacher, batch)
        _refuse(unlike(members) if members else [])
        # after them: where peers teach, a peer that fails is named by its own name
        taught = _answer(lambda: strategy.taught_by(batch), "teacher", batch)
        teachers = members or ({"teacher": taught} if teacher is not None and taught is not None else {})
        if teacher is not None and teacher.terms and taught is not None:
            teachers = {f"teacher.members.{teacher.terms[name]}": own for name, own in taught.by_term.items()}
        _refuse(_wrong_width({"student": student, **teachers, **peers}, strategy.task))
        warnings = _no_logits({"student": student, **peers}, objective, strategy.task, "evaluation")
        for name in set(answers) - {"student"}:  # what they say together
            _answer(partial(answers[name], batch), name, batch)
        _refuse(_idle_taps(student, taught, objective))
        _refuse(_not_for_sparse(objective, taught))
        probe = Probe(
            student,
            taught,
            teacher,
            student.logits.shape[-1],
            train_size,
            train_target,
            train_rows,
            {} if teacher is None else teacher.aliases,
            batch_size,
            batch,
            {} if teacher is None else teacher.by_term,
            strategy.student,
            label_blocks,
        )
        _refuse(_unequal_tokens(strategy, batch, taught))
        strategy.attach(probe)
    restore_modes(before)
    objective.prepare(probe)
    if teacher is not None:  # not before: a term that is not at work yet must be prepared, too
        teacher.attend(objective.active_teacher_terms)
    return list(dict.fromkeys([*warnings, *_rehearse(strategy, batch)]))


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError(*problems)


def _no_teacher(teacher: object) -> list[str]:
    if teacher is None or isinstance(teacher, Teacher):
        return []
    return [
        f"teacher: {type(teacher).__name__} is no kdlab.teachers.Teacher; a network becomes one with "
        "kdlab.teachers.Frozen(network, task), another object by a class that derives from Teacher"
    ]


def wrong_answers(strategy: Strategy) -> list[str]:
    """Terms, strategies and ensembles that are not for the task: a softmax over one predicted value, for example, is
    always 1."""
    task, answers = strategy.task, strategy.task.report.answers
    names = [name for name in LOSSES.get(f"kdlab.tasks.{type(task).__name__}", ()) if name]
    found = [
        f"loss.{name}: {type(term).__name__} is for {' or '.join(term.answers)}, and with task={task.name} a network "
        f"answers with {answers}" + (f"; for example loss=[{','.join(names)}]" if names else "")
        for name, term in strategy.objective.losses.items()
        if answers not in term.answers
    ]
    if answers not in strategy.answers_may_be:
        found.append(
            f"strategy: {type(strategy).__name__} is for {' or '.join(strategy.answers_may_be)}, and with "
            f"task={task.name} a network answers with {answers}; take another strategy, for example strategy=offline"
        )
    if task.compared_with == "teacher" and (strategy.teacher is None or strategy.teacher.terms):
        what = "has none" if strategy.teacher is None else "has one for each term of the loss"
        found.append(
            f"teacher: task={task.name} reads no labels and measures how close a student is to one frozen teacher, and "
            f"this run {what}; for example strategy=offline teacher=encoder teacher.pretrained=FOLDER_OR_HUB_NAME "
            "teacher.head=embedding"
        )
    return found + (_wrong_averages(strategy.teacher, answers, "teacher") if answers != "classes" else [])


def _wrong_heads(strategy: Strategy) -> list[str]:
    """Text encoders whose head has outputs of another kind than the task's: of samples, of tokens, or vectors."""
    networks = {strategy.key_of(name): network for name, network in strategy.networks().items()}
    if isinstance(strategy.teacher, Frozen):  # the network of kept answers is not loaded for this
        networks["teacher"] = strategy.teacher.network
    if isinstance(strategy.teacher, Routed):
        theirs = strategy.teacher.members.items()
        networks |= {f"teacher.members.{name}": one.network for name, one in theirs if isinstance(one, Frozen)}
    usual, task = strategy.task.text_heads, strategy.task.name
    found = []
    for role, network in networks.items():
        group = "teacher" if role.startswith("teacher") else "student"
        if isinstance(network, CausalModel) and usual:
            found.append(
                f"{role} is a causal language model, which is for task=causal_lm, and the task is {task}; take a text "
                f"encoder: {group}=encoder {role}.pretrained=NAME"
            )
        if isinstance(network, TextEncoder) and not usual:
            found.append(
                f"{role} is a text encoder, whose tokens see those after them, and task={task} predicts these; take a "
                f"causal language model: {group}=causal {role}.pretrained=NAME"
            )
        elif isinstance(network, TextEncoder) and network.head not in usual:
            found.append(f"{role}.head={network.head} is no head for task={task}; {role}.head={usual[0]}")
    return found


def _wrong_averages(teacher: Teacher | None, answers: str, key: str) -> list[str]:
    """Ensembles that combine probabilities of classes, where the answers are no classes."""
    if teacher is not None and (teacher.terms or isinstance(teacher, Routed)):
        return [
            problem
            for name, member in teacher.members.items()
            for problem in _wrong_averages(member, answers, f"{key}.members.{name}")
        ]
    if isinstance(teacher, Ensemble) and teacher.average != "logits":
        return [
            f"{key}.average={teacher.average} is for classes, and here a network answers with {answers}; "
            f"{key}.average=logits averages the answers themselves"
        ]
    return []


def _no_chain(strategy: Strategy) -> list[str]:
    if strategy.generation == 0 or strategy.teacher is not None:
        return []
    return [
        (
            f"strategy.generation={strategy.generation}: it counts the runs of a chain, and this run learns from no "
            "run before it; strategy.generation=0"
        )
    ]


def _needs_samples(strategy: Strategy) -> list[str]:
    """Terms for sampled answers, in a strategy that samples none."""
    if strategy.own_inputs:
        return []
    return [
        f"loss.{name}: {type(term).__name__} is for answers that the student has sampled; strategy=on_policy "
        "strategy.share=1"
        for name, term in strategy.objective.losses.items()
        if term.needs_samples
    ]


def _wrong_mixture(strategy: Strategy, batch: Batch) -> list[str]:
    """Terms and strategies that cannot learn from mixed images, where the data mix them."""
    if batch.share is None:
        return []

    def reason(term: Loss) -> str:
        if term.needs_index:
            return "knows samples by their index"
        return "needs one label an image" if term.needs_target and not term.mixed_labels else ""

    cure = "leave the mixing out (mixing=none)"
    found = _unable(strategy, reason, "data.mixing makes one image of two", cure)
    if not strategy.mixing:
        found.insert(
            0, f"strategy: {type(strategy).__name__} cannot learn from mixed images, and data.mixing is set; {cure}"
        )
    return found


def _needs_every_label(strategy: Strategy, batch: Batch) -> list[str]:
    """Terms, strategies and tasks that need the label of every sample, where some have none."""
    if batch.labelled is None:
        return []
    needs = "needs a label of every sample"

    def reason(term: Loss) -> str:
        return needs if term.needs_index or term.needs_target and term.per in ("position", "batch") else ""

    cure = "leave out data.unlabelled and data.labelled (or data.rest=dropped)"
    found = []
    if not strategy.unlabelled:
        found.append(f"strategy: {type(strategy).__name__} {needs}, and some have none; {cure}")
    if len(strategy.task.align_batch(batch).index) != len(batch):
        found.append(f"task={strategy.task.name}: it {needs}, and some have none; {cure}")
    return found + _unable(strategy, reason, "some have none", cure)


def _unable(strategy: Strategy, reason: Callable[[Loss], str], what: str, cure: str) -> list[str]:
    """The terms that cannot learn from these samples.

    Args:
        reason: why a term cannot; empty if it can.
        what: the data do that makes them unable.
    """
    return [
        f"loss.{name}: {type(term).__name__} {why}, and {what}; leave the term out, or {cure}"
        for name, term in strategy.objective.losses.items()
        if (why := reason(term))
    ]


def modes_of(module: nn.Module) -> dict[nn.Module, bool]:
    """Whether each module is in training mode, for :func:`restore_modes`."""
    return {part: part.training for part in module.modules()}


def restore_modes(modes: dict[nn.Module, bool]) -> None:
    """Set each module to its former mode."""
    for part, training in modes.items():
        part.training = training


def _answer(answer: Callable[[], Said], role: str, batch: Batch) -> Said:
    """The network's answer. Raises InputError with the names of network and inputs where it cannot read them."""
    try:
        return answer()
    except InputError as error:
        named = (one if one.startswith((f"{role}:", f"{role}.")) else f"{role}: {one}" for one in error.problems)
        raise InputError(*named) from error
    except Exception as error:  # a network of the user's own may fail in any way
        shape = tuple(getattr(batch.inputs, "shape", ()))
        raise InputError(
            f"{role}: the network cannot read a batch of inputs of shape {shape}: {_reason(error)}"
        ) from error


def _members_answers(teacher: Teacher | None, batch: Batch) -> dict[str, Outputs]:
    """What each member of a routed teacher answers to all samples, by its key; empty for another teacher."""
    if not isinstance(teacher, Routed):
        return {}
    return {
        key: _answer(partial(member.teach, batch), key, batch)
        for key, member in ((f"teacher.members.{name}", member) for name, member in teacher.members.items())
    }


def _wrong_width(said: dict[str, Outputs], task: Task) -> list[str]:
    expected, what = task.width, task.report.answers
    if what == "vectors":
        return [
            f"{role}: the network answers with vectors of {outputs.classes} numbers, and data.classes="
            f"{expected}, the width of the teacher's; set {role}.classes (or the argument of that network that gives "
            f"the width of its vectors) to {expected}"
            for role, outputs in said.items()
            if expected is not None and outputs.classes != expected
        ]
    return [
        f"{role}: the network answers with {outputs.classes} {what}, but the data have {expected}; "
        f"set {role}.classes (or the argument of that network that gives its number of {what}) to {expected}"
        for role, outputs in said.items()
        if expected is not None and outputs.classes != expected
    ]


def _no_logits(said: dict[str, Outputs], objective: Objective, task: Task, mode: str) -> list[str]:
    """Warnings about learning networks whose answers may be no logits.

    Raises:
        InputError: they are probabilities, and a loss term applies softmax to them again.
    """
    terms = ", ".join(
        f"loss.{name}" for name, term in objective.losses.items() if objective.counts(name) and _applies_softmax(term)
    )
    softmax = (
        f"in {mode} mode the network answers with probabilities (no number is below 0, and each row sums to 1). "
        f"{terms or 'The metrics on validation and test'} must have logits; let it return the logits: remove "
        "the softmax at its end"
    )
    sigmoid = (
        f"in {mode} mode all answers of the network lie between 0 and 1, like those of a sigmoid. Losses need "
        "logits: if it ends in a sigmoid, remove that"
    )
    kinds = {role: task.not_logits(outputs.logits, trained=False) for role, outputs in said.items()}
    if terms:
        _refuse([f"{role}: {softmax}" for role, kind in kinds.items() if kind == "softmax"])
    return [
        f"{role}: warning: {softmax if kind == 'softmax' else sigmoid}"
        for role, kind in kinds.items()
        if kind is not None
    ]


def _applies_softmax(term: nn.Module) -> bool:
    """Whether a term is kdlab's own and applies softmax. The user's own terms may expect probabilities."""
    return type(term).__module__.startswith("kdlab.losses.") and not term.reads_logits and not term.student_taps


def _idle_taps(student: Outputs, teacher: Outputs | None, objective: Objective) -> list[str]:
    asked: list[tuple[str, Outputs, Iterable[str]]] = [("student", student, objective.student_taps)]
    for name, term in objective.losses.items():
        if teacher is None:
            break
        own = teacher.by_term.get(name)
        asked.append(
            ("teacher", teacher, term.teacher_taps)
            if own is None
            else (f"teacher of loss.{name}", own, term.teacher_taps)
        )
    idle = [
        f"tap '{tap}': the {role} has this module, but does not call it in its forward pass"
        for role, outputs, taps in asked
        for tap in sorted(set(taps) - set(outputs.features))
    ]
    return list(dict.fromkeys(idle))


def _not_for_sparse(objective: Objective, teacher: Outputs | None) -> list[str]:
    """Terms that a teacher cannot teach of whom only a part of the distribution is known, or is known at another
    temperature."""
    found = []
    for name, term in objective.losses.items():
        said = None if teacher is None or not term.needs_teacher else teacher.by_term.get(name, teacher).sparse
        if said is None:
            continue
        dense = f"a teacher of whom all logits are known ({said.all_known})" if said.kept else said.all_known
        if said.kind not in term.sparse:
            terms = "forward_kl or kd" if said.kind == "sampled" else "forward_kl, reverse_kl, jensen_shannon or kd"
            found.append(
                f"loss.{name}: {type(term).__name__} reads all of the teacher's logits, and its answers are "
                f"{said.told}; take {terms}, or {dense}"
            )
        elif f"{name}.temperature" in objective.schedules:
            found.append(
                f"loss.{name}.temperature: it has a schedule, and {said.told} are known at temperature "
                f"{said.temperature:g} alone; give that number, or take {dense}"
            )
        elif (temperature := getattr(term, "temperature", 1.0)) != said.temperature:
            other = (
                f"keep answers at this one: +teacher.cache_temperature={temperature:g}, or take " if said.kept else ""
            )
            found.append(
                f"loss.{name}.temperature={temperature:g}: {said.told} are known at temperature "
                f"{said.temperature:g} alone, and what they are at another one does not follow; "
                f"loss.{name}.temperature={said.temperature:g}, or {other}{dense}"
            )
    return found


def _unequal_tokens(strategy: Strategy, batch: Batch, teacher: Outputs | None) -> list[str]:
    """Terms that compare token with token, where the teacher reads the texts as other tokens."""
    if batch.teacher_inputs is None or teacher is None:
        return []
    cure = (
        "take terms on the logits or on one vector a text, or a teacher that reads the same tokens "
        "(data.teacher_tokenizer=null data.teacher_pad_to=same)"
    )
    what = "the teacher's tokens are not the student's (data.teacher_tokenizer, data.teacher_pad_to)"
    if len(strategy.task.align_batch(batch).index) != len(batch):
        return [f"task={strategy.task.name}: it has a row for each token, and {what}; {cure}"]
    found = []
    for name, term in strategy.objective.losses.items():
        features = teacher.by_term.get(name, teacher).features
        of_tokens = [tap for tap in term.teacher_taps if tap in features and features[tap].dim() > 2]
        if of_tokens or (term.needs_teacher and term.per == "position"):
            tap = f" (its tap '{of_tokens[0]}')" if of_tokens else ""
            found.append(f"loss.{name}: it compares token with token{tap}, and {what}; {cure}")
    return found


def _rehearse(strategy: Strategy, batch: Batch) -> list[str]:
    """Compute the loss of one step in train mode and undo all changes. So errors that occur only in train mode are
    found before anything is written. Returns warnings."""
    buffers = {name: value.clone() for name, value in strategy.named_buffers()}
    before = modes_of(strategy)
    strategy.train()
    try:
        with torch.random.fork_rng(devices=[]):
            step = strategy.distill(batch)
        total = step.loss.total
        if not isinstance(total, Tensor):
            raise ValueError(f"the loss must be a tensor of one number, got {total!r}")
        if total.dim() != 0:
            raise ValueError(f"the loss must be one number, got shape {tuple(total.shape)}")
        said = {strategy.key_of(name): step.outputs[name] for name in strategy.networks() if name in step.outputs}
        return _no_logits(said, strategy.objective, strategy.task, "training")
    except InputError:
        raise
    except Exception as error:  # networks, losses and strategies of the user's own may fail in any way
        raise InputError(f"a step on {len(batch)} samples fails: {_reason(error)}") from error
    finally:
        restore_modes(before)
        for name, value in strategy.named_buffers():
            value.data.copy_(buffers[name])


def _reason(error: Exception) -> str:
    """An exception in one line."""
    return ended_early(error) or f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
