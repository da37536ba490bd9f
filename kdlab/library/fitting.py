"""Training with Lightning, with a Trainer whose further options are the user's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import lightning as L
import torch

from kdlab.config.signature import signature
from kdlab.errors import EndedEarly, InputError, did_you_mean
from kdlab.launch.devices import evaluation_device
from kdlab.runs.checkpoints import AtomicCheckpointIO, read_checkpoint
from kdlab.runs.run import Run
from kdlab.teachers import Teacher
from kdlab.training.epochs import WholeEpochs, refuse_early_ends
from kdlab.training.execute import environment, shows_bar
from kdlab.training.recorder import Recorder, recorded
from kdlab.training.teacher_record import entry, examine

from .preparing import Prepared
from .recipes import describe

#: options of the Trainer that are arguments of distill, or that kdlab sets -> what to do
_GIVEN = {
    "max_epochs": "use epochs=",
    "max_steps": "kdlab.distill counts epochs, use epochs=; kdlab train counts steps, too",
    "default_root_dir": "use directory=",
    "enable_progress_bar": "use progress=",
    "enable_checkpointing": "kdlab writes the checkpoints; leave it out",
    "enable_model_summary": "leave it out",
    "num_sanity_val_steps": "kdlab tries everything before; leave it out",
    "use_distributed_sampler": "leave it out",
    "fast_dev_run": 'use epochs=1 and trainer={"limit_train_batches": 1}',
    "overfit_batches": "give a small train loader",
    "barebones": "it records nothing; leave it out",
}
_PROGRESS = ("auto", "bar", "lines", "none")


class GeneratorState(L.Callback):
    """Keeps the state of the training loader's own generator in the checkpoint, so that a resumed training goes on with
    the same order."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def state_dict(self) -> dict:
        """The generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Set the generator's state."""
        self.generator.set_state(state["generator"].cpu())


