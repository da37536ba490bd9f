"""``kdlab.distill``: networks and loaders of your own, any strategy and losses of kdlab."""

from __future__ import annotations

import contextlib
import copy
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdlab.data.random_numbers import restored_generator, restored_random_numbers
from kdlab.errors import BeingTrained, InputError
from kdlab.runs import record as provenance
from kdlab.runs.checkpoints import read_checkpoint, student_weights
from kdlab.runs.curve import MetricsFile
from kdlab.runs.files import write_text
from kdlab.runs.run import FAILED, FINISHED, INTERRUPTED, Run
from kdlab.tasks import Task
from kdlab.teachers import Teacher
from kdlab.training.assemble import Parts
from kdlab.training.execute import quiet
from kdlab.training.results import results

from .fitting import Fitting, described_teacher
from .loaders import Batches
from .preparing import Prepared, copied, prepared, restored_networks
from .record import begin, content_of, description, identity, refuse_other
from .wording import python_words

# torch's random numbers are one for the whole process: calls from several threads take turns
_TURN = threading.RLock()


class Distilled:
    """What :func:`distill` returns.

    Attributes:
        student: the trained network in evaluation mode, with the weights of the last epoch: the module that was given.
            Where the strategy chooses among several networks (``keep``), the one that is kept.
        networks: all networks that learned, by name, with the weights of the last epoch.
        metrics: ``val/accuracy``, ``test/accuracy`` (last epoch), ``test/accuracy_best`` (best epoch on validation) and
            so on, as of a :class:`kdlab.Run`.
        curve: one dict per epoch, the rows of metrics.csv.
        record: what run.json holds of a run.
        path: the run's directory; None without ``directory=``.
    """

    def __init__(self, parts: Prepared, record: dict, curve: list[dict], path: Path | None, best: dict | None):
        self.networks: dict[str, nn.Module] = dict(parts.strategy.networks())
        self.strategy, self.record, self.curve, self.path = parts.strategy, record, curve, path
        self.metrics: dict[str, float] = record["metrics"]
        self._best = best

    def __repr__(self) -> str:
        end = f"/{self.strategy.task.headline.name}"
        metrics = ", ".join(f"{key} {value:.4f}" for key, value in self.metrics.items() if key.endswith(end))
        return f"Distilled({metrics or f'{len(self.curve)} epochs'})"

    @property
    def student(self) -> nn.Module:
        """The network that is kept, with the weights of the last epoch."""
        return self.networks[self.record["kept"]["last"]["network"]]

    @property
    def best(self) -> nn.Module:
        """A copy of the network that is kept, with the weights of the best epoch on validation.

        Raises:
            InputError: it was trained without validation.
        """
        if self._best is None:
            raise InputError("best: there was no validation=, so no epoch is the best")
        return copied(self.networks[self.record["kept"]["best"]["network"]], self._best)


