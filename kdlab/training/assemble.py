"""Builds the parts of a run from a checked config. Nothing here writes or trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from kdlab.config.build import build, recipe
from kdlab.config.references import ComposedRun, Reference, composed_runs, initial_reference, teacher_reference
from kdlab.config.seeds import run_seed
from kdlab.config.signature import signature
from kdlab.counter import derived_seed
from kdlab.data import Data
from kdlab.data.loader import BatchLoader, Share
from kdlab.errors import InputError, KdlabError, ended_early, raised
from kdlab.models.layout import use_channels_last
from kdlab.objective import Objective
from kdlab.runs.checkpoints import peer_nodes, student_network
from kdlab.runs.run import Run, RunStore
from kdlab.schedules import at, scheduled
from kdlab.strategies import Strategy
from kdlab.strategies.cohort import Peer
from kdlab.strategies.optimization import OptimizerRecipe, epochs_in_all
from kdlab.tasks import Task, task_of
from kdlab.teachers import Routed, Teacher

from .caching import Caching, mode_of, unrepeated
from .clock import unfit
from .initial import inherit_layers, load_losses, load_weights
from .networks import (
    networks_of_peers,
    networks_of_teacher,
    new_head,
    no_room_for_answers,
    rounded_learners,
    tap_notes,
    too_long,
)
from .preparation import prepare, wrong_answers
from .routing import idle_members, keep_column
from .teacher import Trained, make_teacher, network_of
from .teacher_tokens import refuse_learners
from .unable import wrong_classes

_INITIALISATION, _CONNECTORS = 4, 5  # streams of random numbers
PROBE_ROWS = 4
MOST_PEERS = 64


def generations_before(config: dict) -> list[Reference] | None:
    """The references to the teachers of the generations before the teacher's, in order, without generation 0, which is
    no born-again network. None where the strategy does not ask for them, or where the teacher is not the previous
    generation."""
    generation, one = config["strategy"].get("generation") or 0, teacher_reference(config)
    found: list[Reference] = []
    if "earlier" not in signature(config["strategy"]["_target_"]).accepted:
        return None
    while generation > 1:
        generation -= 1
        if not isinstance(one, ComposedRun) or (one.config["strategy"].get("generation") or 0) != generation:
            return None
        found.append(one)
        one = teacher_reference(one.config)
    return found[:0:-1]


@dataclass
class Parts:
    """The parts of a run: data, networks, losses, strategy."""

    #: a :class:`kdlab.data.Data`; of a run from Python, its loaders by the same methods
    data: Any
    task: Task
    teacher: Teacher | None
    strategy: Strategy
    #: the earlier runs that are not trained yet; untrained networks take their place, so nothing may learn from these
    #: parts
    untrained: list[ComposedRun] = field(default_factory=list)
    #: notes for the user: how weights were read, and which parameters they leave untrained
    notes: list[str] = field(default_factory=list)
    #: of the teacher's answers; None where the teacher is asked in every step
    caching: Caching | None = None
    #: which layers of the teacher the student began with; None without ``student.initial.layers``
    inherited: dict | None = None


def assembled(config: dict) -> Parts:
    """The parts of a run. Networks of earlier runs have their weights if those exist.

    Raises:
        InputError: they do not fit, or some code raises StopIteration (which a loop would take for its end) or
            SystemExit (which the command line would take for success).
    """

    def trained(earlier: dict) -> Run | None:
        run = RunStore(earlier["paths"]["runs"]).run(earlier)
        return run if run.finished else None

    try:
        return assemble(config, trained)
    except SystemExit as error:
        raise InputError(f"{raised(error)}, before anything was trained") from error
    except Exception as error:
        if ended := ended_early(error):
            raise InputError(ended) from error
        raise


def assemble(config: dict, trained: Trained) -> Parts:
    """Build data, teacher, student, losses and strategy, and run a probe batch through them.

    Args:
        config: a checked config.
        trained: returns the finished run of a config (of a teacher, for example), or None where it is not trained yet.
            Then the untrained network is used, which is enough to find what does not fit.

    Raises:
        InputError: something is missing or does not fit; independent problems are listed together.
    """
    problems: list[str] = []
    notes: list[str] = []
    untrained: list[ComposedRun] = []
    if problems := rounded_learners(config):
        raise InputError(*problems)
    earlier = composed_runs(config)

    def looked_for(config: dict) -> Run | None:
        run = trained(config)
        if run is None:
            untrained.extend(one for one in earlier if one.config is config and one not in untrained)
        return run

    def attempt(make: Callable[[], Any]) -> Any:
        try:
            return make()
        except KdlabError as error:
            problems.extend(getattr(error, "problems", [str(error)]))

    data = attempt(lambda: make_data(config["data"]))
    if data is not None:
        attempt(lambda: keep_column(config, data))
    task = attempt(lambda: task_of(config, None if data is None else data.facts))
    if data is not None and task is not None:
        data.row_counts = task.row_counts
    caching = attempt(lambda: make_caching(config, data, notes)) if data is not None else None
    teacher = attempt(
        lambda: make_teacher(
            teacher_reference(config),
            task,
            looked_for,
            given=None if data is None else data.normalisation,
            channels=(config["data"]["shape"] or [1])[0],
            config=config,
            note=notes.append,
            caching=caching,
            data=data,
        )
    )
    before = generations_before(config)
    earlier_generations = (
        None
        if before is None
        else attempt(
            lambda: [
                make_teacher(
                    one,
                    task,
                    looked_for,
                    given=None if data is None else data.normalisation,
                    channels=(config["data"]["shape"] or [1])[0],
                    config=config,
                    data=data,
                )
                for one in before
            ]
        )
    )
    seed, initial = run_seed(config), initial_reference(config)
    torch.manual_seed(derived_seed(seed, _INITIALISATION))
    student = attempt(lambda: student_network(config))
    first = attempt(lambda: load_weights(student, initial, looked_for, notes.append)) if student is not None else None
    objective = attempt(lambda: make_objective(config["loss"]))
    peers = attempt(lambda: make_peers(config))
    if data is not None and peers is not None:
        attempt(lambda: refuse_learners(config, data, notes.append))
    optimization = attempt(lambda: make_optimization(config))
    if optimization is not None:
        attempt(optimization.rehearse)
    if data is not None:
        attempt(lambda: read_data(data, config["data"], task))
    if isinstance(teacher, Routed) and not problems:
        attempt(lambda: teacher.routes)
    if data is not None and not problems:
        own = {"student": student, **networks_of_peers(peers)}
        theirs = networks_of_teacher(teacher)
        problems += too_long(own, theirs, data) or no_room_for_answers({**own, **theirs}, data, task)
    if problems:
        raise InputError(*dict.fromkeys(problems))
    learners = {**({} if initial and initial.weights else {"student": student}), **networks_of_peers(peers)}
    notes += [line for key, network in learners.items() for line in new_head(key, network, config["data"]["classes"])]

    node = {key: value for key, value in config["strategy"].items() if key != "peers"}
    further = {
        **({"peers": peers} if peers else {}),
        **({"earlier": earlier_generations} if earlier_generations is not None else {}),
    }
    strategy = build(
        node,
        "strategy",
        student=student,
        teacher=teacher,
        objective=objective,
        task=task,
        optimization=optimization,
        seed=seed,
        epochs=epochs_planned(config["trainer"], data.train_dataloader()),
        taps=config["student"].get("taps"),
        **further,
    )
    precision = str(config["trainer"].get("precision"))
    if strategy.task.report.answers == "values" and precision in ("16-true", "bf16-true"):
        raise InputError(
            f"trainer.precision={precision} rounds the targets of task={strategy.task.name}, too; "
            "trainer.precision=bf16-mixed computes in half precision and keeps them"
        )
    wrong = wrong_answers(strategy)
    if config["trainer"].get("every_n_train_steps") is not None:
        wrong += unfit(strategy)
    if wrong:
        raise InputError(*wrong)
    data.seed, data.views = seed, strategy.views
    rows = data.part("train")
    loader = data.train_dataloader()
    if task.compared_with == "labels":
        task.check_labels(loader.target)
    data.order = strategy.sampler(loader.target, rows)
    strategy.epochs = epochs_planned(config["trainer"], data.train_dataloader())  # its order may have other batches
    notes += unrepeated(data, strategy.epochs)
    inherited = inherit_layers(
        student,
        initial,
        teacher,
        lambda one: network_of(one, looked_for, config, notes.append),
        data.train_dataloader().first,
        notes.append,
    )
    probe = data.train_dataloader().first(PROBE_ROWS)
    torch.manual_seed(derived_seed(seed, _CONNECTORS))
    if teacher is not None and (wrong := wrong_classes(config, teacher, probe)):
        raise InputError(*wrong)
    notes += prepare(strategy, probe, data.train_size, loader.target, rows, data.batch_size, data.label_blocks)
    notes += idle_members(teacher, data)
    notes += tap_notes({"student": student, **networks_of_peers(peers), **networks_of_teacher(teacher)})
    if initial is not None:
        load_losses(objective, first, initial.losses)
    if config.get("channels_last"):  # after prepare(), which adds parts to the networks
        use_channels_last(strategy)
    if caching is not None:
        caching.epochs, caching.views = strategy.epochs, strategy.views
    return Parts(data, task, teacher, strategy, untrained, notes, caching, inherited)


def epochs_planned(trainer: dict, loader: BatchLoader) -> int | None:
    """The epochs of the whole training, the last one perhaps not whole. None where that is not known.

    Args:
        trainer: the config's ``trainer``.
        loader: of the training batches.
    """
    taken = Share(limit=trainer.get("limit_train_batches")).taken(len(loader))
    accumulate = trainer.get("accumulate_grad_batches") or 1
    return epochs_in_all(taken, accumulate, trainer.get("max_epochs"), trainer.get("max_steps"))


def make_caching(config: dict, data: Data, notes: list[str]) -> Caching | None:
    """The kept answers of the config's teacher; None where it is asked in every step. ``notes`` receives why a sweep
    keeps none.

    Raises:
        InputError: ``teacher.cache`` asks for answers that would not be exact.
    """
    mode, why = mode_of(config, data)
    if why:
        notes.append(f"teacher.cache=auto: {why}; the teacher is asked in every step")
    return None if mode == "live" else Caching(config, data, mode)


def make_data(node: dict) -> Data:
    """The data set of the config's ``data``, not read yet."""
    data = build(node, "data")
    if not isinstance(data, Data):
        raise InputError(
            f"data: {node['_target_']} is no kdlab.data.Data; derive it from kdlab.data.InMemoryData and give it "
            "read() (from kdlab.data.InMemory where the labels are no classes, from kdlab.data.Data where the data do "
            "not fit in memory)"
        )
    return data


