"""Networks, loaders and names become a strategy that can be trained: built, checked and tried on a few samples."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from kdlab import tasks
from kdlab.batch import Batch
from kdlab.config.keys import LOSSES
from kdlab.config.seeds import run_seed
from kdlab.counter import derived_seed
from kdlab.data.random_numbers import restored_random_numbers
from kdlab.errors import InputError, did_you_mean, ended_early
from kdlab.runs.run import Run
from kdlab.strategies import Strategy
from kdlab.strategies.cohort import Cohort, Peer
from kdlab.tasks import Classification, Embedding, Task
from kdlab.tasks.metric import REPORTS
from kdlab.teachers import Frozen, Teacher
from kdlab.training.assemble import _CONNECTORS, PROBE_ROWS
from kdlab.training.preparation import prepare
from kdlab.training.unable import of_other_task

from .loaders import Batches
from .recipes import Recipe, make_strategy, recipe
from .wording import python_words

#: name -> task
_TASKS = {report.task: getattr(tasks, kind) for kind, report in REPORTS.items()}


@dataclass
class Prepared:
    """What :func:`kdlab.library.prepared` returns. For Lightning: ``trainer.fit(made.strategy, made.train,
    made.validation)``.

    Args:
        strategy: the LightningModule.
        train, validation, test: the loaders, which yield :class:`kdlab.Batch`; None where there is none.
        task: what a label means.
        teacher: the frozen teacher; None where there is none.
        notes: warnings.
        recipe: names and options, composed.
    """

    strategy: Strategy
    train: Batches
    validation: Batches | None
    test: Batches | None
    task: Task
    teacher: Teacher | None
    notes: list[str] = field(default_factory=list)
    recipe: Recipe | None = None


def prepared(
    student: nn.Module | Run,
    teacher: nn.Module | Teacher | Run | None,
    train: Iterable,
    validation: Iterable | None = None,
    test: Iterable | None = None,
    *,
    loss: Any = None,
    weights: Mapping[str, float] | None = None,
    strategy: Any = "offline",
    peers: Sequence | Mapping | None = None,
    optimizer: Any = "adamw",
    lr: float | None = None,
    scheduler: Any = "cosine",
    epochs: int,
    seed: int = 1,
    taps: Mapping[str, str] | None = None,
    teacher_taps: Mapping[str, str] | None = None,
    labels: Tensor | None = None,
    classes: int | None = None,
    task: Task | str | None = None,
) -> Prepared:
    """A strategy with its losses, ready for a Lightning Trainer of your own. Everything is tried on a few samples; no
    weight changes. Arguments as for :func:`kdlab.distill`; ``epochs`` is the ``max_epochs`` of your Trainer, which the
    schedules of some losses depend on. The networks are moved to the CPU, and the teacher is in
    evaluation mode and has no gradients from here on.

    Raises:
        InputError: the parts do not fit; nothing was trained.
    """
    with python_words(), restored_random_numbers():
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise InputError(f"epochs must be a whole number of at least 1, got {epochs!r}")
        loss = _losses_of(task, strategy) if loss is None else loss
        made = recipe(loss, weights, strategy, optimizer, lr, scheduler, epochs, seed)
        made.optimization.rehearse()
        node = made.config["strategy"] if made.strategy is None else {}
        seed = run_seed({"seed": seed, "strategy": node})
        student = _network(student, "student")
        named = _peers(peers, made)
        train_loader = Batches(train, "train", "train", seed)
        others = {
            name: None if loader is None else Batches(loader, name, name, seed)
            for name, loader in (("validation", validation), ("test", test))
        }
        learners = {"student": student, **{f"peers.{name}": peer.network for name, peer in named.items()}}
        _refuse_shared(learners, teacher)
        for network in learners.values():
            network.cpu()
        first = train_loader.first(PROBE_ROWS)
        chosen = _task(task, classes, student, first)
        teacher = _teacher(teacher, chosen, teacher_taps)
        _needs_teacher(made, teacher)
        built = make_strategy(
            made,
            student=student,
            teacher=teacher,
            objective=made.make_objective(),
            task=chosen,
            optimization=made.optimization,
            seed=seed,
            epochs=epochs,
            taps=taps,
            **({"peers": named} if named else {}),
        )
        for one in filter(None, [train_loader, *others.values()]):
            one.classes = chosen.width if chosen.report.answers == "classes" else None
            one.check_labels = chosen.check_labels
        rows = _number_samples(built, train_loader, first, labels)
        first = train_loader.first(PROBE_ROWS).to("cpu")
        for one in filter(None, others.values()):
            one.first(1)
        _enough_views(built, first, made)
        if made.config["data"].get("mixing") is not None and first.share is None:
            raise InputError(
                f"strategy: {made.config['choices']['strategy']} mixes images, and the batches of train are not mixed; "
                "let each batch be a dict with mixed inputs, and with target, partner_target and share as kdlab.Batch "
                "has them"
            )
        notes = _alike(named, student)
        torch.manual_seed(derived_seed(seed, _CONNECTORS))
        notes += prepare(built, first, train_loader.size or 0, train_loader.labels, rows, train_loader.batch_size)
    return Prepared(built, train_loader, others["validation"], others["test"], chosen, teacher, notes, made)


def _network(given: object, role: str) -> nn.Module:
    if isinstance(given, Run):
        given = given.student
    if not isinstance(given, nn.Module):
        raise InputError(f"{role} must be a torch.nn.Module, got {type(given).__name__}")
    _refuse_lazy(given, role)
    if any(value.dtype == torch.float64 for value in given.parameters()):
        raise InputError(
            f"{role}: its parameters are float64, and kdlab trains and tests in float32; use {role}.float()"
        )
    if not any(value.requires_grad for value in given.parameters()):
        raise InputError(f"{role}: none of its parameters can learn; use {role}.requires_grad_(True)")
    return given


def _refuse_lazy(network: nn.Module, role: str) -> None:
    if any(isinstance(value, UninitializedParameter) for value in network.parameters()):
        raise InputError(f"{role}: it has lazy parameters, whose shapes are not known yet; call it on a batch once")


def _peers(given: Any, made: Recipe) -> dict[str, Peer]:
    takes = "peers" in made.config["strategy"] if made.strategy is None else None
    if made.strategy is not None:
        kind = getattr(made.strategy, "func", made.strategy)
        takes = issubclass(kind, Cohort) if isinstance(kind, type) else given is not None
    if given is None and not takes:
        return {}
    if not takes:
        raise InputError("peers: this strategy trains one network; leave peers= out")
    if isinstance(given, nn.Module):
        given = [given]
    if given is None or not isinstance(given, (Sequence, Mapping)) or not given:
        raise InputError(
            "peers: this strategy trains more networks than the student; give them with their own initial weights, "
            'for example peers=[Net()] or peers={"wide": WideNet()}'
        )
    named = given if isinstance(given, Mapping) else {f"peer{number}": one for number, one in enumerate(given, start=2)}
    return {
        name: one if isinstance(one, Peer) else Peer(_network(one, f"peers.{name}"), {}, {})
        for name, one in named.items()
    }


def _refuse_shared(learners: Mapping[str, nn.Module], teacher: object) -> None:
    """Raises InputError where two networks have parameters in common."""
    networks = {**learners, **({"teacher": teacher} if isinstance(teacher, nn.Module) else {})}
    owner: dict[int, str] = {}
    for role, network in networks.items():
        for value in network.parameters():
            other = owner.setdefault(id(value), role)
            if other != role:
                raise InputError(
                    f"{role} and {other} have parameters in common, so one would change with the other; use "
                    f"copy.deepcopy for the {role}"
                )


def _alike(peers: Mapping[str, Peer], student: nn.Module) -> list[str]:
    """Warnings about peers that begin with the student's own weights."""
    mine, found = student.state_dict(), []
    for name, peer in peers.items():
        theirs = peer.network.state_dict()
        if theirs.keys() == mine.keys() and all(torch.equal(theirs[key].cpu(), mine[key].cpu()) for key in mine):
            found.append(
                f"peers.{name}: warning: it begins with the student's own weights, so the two may stay the same"
            )
    return found