class Fitting:
    """One training: the Trainer, built before anything is written.

    Args:
        run: its directory, which may not exist yet.
        options: further options of the Trainer.
        progress: as for :func:`kdlab.distill`.

    Raises:
        InputError: an option is none, or is refused.
    """

    def __init__(self, run: Run, parts: Prepared, epochs: int, options: dict, progress: str):
        self.run, self.parts = run, parts
        if progress not in _PROGRESS:
            raise InputError(f"progress must be one of {', '.join(_PROGRESS)}, got {progress!r}")
        known = signature("lightning.pytorch.Trainer").accepted
        for key in options:
            if key in _GIVEN:
                raise InputError(f'trainer: "{key}" cannot be given here: {_GIVEN[key]}')
            if key not in known:
                raise InputError(f'trainer: Lightning\'s Trainer has no option "{key}"{did_you_mean(key, known)}')
        self.options = {"accelerator": "auto", "devices": 1, **options}
        bar = shows_bar(progress)
        lines = progress == "lines" or (progress == "auto" and not bar)
        #: receives lines for the user
        self.say: Callable[[str], None] = _warn if progress == "none" else print
        own = self.options.get("callbacks") or []
        callbacks = [*(own if isinstance(own, (list, tuple)) else [own]), WholeEpochs()]
        generator = getattr(parts.train.given, "generator", None)
        callbacks += [GeneratorState(generator)] if isinstance(generator, torch.Generator) else []
        recorder = Recorder(run, f"val/{parts.task.headline.name}", parts.task.headline.higher_is_better, lines)
        plugins = self.options.get("plugins") or []
        plugins = [*(plugins if isinstance(plugins, (list, tuple)) else [plugins]), AtomicCheckpointIO(), environment()]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.trainer = L.Trainer(
                    **{
                        "logger": False,
                        **self.options,
                        "callbacks": [*callbacks, recorder],
                        "plugins": plugins,
                        "max_epochs": epochs,
                        "enable_progress_bar": bar,
                        "enable_model_summary": False,
                        "enable_checkpointing": True,
                        "use_distributed_sampler": False,
                        "num_sanity_val_steps": 0,
                        "default_root_dir": str(run.path),
                    }
                )
        except Exception as error:  # Lightning refuses options in many ways
            raise InputError(f"trainer: {error}") from error
        if self.trainer.world_size > 1:
            raise InputError(
                f"trainer: kdlab.distill trains in one process, and these options ask for {self.trainer.world_size}; "
                "use a Trainer of your own with kdlab.library.prepared, or kdlab train"
            )

    def fit(self) -> None:
        """Train from the last finished epoch to the end.

        Raises:
            KeyboardInterrupt: the user stopped it; the last finished epoch is kept.
            EndedEarly: an epoch is not whole.
        """
        last, trainer, parts = self.run.checkpoint("last"), self.trainer, self.parts
        resumed = last.exists()
        if resumed and recorded(read_checkpoint(last))["stopped"]:
            return
        refuse_early_ends(trainer)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*sync_dist.*")
            try:
                trainer.fit(
                    parts.strategy,
                    parts.train,
                    parts.validation,
                    ckpt_path=str(last) if resumed else None,
                    weights_only=True,
                )
            except SystemExit as stopped:  # what Lightning makes of an interrupt
                raise KeyboardInterrupt from stopped
        if trainer.interrupted:
            raise KeyboardInterrupt
        if not last.exists():
            raise EndedEarly(
                "not one epoch was finished; something ends the training before that (max_time, a callback)"
            )

    def summary(self, metrics: Mapping[str, float], path: Path | None) -> list[str]:
        """The last lines."""
        monitor = self.parts.task.headline.name
        found = [
            f"{split} {monitor} {metrics[key]:.4f}"
            for split, key in (("test", f"test/{monitor}"), ("validation", f"val/{monitor}"))
            if key in metrics
        ]
        best = [f"best epoch on validation {metrics['best_epoch']}"] if "best_epoch" in metrics else []
        return [", ".join([*found, *best]), *([str(path)] if path is not None else [])]


def _warn(line: str) -> None:
    if "warning: " in line:
        print(line)


def described_teacher(parts: Prepared, given: object, fitting: Fitting) -> dict | None:
    """The teacher's entry in the record, with its scores on validation. Prints a warning where it answers with
    probabilities, or is no better than chance."""
    if parts.teacher is None:
        return None
    name = _name(given)
    if parts.teacher.terms:
        members = {key: _described(key, one, parts, fitting) for key, one in parts.teacher.members.items()}
        return {"name": name, "terms": parts.teacher.terms, "members": members, "parameters": None, "runs": []}
    return _described(name, parts.teacher, parts, fitting, [given] if isinstance(given, Run) else [])


def _name(given: object) -> str:
    return str(given.path) if isinstance(given, Run) else describe(given)["class"]


def _described(name: str, teacher: Teacher, parts: Prepared, fitting: Fitting, trained: Sequence[Run] = ()) -> dict:
    if parts.validation is None:
        return entry(name, teacher, {}, trained)
    monitor = parts.task.headline.name
    found = examine(teacher, parts.task, parts.validation, evaluation_device({"trainer": fitting.options}))
    score = found.chance.summary or f"{monitor} {found.metrics[monitor]:.4f}"
    fitting.say(f"teacher: {name}, {score} on validation")
    if found.kind is not None:
        fitting.say(
            f"teacher: warning: all outputs of {name} lie between 0 and 1. Losses need logits: remove the softmax or "
            "sigmoid at its end"
        )
    elif found.chance.p_value() > 0.01:
        failure = found.chance.failure if found.chance.summary else "is not clearly better than chance"
        fitting.say(
            f"teacher: warning: on validation, {name} {failure} ({score}); "
            "check its weights, and how its inputs are normalised"
        )
    return entry(name, teacher, found.metrics, trained)
