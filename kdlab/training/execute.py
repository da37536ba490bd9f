"""Training a run in this process: as the only one, as a worker, or as one rank of several. Knows neither argv nor
Hydra."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from kdlab.config.build import build
from kdlab.errors import InputError, did_you_mean
from kdlab.launch.devices import check_for_gpus_quickly, evaluation_device
from kdlab.launch.ranks import RUN_ID
from kdlab.runs.checkpoints import AtomicCheckpointIO, read_checkpoint
from kdlab.runs.curve import Observe
from kdlab.runs.run import Run
from kdlab.strategies import Strategy

from .assemble import Parts, assembled
from .clock import Clock, trainer_arguments
from .entry_points import found_once
from .epochs import WholeEpochs, refuse_early_ends
from .recorder import Recorder, recorded


def fit(config: dict, run: Run, parts: Parts, label: str = "", observe: Observe | None = None) -> None:
    """Train from the last finished epoch (or step that was recorded) to the end.

    Args:
        label: prefix of each printed line.
        observe: called at the end of every row of the curve; an exception in it ends the training.

    Raises:
        KeyboardInterrupt: the user stopped it; what was recorded last is kept.
        EndedEarly: an epoch is not whole, or StopIteration was raised in it.
    """
    quiet()
    torch.set_num_threads(config["threads"])
    check_for_gpus_quickly()
    strategy, last = parts.strategy, run.checkpoint("last")
    if last.exists() and recorded(read_checkpoint(last))["stopped"]:
        return  # early stopping had ended it before it was killed: Lightning would continue to train
    trainer, loggers = made_trainer(config, run, parts, label, observe)[:2]
    refuse_early_ends(trainer)
    if config["compile"]:
        # torch reuses compiled code of an earlier run in this process without a check of the taps' hooks, so a run with
        # other hooks must not get it
        torch._dynamo.reset()
        # in place: torch.compile(module) would rename every key of the state dict
        strategy.student.compile(**({} if config["compile"] is True else {"backend": config["compile"]}))
    try:
        run_trainer(trainer, run, parts)
    finally:
        for logger in loggers:
            close(logger, trainer.state.finished)
    if trainer.interrupted:
        raise KeyboardInterrupt


def made_trainer(
    config: dict, run: Run, parts: Parts, label: str = "", observe: Observe | None = None
) -> tuple[L.Trainer, list[Logger], Recorder]:
    """The Trainer of a run, with its loggers and its Recorder. Its loops follow the run's clock."""
    bar = shows_bar(config["progress"])
    lines = config["progress"] == "lines" or (config["progress"] == "auto" and not bar)
    environment()  # before loggers are built, which look at the rank
    clock = Clock(config["trainer"].get("every_n_train_steps"))
    headline = parts.task.headline
    recorder = Recorder(run, f"val/{headline.name}", headline.higher_is_better, lines, label, observe, clock)
    loggers = [build(config["logger"], "logger", run=run)] if (config["logger"] or {}).get("_target_") else []
    callbacks = [*_callbacks(config), whole := WholeEpochs(clock), clock, recorder]
    with found_once():
        trainer = build(
            config["trainer"],
            "trainer",
            callbacks=callbacks,
            logger=loggers or False,
            plugins=[AtomicCheckpointIO(), environment()],
            enable_progress_bar=bar,
            enable_model_summary=False,
            enable_checkpointing=True,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            default_root_dir=str(run.path),
            **trainer_arguments(config["trainer"]),
        )

    def record(trainer: L.Trainer, strategy: Strategy) -> None:
        whole.check_row(trainer)
        recorder.record(trainer, strategy)

    clock.rule(trainer, parts.strategy, record)
    return trainer, loggers, recorder


def run_trainer(trainer: L.Trainer, run: Run, parts: Parts) -> None:
    """Fit a run's strategy from its last checkpoint, if there is one."""
    last = run.checkpoint("last")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*sync_dist.*")
        warnings.filterwarnings("ignore", message="The `srun` command is available")
        try:
            trainer.fit(
                parts.strategy,
                datamodule=parts.data,
                ckpt_path=str(last) if last.exists() else None,
                weights_only=True,
            )
        except SystemExit as stopped:  # what Lightning makes of an interrupt
            raise KeyboardInterrupt from stopped