def _losses_of(task: Task | str | None, strategy: object) -> list[str] | None:
    """The losses of a task without classes, if none are given: the one on labels, and the one on a teacher's answers
    unless the strategy learns from labels alone. None: the strategy's own."""
    name = task.name if isinstance(task, Task) else task
    found = LOSSES.get(f"kdlab.tasks.{_TASKS[name].__name__}") if name in _TASKS and name != "classification" else None
    given = next(iter(strategy), None) if isinstance(strategy, Mapping) else getattr(strategy, "__name__", strategy)
    chosen = None if found is None else found[:1] if str(given).lower() == "supervised" else found
    return None if chosen is None else [one for one in chosen if one]


def _width(student: nn.Module, first: Any) -> int:
    """The number of columns of the student's answers. Raises InputError if it cannot read the batch."""
    mode = student.training
    try:
        with torch.no_grad():
            return Classification(2).network_outputs(student.eval(), first.to("cpu")).logits.shape[-1]
    except InputError as error:
        raise InputError(*(f"student: {problem}" for problem in error.problems)) from error
    except Exception as error:  # a network of the user's own may fail in any way
        reason = ended_early(error) or f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise InputError(f"student: the network cannot read {_described(first.inputs)}: {reason}") from error
    finally:
        student.train(mode)