def distill(
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
    epochs: int = 40,
    seed: int = 1,
    trainer: Mapping | None = None,
    taps: Mapping[str, str] | None = None,
    teacher_taps: Mapping[str, str] | None = None,
    labels: Tensor | None = None,
    classes: int | None = None,
    task: Task | str | None = None,
    directory: str | Path | None = None,
    name: str | None = None,
    data: str | None = None,
    fresh: bool = False,
    progress: str = "auto",
) -> Distilled:
    """Train a network of your own with kdlab's strategies and losses. The student is trained in place.

    Everything is checked first, on a few samples. In the end the teacher is as it was before, also its mode and its
    ``requires_grad``, and so are the random numbers of the process.

    Args:
        student: the network that learns. It is called with the inputs of a batch, and returns logits ``(B, C)``, or an
            object that has ``logits``.
        teacher: a trained network, a kdlab Teacher (:class:`kdlab.teachers.Ensemble`), a finished :class:`kdlab.Run`;
            None for strategies without a teacher.
        train, validation, test: DataLoaders, lists of batches, or loaders of kdlab. A batch is ``(inputs, target)``, a
            dict, or a :class:`kdlab.Batch` (:class:`kdlab.library.Batches`). Test is read once, at the end.
        loss: the terms: names of ``conf/loss`` (``["ce", "kd"]``), or a dict from name to options
            (``{"ce": {}, "kd": {"temperature": 8}}``) or to a :class:`kdlab.Loss`, or an
            :class:`kdlab.objective.Objective`. None: those of the strategy. Options that are not given are those of
            the file; the weight of ``ce`` follows that of ``kd`` as there.
        weights: name -> weight of a term; 1 for a Loss without one.
        strategy: a name of ``conf/strategy``, ``{name: options}``, or a class or factory of a
            :class:`kdlab.Strategy`.
        peers: the further networks of online strategies: a list, or name -> network.
        optimizer: a name of ``conf/optimizer``, ``{name: options}``, or what makes one:
            ``functools.partial(torch.optim.SGD, momentum=0.9)``.
        lr: the learning rate; None: that of the optimiser.
        scheduler: a name of ``conf/scheduler``, ``{name: options}``, None for a constant rate, or what makes one of an
            optimiser, which is then stepped once per epoch.
        epochs: of the training.
        seed: of order, dropout and connectors. The student's initial weights are those that it has.
        trainer: further options of ``lightning.Trainer``: ``{"accelerator": "gpu", "callbacks": […]}``.
        taps, teacher_taps: names for modules of student and teacher, for losses on features:
            ``{"stage2": "layer2"}``. Dotted module paths are taps without that.
        labels: the labels of all training samples by number, for terms that remember samples, if the data set has no
            list of them.
        classes: how many there are; None: as many as the student has logits.
        task: what a label means: ``classification`` (the default), ``multilabel``, ``regression``, or a
            :class:`kdlab.tasks.Task`.
        directory: of the run: run.json, config.yaml, metrics.csv, checkpoints, predictions. The same call resumes a
            run that was stopped, and finds a finished one. None: nothing is kept; checkpoints are in a temporary
            folder while it trains.
        name: with ``directory``: what the experiment is called. Runs of one name that differ only in the seed are
            compared as repetitions, so change it with anything that kdlab cannot see, as the code of your network.
        data: the name of the data in comparisons.
        fresh: start over in ``directory``, even if the run there is finished.
        progress: ``bar``, ``lines``, ``none``, or ``auto``: a bar on a terminal, otherwise lines.

    Raises:
        InputError: something does not fit; nothing was trained or written.

    >>> import torch
    >>> x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    >>> batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long()), 16)
    >>> made = distill(torch.nn.Linear(4, 2), None, batches, batches, strategy="supervised", lr=0.1, epochs=8,
    ...     progress="none")
    >>> made.metrics["val/accuracy"] > 0.8, len(made.curve)
    (True, 8)
    """
    if directory is not None and not name:
        raise InputError(
            'directory: give a name= too, for example name="my_experiment": kdlab cannot see the code of your networks '
            "and the content of your data, so the name says which runs are repetitions of one experiment"
        )
    for key, value in (("name", name), ("data", data), ("fresh", fresh)):
        if value and directory is None:
            raise InputError(f"{key}= is for runs that are kept; give directory= too, or leave {key}= out")
        if key != "fresh" and not isinstance(value, (str, type(None))):
            raise InputError(f"{key} must be a text, got {value!r}")
    if isinstance(teacher, nn.Module) and str((trainer or {}).get("precision")) in ("16-true", "bf16-true"):
        teacher = copy.deepcopy(teacher)  # its weights are rounded for the training
    quiet()
    with (
        _TURN,
        restored_random_numbers(),
        restored_networks([student, *_listed(peers)], [teacher]),
        python_words(),
        contextlib.ExitStack() as stack,
    ):
        parts = prepared(
            student,
            teacher,
            train,
            validation,
            test,
            loss=loss,
            weights=weights,
            strategy=strategy,
            peers=peers,
            optimizer=optimizer,
            lr=lr,
            scheduler=scheduler,
            epochs=epochs,
            seed=seed,
            taps=taps,
            teacher_taps=teacher_taps,
            labels=labels,
            classes=classes,
            task=task,
        )
        if directory is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kdlab-"))) / "run"
        else:
            folder = Path(directory)
        run = Run(folder)
        fitting = Fitting(run, parts, epochs, dict(trainer or {}), progress)
        config = description(parts, name, data, seed, epochs, fitting.options)
        hashes = identity(config, content_of(parts.teacher) if directory is not None else None)
        refuse_other(run, hashes[0], config, fresh)
        with _locked(run) if directory is not None else contextlib.nullcontext():
            if not fresh and run.finished:
                return _found(run, parts)
            for note in parts.notes:
                fitting.say(note)
            described = described_teacher(parts, teacher, fitting)
            if fresh and directory is not None:
                run.clear()
            return _train(run, fitting, config, hashes, described, directory is not None)