def class_names(node: dict, classes: int) -> list[str]:
    """The names of the classes of the config's ``data``, if they are known without reading it; otherwise their
    numbers."""
    try:
        names = list(make_data(node).class_names)  # type: ignore[attr-defined]
    except Exception:  # the user's own data set, whose code is no longer available; a folder that has moved
        names = []
    return names if len(names) == classes else list(map(str, range(classes)))


def read_data(data: Data, node: dict, task: Task | None = None) -> None:
    """Read and split the data, and compare them with the config.

    Args:
        task: of the run. If it reads no labels, ``data.classes`` is the width of the networks' answers, and not
            compared.

    Raises:
        InputError: they are missing or damaged, or ``data.classes``, ``data.shape`` or ``data.vocabulary`` are not
            theirs.
    """
    data.setup()
    facts: list[tuple[str, object, object]] = [
        ("shape", node["shape"], list(data.shape)),
    ]
    words = node.get("vocabulary") is not None and node["vocabulary"] == node["classes"]  # one fact, said once
    if (task is None or task.compared_with == "labels") and not (words and data.classes == data.facts.vocabulary):
        facts.insert(0, ("classes", node["classes"], data.classes))
    if node.get("vocabulary") is not None:
        facts.append(("vocabulary", node["vocabulary"], data.facts.vocabulary))
    wrong = [data.wrong_fact(key, stated, found) for key, stated, found in facts if stated != found]
    if wrong:
        raise InputError(*wrong)