def fit_rank(config: dict, path: Path, label: str, observe: Observe) -> None:
    """One rank's part of a run: what :func:`kdlab.launch.ranks.fit_in_ranks` calls in each process."""
    fit(config, Run(path), assembled(config), label, observe)


def rehearse(config: dict) -> None:
    """Build what only training needs and discard it, so that errors in it are found before anything is written.

    Raises:
        InputError: Lightning or a callback refuses its arguments.
    """
    quiet()
    if isinstance(config["compile"], str):
        backends = torch._dynamo.list_backends(exclude_tags=())
        if config["compile"] not in backends:
            raise InputError(
                f"compile: torch has no backend '{config['compile']}'{did_you_mean(config['compile'], backends)} "
                f"(it has {', '.join(backends)})"
            )
    if config["compile"] in (True, "inductor") and evaluation_device(config).type == "cpu":
        _refuse_without_compiler()
    with warnings.catch_warnings(), found_once():
        warnings.simplefilter("ignore")
        build(
            config["trainer"],
            "trainer",
            callbacks=_callbacks(config),
            logger=False,
            plugins=[environment()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            **trainer_arguments(config["trainer"]),
        )


def _refuse_without_compiler() -> None:
    """Raises InputError where torch's own backend finds no C++ compiler, which it needs on a CPU."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # of a class of torch's own
        raise InputError(
            "compile=true: torch finds no C++ compiler, which it needs on a CPU; install one (apt install g++), set "
            "the environment variable CXX to one, or use compile=aot_eager, which needs none"
        ) from error


class OneProcess(LightningEnvironment):
    """The environment of a run of one process: rank 0 of 1, whatever the environment variables are.

    Without it, Lightning takes a process inside srun for one of several. It then refuses the number of tasks, removes
    the logger of all tasks but the first, and at SIGUSR1 saves in the middle of an epoch and requeues the job.
    """

    @property
    def creates_processes_externally(self) -> bool:
        """True, so that Lightning starts no processes."""
        return True

    def local_rank(self) -> int:
        """0, as there is one process."""
        return 0

    def node_rank(self) -> int:
        """0, as there is one machine."""
        return 0

    @property
    def main_address(self) -> str:
        """127.0.0.1, as there is one machine."""
        return "127.0.0.1"

    def teardown(self) -> None:
        """Does nothing: Lightning's own would remove WORLD_SIZE from the environment."""


def environment() -> ClusterEnvironment:
    """Lightning's environment of this process: one rank of several that kdlab started (:mod:`kdlab.launch.ranks`), or
    the only process."""
    ranked = os.environ.get("TORCHELASTIC_RUN_ID") == RUN_ID
    cast(Any, rank_zero_only).rank = int(os.environ["RANK"]) if ranked else 0
    return TorchElasticEnvironment() if ranked else OneProcess()


def say_precision(config: dict, say: Callable[[str], None]) -> None:
    """Print a line if the run computes in another precision than its config names."""
    if str(config["trainer"].get("precision")) in ("16", "16-mixed") and evaluation_device(config).type == "cpu":
        say(
            f"trainer.precision={config['trainer']['precision']}: Lightning has no mixed float16 on a CPU and uses "
            "bf16-mixed; trainer.precision=bf16-mixed says so"
        )


def close(logger: Logger, finished: bool) -> None:
    """End a logger. An open run of Weights & Biases would also record the curves of the next run in this process."""
    logger.finalize("success" if finished else "failed")
    end = getattr(getattr(logger, "experiment", None), "finish", None)
    if end is not None:
        end()


def _callbacks(config: dict) -> list[Callback]:
    return [build(node, f"callbacks.{name}") for name, node in (config["callbacks"] or {}).items()]


def shows_bar(progress: str) -> bool:
    """Whether Lightning's progress bar is shown: ``bar``, or ``auto`` on a terminal."""
    return progress == "bar" or (progress == "auto" and sys.stdout.isatty())


def quiet() -> None:
    """Silence Lightning's messages about devices and its tips."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