def _task(task: Task | str | None, classes: int | None, student: nn.Module, first: Any) -> Task:
    if isinstance(task, Task):
        if classes is not None:
            raise InputError("classes: the task has its number of classes; leave classes= out")
        return task
    if task is not None and task not in _TASKS:
        raise InputError(
            f"task must be one of {', '.join(_TASKS)}, or a kdlab.tasks.Task, got {task!r}{did_you_mean(task, _TASKS)}"
        )
    kind = _TASKS[task or "classification"]
    if kind is Embedding and classes is None:
        classes = _width(student, first)
    if kind is not Classification and classes is None:
        classes = max(first.target.shape[1:], default=1) if first.target.dim() > 1 else 1
    if kind is not Classification:
        return kind(classes)
    if classes is None:
        classes = _width(student, first)
    elif isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        raise InputError(f"classes must be a whole number of at least 2, got {classes!r}")
    target = first.target
    if target.dim() != 1 or target.dtype != torch.int64:
        raise InputError(
            f"train: the labels of a batch must be class numbers (samples,), got {target.dtype} of shape "
            f'{tuple(target.shape)}; for numbers give task="regression", for several labels task="multilabel"'
        )
    return Classification(classes)


def _described(inputs: object) -> str:
    if isinstance(inputs, Tensor):
        return f"a batch of inputs of shape {tuple(inputs.shape)}"
    if isinstance(inputs, Mapping):
        return (
            f"the inputs, a dict of {', '.join(map(str, inputs))}, which it gets by name; let forward() take these "
            "arguments"
        )
    return f"inputs of type {type(inputs).__name__}"


def _teacher(given: object, task: Task, taps: Mapping[str, str] | None) -> Teacher | None:
    if isinstance(given, Run):
        if wrong := of_other_task(str(given.path), given.read().task, task.report):
            raise InputError(f"teacher: {wrong}; give a teacher of the same task")
        taps = {**(given.network_config("last").get("taps") or {}), **(taps or {})}
        given = given.network("last")
    if isinstance(given, nn.Module):
        _refuse_lazy(given, "teacher")
        return Frozen(given.cpu(), task, taps)
    if given is None or isinstance(given, Teacher):
        if taps:
            raise InputError("teacher_taps: they name modules of a network, and teacher is none")
        return given
    hint = "; several networks: kdlab.teachers.Ensemble" if isinstance(given, (list, tuple)) else ""
    raise InputError(
        f"teacher must be a torch.nn.Module, a kdlab Teacher, a Run or None, got {type(given).__name__}{hint}"
    )