def make_peers(config: dict) -> dict[str, Peer]:
    """The networks of ``strategy.peers``, each with its own random numbers.

    Raises:
        InputError: it is neither a number nor named networks.
    """
    if "peers" not in config["strategy"]:
        return {}
    peers = config["strategy"]["peers"]
    counted = isinstance(peers, int) and not isinstance(peers, bool) and 1 <= peers <= MOST_PEERS
    if not counted and not (
        isinstance(peers, dict)
        and peers
        and all(isinstance(node, dict) and node.get("_target_") for node in peers.values())
    ):
        raise InputError(
            f"strategy.peers must be how many networks like the student learn beside it (at most {MOST_PEERS}), or "
            f"name each of them: strategy.peers=2, or +student@strategy.peers.wide=mlp_wide; got {peers!r}"
        )
    lost = [
        choice.rpartition(".")[2]
        for choice in config.get("choices") or {}
        if choice.partition("@")[2].startswith("strategy.peers.")
    ]
    if any(name not in peer_nodes(config) for name in lost):
        raise InputError(
            f"strategy.peers={peers} and strategy.peers.{lost[0]}: the networks beside the student are a number of "
            "those like it, or each has its name; leave one of the two out"
        )
    made = {}
    for number, (name, node) in enumerate(peer_nodes(config).items(), start=1):
        key = "student" if isinstance(peers, int) else f"strategy.peers.{name}"
        torch.manual_seed(derived_seed(run_seed(config), _INITIALISATION, number))
        network = build({key: value for key, value in node.items() if key not in ("taps", "optimizer")}, key)
        if not isinstance(node.get("optimizer") or {}, dict):
            raise InputError(
                f"{key}.optimizer must be named options of the optimiser, for example {key}.optimizer.lr=0.01, got "
                f"{node['optimizer']!r}"
            )
        made[name] = Peer(network, node.get("taps") or {}, node.get("optimizer") or {})
    return made