def _listed(peers: object) -> list:
    several = peers.values() if isinstance(peers, Mapping) else peers if isinstance(peers, (list, tuple)) else []
    return [getattr(one, "network", one) for one in several]


@contextlib.contextmanager
def _locked(run: Run) -> Iterator[None]:
    from filelock import Timeout

    try:
        lock = run.lock()
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BeingTrained(f"another process is training {run.path}") from error
    except OSError as error:
        raise InputError(f"directory: {run.path} cannot be written ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()


def _train(
    run: Run, fitting: Fitting, config: dict, hashes: tuple[str, str], teacher: dict | None, kept: bool
) -> Distilled:
    parts = fitting.parts
    begin(run, config, hashes, parts, teacher)
    began, before = time.perf_counter(), run.record["durations"].get("wall_seconds", 0.0)
    try:
        with restored_generator(parts.train.given):
            fitting.fit()
        data = _Data(parts)
        found = results(
            {"trainer": fitting.options}, run, Parts(data, parts.task, parts.teacher, parts.strategy), teacher
        )
        durations = {"train_seconds": found["train_seconds"], "wall_seconds": before + time.perf_counter() - began}
        (run.path / "error.txt").unlink(missing_ok=True)
        values = {key: value for key, value in found.items() if key != "train_seconds"}
        run.update(status=FINISHED, durations=durations, ended=provenance.now(), **values)
    except BaseException as error:
        if kept:
            with contextlib.suppress(OSError):
                run.update(
                    status=INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED,
                    ended=provenance.now(),
                    error=f"{type(error).__name__}: {error}",
                    durations={"wall_seconds": before + time.perf_counter() - began},
                )
                write_text(run.path / "error.txt", traceback.format_exc())
        raise
    result = _found(run, parts, kept)
    for line in fitting.summary(result.metrics, run.path if kept else None):
        fitting.say(line)
    return result


def _found(run: Run, parts: Prepared, kept: bool = True) -> Distilled:
    """The result of a finished run, with its weights in the networks that were given."""
    strategy, record = parts.strategy, run.record
    content = read_checkpoint(run.checkpoint("last"))
    strategy.load_state_dict(content["state_dict"])
    strategy.cpu().eval()
    best = None
    if "best" in record["kept"]:
        path = run.checkpoint("best")
        best = student_weights(read_checkpoint(path), path, record["kept"]["best"]["module"])
    curve = MetricsFile(run.metrics_file).load().rows
    return Distilled(parts, record, curve, run.path if kept else None, copy.deepcopy(best))


class _Data:
    """The loaders as the evaluation asks for them."""

    def __init__(self, parts: Prepared):
        self.parts = parts

    def test_dataloader(self) -> Batches | None:
        return self.parts.test

    def val_dataloader(self) -> Batches:
        return self.parts.validation or self.parts.train