def _needs_teacher(made: Recipe, teacher: Teacher | None) -> None:
    if teacher is None and made.strategy is None:
        kind = made.config["strategy"]["_target_"].rpartition(".")[2]
        if kind in ("Offline", "BornAgain") and made.make_objective().needs_teacher:
            raise InputError("teacher: the strategy needs one; give a trained network, or choose another strategy=")


def _number_samples(strategy: Strategy, train: Batches, first: Batch, labels: Any) -> Tensor | None:
    """Find the labels of all samples if a term or the strategy remembers samples. Returns the numbers that are trained
    on; None: all, or not known.

    Raises:
        InputError: the samples have no numbers, or their labels are not known.
    """
    ordered = type(strategy).sampler is not Strategy.sampler
    needing = [f"loss.{name}" for name, term in strategy.objective.losses.items() if term.needs_index]
    needing += ["strategy"] if ordered or strategy.needs_index else []
    if labels is not None:
        train.labels = torch.as_tensor(labels).cpu()
    elif needing:
        train.find_labels()
    if not needing:
        return None
    if not train.numbered(first):
        raise InputError(
            f"{needing[0]}: it remembers samples by their number, and the batches of train do not hold it. Use a "
            "torch.utils.data.DataLoader of a data set with __getitem__ and __len__, or let each batch be a dict with "
            '"inputs", "target" and "index"'
        )
    if train.labels is None:
        raise InputError(
            f"{needing[0]}: it needs the labels of all training samples by their number, and the data set has no list "
            "of them (targets, labels); give labels=torch.tensor([…])"
        )
    if train.size != len(train.labels):
        raise InputError(f"labels must be one for each of the {train.size} samples, got {len(train.labels)}")
    rows = train.rows
    if ordered:
        order = strategy.sampler(train.labels, torch.arange(train.size) if rows is None else rows)
        if order is not None:
            train.follow(order)
    return rows


def _enough_views(strategy: Strategy, batch: Batch, made: Recipe) -> None:
    views = 1 + len(batch.further_views)
    if strategy.views <= views:
        return
    terms = [f"loss.{name}" for name, term in strategy.objective.losses.items() if term.views > views]
    optional = not terms and made.strategy is None and made.config["strategy"].get("views") == "different"
    cure = f'; or choose strategy={{"{made.config["choices"]["strategy"]}": {{"views": "same"}}}}' if optional else ""
    raise InputError(
        f"{terms[0] if terms else 'strategy'}: it compares {strategy.views} augmented views of each batch, and the "
        f"batches of train have {views}; let each batch be a dict with "
        f'"inputs", "target" and "further_views" (a tuple: '
        f"the same samples augmented again){cure}"
    )


@contextlib.contextmanager
def restored_networks(learning: Iterable, teaching: Iterable) -> Iterator[None]:
    """Restores the device of networks afterwards, and of those that teach also mode and gradients. What is no network
    is left out."""
    kept = []
    for network, teaches in [*((one, False) for one in learning), *((one, True) for one in teaching)]:
        if isinstance(network, nn.Module):
            devices = {value.device for value in [*network.parameters(), *network.buffers()]}
            modes = [(part, part.training) for part in network.modules()] if teaches else []
            named = network.named_parameters() if teaches else ()
            gradients = {name: value.requires_grad for name, value in named}
            kept.append((network, devices, modes, gradients))
    try:
        yield
    finally:
        for network, devices, modes, gradients in kept:
            if len(devices) == 1:
                network.to(next(iter(devices)))
            for part, mode in modes:
                part.training = mode
            for name, value in network.named_parameters() if gradients else ():
                value.requires_grad_(gradients[name])


def copied(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a network with other weights, in evaluation mode."""
    made = copy.deepcopy(network)
    made.load_state_dict(state)
    return made.eval()
