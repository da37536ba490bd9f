"""``ensure(config) -> Run``: the run of a config, trained if it is not yet.

Teachers, and later assistants, generations and sweeps, are all ensured runs: hashed, locked, trained if absent, returned.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator

import torch
from filelock import FileLock, Timeout
from scipy.stats import binomtest

from kdlab.config.check import check, check_facts
from kdlab.config.keys import teacher_nodes
from kdlab.errors import InputError, KdlabError, RunFailed
from kdlab.evaluation import predict
from kdlab.schedules import is_schedule
from kdlab.teachers import Teacher

from . import record as provenance
from .assemble import Parts, assemble
from .execute import evaluation_device, finish, fit, quiet, rehearse, teacher_share, threads, train_seconds, world_size
from .files import write_text
from .identity import run_hash
from .ranks import already_a_rank, fit_in_ranks
from .run import FAILED, FINISHED, INTERRUPTED, RUNNING, Run, RunStore

Say = Callable[[str], None]


def ensure(config: dict, say: Say = print) -> Run:
    """The finished run of a config. Found if it is there, resumed if it was begun, trained otherwise; its teachers before it.

    Args:
        config: a composed plain config (:func:`kdlab.config.compose.compose`).
        say: receives the lines that a person wants to see.

    Raises:
        InputError: the config, the data or the teacher are not fit to begin with. Nothing was written.
        RunFailed: training failed; run.json holds the traceback.
        KeyboardInterrupt: the user stopped it; the same call goes on from the last finished epoch.
    """
    check(config)
    check_facts(config)
    store = RunStore(config["paths"]["runs"])
    run = store.run(config)
    if run.finished and not config["fresh"]:
        return _found(run, say)
    quiet()
    # the caller's random numbers and number of threads are as before when this returns
    with threads(config["threads"]), torch.random.fork_rng(devices=[]):
        rehearse(config)
        parts = assembled(config)
        if _ensure_teachers(config, say):
            parts = assembled(config)
        measured = _measure_teacher(config, parts, say)
        with _locked(store, run, say):
            run = store.run(config)
            if run.finished and not config["fresh"]:       # another process was faster
                return _found(run, say)
            _train(config, run, parts, measured, say)
    return run


def assembled(config: dict) -> Parts:
    """The live parts of a run, teachers with their weights wherever those exist."""
    def trained(teacher: dict) -> Run | None:
        run = RunStore(teacher["paths"]["runs"]).run(teacher)
        return run if run.finished else None
    return assemble(config, trained)


def _found(run: Run, say: Say) -> Run:
    told, present = run.record.get("code", {}), provenance.code()
    note = ""
    if told.get("commit") != present["commit"]:
        note = f"; trained by commit {str(told.get('commit'))[:8]}, this is {str(present['commit'])[:8]} (fresh=true trains anew)"
    say(f"finished already: {run.path}{note}")
    return run


def _ensure_teachers(config: dict, say: Say) -> bool:
    """Train the teachers that are yet to be trained; whether there were any."""
    trained = False
    for node in teacher_nodes(config["teacher"]):
        if "config" in node:
            teacher = node["config"]
            if not RunStore(teacher["paths"]["runs"]).run(teacher).finished:
                say(f"teacher: training {node['experiment']} (seed {teacher['seed']}), once for all runs that share it")
                ensure(teacher, say)
                trained = True
    return trained


def _measure_teacher(config: dict, parts: Parts, say: Say) -> dict | None:
    """What the teacher is and how good it is on validation. Raises InputError if it is no better than chance."""
    if parts.teacher is None:
        return None
    measured = measure(parts.teacher, parts, evaluation_device(config))
    name = _teacher_name(config["teacher"])
    say(f"teacher: {name}, accuracy {measured['accuracy']:.4f} on validation")
    if measured["chance_probability"] > 0.01:
        raise InputError(f"teacher: {name} is no better than chance on validation: accuracy {measured['accuracy']:.4f}, where always "
                         f"naming the most frequent class gives {measured['most_frequent']:.4f}; nothing can be learned from it. "
                         "Check its weights, its classes and the normalisation of its inputs")
    _warn_of_other_split(config, say)
    described = {"name": name, "validation_accuracy": measured["accuracy"], "validation_nll": measured["nll"], "runs": []}
    for node in teacher_nodes(config["teacher"]):
        if "config" in node or "run" in node:
            run = Run(node["run"]) if "run" in node else RunStore(node["config"]["paths"]["runs"]).run(node["config"])
            described["runs"].append({"path": str(run.path), **{key: run.record[key] for key in ("hash", "metrics", "parameters", "durations")}})
    network = getattr(parts.teacher, "network", None)
    described["parameters"] = sum(value.numel() for value in network.parameters()) if network is not None else None
    return described


def measure(teacher: Teacher, parts: Parts, device: torch.device) -> dict[str, float]:
    """Scores of a teacher on validation, and how probable its accuracy would be by chance (a one-sided binomial test against always
    naming the most frequent class)."""
    said = predict(teacher.teach, parts.data.val_dataloader(), parts.task, device)
    scores = parts.task.score(said["logits"], said["target"])
    counts = said["target"].bincount()
    frequent = (counts.max() / counts.sum()).item()
    right = int((said["logits"].argmax(-1) == said["target"]).sum())
    probability = binomtest(right, len(said["target"]), min(frequent, 1.0), alternative="greater").pvalue
    return {**scores, "most_frequent": frequent, "chance_probability": float(probability)}


def _teacher_name(node: dict) -> str:
    if "config" in node:
        return f"{node['experiment']} (seed {node['config']['seed']})"
    if "members" in node:
        return f"ensemble of {len(node['members'])} ({', '.join(node['members'])})"
    return str(node.get("run") or node.get("checkpoint") or node.get("model") or node.get("model_name") or node.get("_target_"))


def _warn_of_other_split(config: dict, say: Say) -> None:
    """A teacher that was trained on what the student holds out makes the validation numbers too good."""
    for node in teacher_nodes(config["teacher"]):
        theirs = (node.get("config") or {}).get("data") or (Run(node["run"]).config["data"] if "run" in node else None)
        ours = config["data"]
        if theirs and theirs["_target_"] == ours["_target_"]:
            differing = [key for key in ("validation", "split_seed") if theirs.get(key) != ours.get(key)]
            if differing:
                say(f"teacher: warning: its data.{' and data.'.join(differing)} differ from the student's, so it has seen samples that the "
                    "student holds out for validation")


@contextlib.contextmanager
def _locked(store: RunStore, run: Run, say: Say) -> Iterator[None]:
    """Only one process trains a run; a second one waits. The system frees the lock of a process that was killed."""
    path = store.lock_file(run)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
    except OSError as error:
        raise InputError(f"paths.runs: {store.root} cannot be written ({error.strerror}); name another folder with paths.runs=…") from error
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process is training {run.path}; waiting for it")
        lock.acquire()
    except OSError as error:
        raise InputError(f"paths.runs: {store.root} cannot be written ({error.strerror}); name another folder with paths.runs=…") from error
    try:
        yield
    finally:
        lock.release()


def _train(config: dict, run: Run, parts: Parts, teacher: dict | None, say: Say) -> None:
    if config["fresh"]:
        run.clear()
    _begin(config, run, parts, teacher, say)
    began = time.perf_counter()
    before = run.record["durations"].get("wall_seconds", 0.0)
    try:
        world = world_size(config)
        if world > 1 and not already_a_rank():
            fit_in_ranks(config, run.path, world)
        else:
            fit(config, run, parts)
        metrics = finish(config, run, parts)
        durations = {"train_seconds": train_seconds(run), "wall_seconds": before + time.perf_counter() - began}
        (run.path / "error.txt").unlink(missing_ok=True)
        run.update(status=FINISHED, metrics=metrics, durations=durations, teacher_share=teacher_share(run), ended=provenance.now())
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        run.update(status=INTERRUPTED if stopped else FAILED, ended=provenance.now(), error=f"{type(error).__name__}: {error}",
                   durations={"wall_seconds": before + time.perf_counter() - began})
        if stopped:
            raise
        write_text(run.path / "error.txt", traceback.format_exc())
        if isinstance(error, KdlabError):
            raise
        reason = str(error).strip().splitlines() or [""]
        raise RunFailed(f"the run failed while training: {type(error).__name__}: {reason[0]}. The traceback is in {run.path}/error.txt; "
                        "finished epochs are kept, and the same command goes on from there") from error
    last, best = metrics["test/accuracy"], metrics["test/accuracy_best"]
    say(f"student: test accuracy {last:.4f} (last epoch), {best:.4f} (best on validation, epoch {metrics['best_epoch']})")
    say(str(run.path))


def _begin(config: dict, run: Run, parts: Parts, teacher: dict | None, say: Say) -> None:
    """Write run.json before anything else, or take up the one that is there."""
    earlier = {}
    if (run.path / "run.json").exists():
        earlier = run.record
        say(f"resuming {run.path}")
    for leftover in run.path.glob("**/*.part"):
        leftover.unlink(missing_ok=True)
    values = {
        "format": provenance.FORMAT,
        "hash": run_hash(config),
        "group": run_hash({**config, "seed": 0}),       # the same for runs that differ in nothing but the seed
        "status": RUNNING,
        "command": provenance.command_line(),
        "overrides": config.get("overrides", []),
        "choices": config.get("choices", {}),
        "seed": config["seed"],
        "threads": config["threads"],
        "weights": {name: "scheduled" if is_schedule(node.get("weight", 1.0)) else node.get("weight", 1.0)
                    for name, node in config["loss"].items()},
        "code": provenance.code(),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
        "parameters": sum(value.numel() for value in parts.strategy.student.parameters()),
        "trainable_parameters": sum(value.numel() for value in parts.strategy.parameters() if value.requires_grad),
        "uses_teacher": parts.teacher is not None and parts.strategy.objective.learns_from_teacher,
        "teacher": teacher,
        "metrics": {},
        "durations": earlier.get("durations", {}),
        "teacher_share": None,
        "began": earlier.get("began", provenance.now()),
        "resumed": [*earlier.get("resumed", []), provenance.now()] if earlier else [],
        "ended": None,
        "error": None,
    }
    try:
        run.begin(config, values)
    except OSError as error:
        raise InputError(f"paths.runs: {run.path} cannot be written ({error.strerror}); name another folder with paths.runs=…") from error