def make_objective(terms: dict) -> Objective:
    """The objective of the config's ``loss``: losses, weights, and schedules in place of numbers."""
    losses, weights, schedules = {}, {}, {}
    problems: list[str] = []
    for name, node in terms.items():
        try:
            plain = at(node, 0.0)
            for key, wanted in scheduled(node):
                build(at(node, 0.0, {key: float("1e9")}), f"loss.{name}")  # its end must be allowed, too
                schedules[f"{name}.{key}"] = wanted
            losses[name] = build(plain, f"loss.{name}")
            weights[name] = plain.get("weight", 1.0)
        except KdlabError as error:
            problems.extend(getattr(error, "problems", [str(error)]))
        except ValueError as error:
            problems.append(f"loss.{name}: {error}")
    if problems:
        raise InputError(*problems)
    return Objective(losses, weights, schedules)


def make_optimization(config: dict) -> OptimizerRecipe:
    """Recipes for the optimiser and the learning-rate schedule."""
    scheduler = config["scheduler"] if (config["scheduler"] or {}).get("_target_") else None
    return OptimizerRecipe(
        optimizer=_named(recipe(config["optimizer"], "optimizer"), "optimizer"),
        scheduler=_named(recipe(scheduler, "scheduler"), "scheduler") if scheduler else None,
        interval=scheduler["interval"] if scheduler else "epoch",
        horizon=scheduler.get("horizon") if scheduler else None,
    )


def _named(make: Callable, key: str) -> Callable:
    """``make``, with errors about values turned into messages that name the key."""

    def call(**given: Any) -> Any:
        try:
            return make(**given)
        except (ValueError, TypeError) as error:
            raise InputError(f"{key}: {error}") from error

    return call
