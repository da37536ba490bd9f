"""Search: trials from Optuna's ask and tell, run by kdlab's launcher, and stored in a database in the folder of the
runs.

Trial n depends only on the seed, on n, and on the trials that ended before it was created. So with one worker, a search
that was killed and resumed has the same trials as one that was not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdlab.errors import InputError, RunFailed, did_you_mean
from kdlab.tasks.metric import Report, report_of

from .job import DONE, FAILED, INTERRUPTED, PRUNED, REFUSED, Job, Outcome
from .launcher import Launcher
from .view import output_console

SAMPLERS, PRUNERS, DIRECTIONS = ("tpe", "random"), ("none", "median", "halving"), ("maximize", "minimize", None)


class OptunaSweeper(Sweeper):
    """Args: as ``conf/hydra/sweeper/optuna.yaml`` explains them."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Any

    def __init__(
        self,
        trials: int = 20,
        objective: str | None = None,
        direction: str | None = None,
        sampler: str = "tpe",
        startup_trials: int = 10,
        pruner: str = "none",
        seed: int = 1,
        params: dict | None = None,
    ):
        for name, value, known in (
            ("sampler", sampler, SAMPLERS),
            ("pruner", pruner, PRUNERS),
            ("direction", direction, DIRECTIONS),
        ):
            if value not in known:
                raise InputError(
                    f"hydra.sweeper.{name} must be one of {', '.join(map(str, known))}, got "
                    f"{value!r}{did_you_mean(str(value), known)}"
                )
        for name, number, least in (("trials", trials, 1), ("startup_trials", startup_trials, 0), ("seed", seed, 0)):
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise InputError(f"hydra.sweeper.{name} must be a whole number of at least {least}, got {number!r}")
        if objective is not None and not str(objective).startswith(("val/", "train/")):
            raise InputError(
                f"hydra.sweeper.objective must be a metric of validation, for example val/nll, got {objective!r}; "
                "a search that looks at test would find what fits the test set"
            )
        self.trials, self.sampler, self.pruner, self.seed = trials, sampler, pruner, seed
        self.objective = cast(str, objective)  # None only until settle() chooses it
        self.startup_trials, self.params = startup_trials, dict(params or {})
        self.direction = direction

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's context and config, and make the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.settle(report_of(config))
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def settle(self, report: Report) -> None:
        """Choose objective and direction by the task of the runs, if they are not given."""
        self.objective = self.objective or f"val/{report.headline.name}"
        self.direction = self.direction or ("maximize" if report.higher_is_better(self.objective) else "minimize")

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are left, and print all trials of the study.

        Raises:
            InputError: there is nothing to search, or an end of the space is bad input; nothing was begun.
            RunFailed: some trials failed.
        """
        optuna = _optuna()
        if not isinstance(self.launcher, Launcher):
            raise InputError(
                "hydra/sweeper=optuna starts a trial when another has ended, which only kdlab's own launcher supports; "
                "leave out hydra/launcher=…"
            )
        if self.launcher.stack:
            raise InputError(
                "hydra.launcher.stack: a search starts a trial when another has ended, so it trains none together; "
                "leave it out"
            )
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        space = {
            override.get_key_element(): distribution(override) for override in parsed if override.is_sweep_override()
        }
        fixed = [
            f"{override.get_key_element()}={override.get_value_element_as_str()}"
            for override in parsed
            if not override.is_sweep_override()
        ]
        if not space:
            raise InputError(
                "there is nothing to search: give a key a space, for example 'loss.kd.weight=interval(0.1,1)' or "
                "student=mlp,cnn"
            )
        if {"name", "paths.runs"} & set(space):
            raise InputError("name and paths.runs are the folder of the search, so they cannot be searched over")
        folder = Path(self.config.paths.runs) / self.config.name
        study = self._study(optuna, folder, space, fixed, begin=False)
        gpus = 0
        if study is None or not Search(self, study, space, fixed).exhausted:
            planned = self.launcher.planned([fixed + point for point in at_the_ends(space)])
            if planned.metrics and self.objective not in planned.metrics:
                raise InputError(
                    f"hydra.sweeper.objective: the runs will have no metric '{self.objective}'"
                    f"{did_you_mean(self.objective, planned.metrics)} (they will have "
                    f"{', '.join(sorted(planned.metrics))})"
                )
            gpus = planned.gpus
            study = study or self._study(optuna, folder, space, fixed, begin=True)
        with _alone(folder):
            source = Search(self, study, space, fixed)
            try:
                self.launcher.run(source, gpus, self.objective, self.config.progress, table=False)
            finally:
                show(study, self.objective, folder)
        failed = sum(
            outcome.status not in DONE for outcome in self.launcher.outcomes if outcome.job.number is not None
        ) + len(source.refused)
        if failed:
            raise RunFailed(
                "\n".join(
                    [
                        f"{failed} of the {source.total} trials failed; the search continued without them",
                        *source.refused,
                    ]
                )
            )

    def _study(self, optuna: Any, folder: Path, space: dict, fixed: list[str], begin: bool) -> Any:
        """Optuna's study of this search. Another space, objective or fixed override is another study. None if it does
        not exist and ``begin`` is false."""
        described = json.dumps(
            [
                {key: repr(value) for key, value in space.items()},
                sorted(fixed),
                self.objective,
                self.direction,
                self.sampler,
                self.startup_trials,
                self.pruner,
                self.seed,
            ]
        )
        name, file = hashlib.sha256(described.encode()).hexdigest()[:16], folder / "optuna.db"
        if not begin and not file.exists():
            return None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            storage = optuna.storages.RDBStorage(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 60}})
            if not begin and name not in optuna.get_all_study_names(storage):
                return None
            return optuna.create_study(
                storage=storage,
                study_name=name,
                direction=self.direction,
                pruner=self._pruner(optuna),
                load_if_exists=True,
            )
        except OSError as error:
            raise InputError(
                f"paths.runs: {folder} cannot be written ({error.strerror or error}); name another folder with "
                "paths.runs=…"
            ) from error
        except Exception as error:  # sqlalchemy's error for a file that is no database of Optuna's
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{file} cannot be read as a database of Optuna ({reason}); move it away to begin a new search"
            ) from error

    def _pruner(self, optuna: Any) -> Any:
        if self.pruner == "median":
            return optuna.pruners.MedianPruner(n_startup_trials=self.startup_trials)
        return {"none": optuna.pruners.NopPruner, "halving": optuna.pruners.SuccessiveHalvingPruner}[self.pruner]()

    def sampler_of(self, number: int) -> Any:
        """The sampler of trial ``number``. It has a seed of its own, so it does not depend on earlier trials in this
        process."""
        from kdlab.counter import derived_seed

        optuna, seed = _optuna(), derived_seed(self.seed, number) % 2**32
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(n_startup_trials=self.startup_trials, seed=seed)


class Search:
    """The trials of a study as a :class:`kdlab.sweep.scheduler.Source`."""

    eager = False

    def __init__(self, sweeper: OptunaSweeper, study: Any, space: dict, fixed: list[str]):
        from optuna.trial import TrialState

        self._sweeper, self._study, self._space, self._fixed, self._states = sweeper, study, space, fixed, TrialState
        trials = study.get_trials(deepcopy=False)
        self._wanted = sweeper.trials
        self.asks = sweeper.pruner != "none"
        # trials that a killed search left unfinished come first
        self._begun = deque(trial for trial in trials if trial.state == TrialState.RUNNING)
        self._asked = len(trials)
        self.total = max(self._wanted - self._asked, 0) + len(self._begun)
        self._trials: dict[Job, Any] = {}
        #: trials that are bad input, and why
        self.refused: list[str] = []

    @property
    def exhausted(self) -> bool:
        """Whether all trials were given."""
        return not self._begun and self._asked >= self._wanted

    def next(self) -> Job | None:
        """The next trial as a job; trials that a killed search left unfinished come first. None where the trial is bad
        input."""
        from optuna.trial import Trial

        if self._begun:
            trial = Trial(self._study, self._begun.popleft()._trial_id)
        else:
            self._study.sampler = self._sweeper.sampler_of(self._asked)
            trial = self._study.ask(self._space)
            self._asked += 1
        chosen = [f"{key}={trial.params[key]}" for key in self._space]
        try:
            (job,) = self._sweeper.launcher.planned([self._fixed + chosen], more=True).jobs
        except InputError as error:  # bad only in this combination: the search continues without it
            self._study.tell(trial, state=self._states.FAIL)
            self.refused.append(f"trial {trial.number + 1}: {error}")
            return None
        job.number, job.label = trial.number + 1, " ".join(_short(key, trial.params[key]) for key in self._space)
        if not job.died:
            trial.set_user_attr("run", str(job.run.path))
        self._trials[job] = trial
        return job

    def should_continue(self, job: Job, finished: int, row: dict) -> bool:
        """Report the objective after ``finished`` epochs or steps to Optuna; False where its pruner stops the trial."""
        value = row.get(self._sweeper.objective.removesuffix("_best"))
        if value is None:  # a row without validation
            return True
        trial = self._trials[job]
        trial.report(value, finished)
        return not trial.should_prune()

    def ended(self, outcome: Outcome) -> None:
        """Report a trial's result to Optuna. An interrupted trial stays open, so the next search resumes it.

        Raises:
            InputError: the run has no metric of the objective's name.
        """
        trial = self._trials.get(outcome.job)
        if trial is None or outcome.status == INTERRUPTED:  # a teacher, or a trial that the next search resumes
            return
        objective = self._sweeper.objective
        if outcome.status == PRUNED:
            self._study.tell(trial, state=self._states.PRUNED, skip_if_finished=True)
        elif outcome.status in (FAILED, REFUSED):
            self._study.tell(trial, state=self._states.FAIL, skip_if_finished=True)
        elif objective not in outcome.metrics:
            known = sorted(name for name in outcome.metrics if name.startswith(("val/", "train/")))
            raise InputError(
                f"hydra.sweeper.objective: the runs have no metric '{objective}'{did_you_mean(objective, known)} (they "
                f"have {', '.join(known)})"
            )
        else:
            self._study.tell(trial, outcome.metrics[objective], skip_if_finished=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock a search for this process. Another process would take its running trials for unfinished ones.

    Raises:
        InputError: another process is running the search.
    """
    lock = FileLock(folder / "optuna.db.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another process is searching in {folder}; wait for it, or give this search a name of its own: name=…"
        ) from None
    try:
        yield
    finally:
        lock.release()


def distribution(override: Override) -> Any:
    """Optuna's distribution for a sweep in Hydra's grammar.

    Raises:
        InputError: the interval is empty, or cannot be searched on a logarithmic scale.
    """
    distributions = _optuna().distributions
    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            whole = isinstance(value.start, int) and isinstance(value.end, int) and _cast_to_whole(override)
            kind = distributions.IntDistribution if whole else distributions.FloatDistribution
            return kind(value.start, value.end, log="log" in value.tags)
        if isinstance(value, RangeSweep):
            start, stop, step = value.start, value.stop, value.step
            if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int) and step > 0:
                return distributions.IntDistribution(start, start + (stop - 1 - start) // step * step, step=step)
        return distributions.CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise InputError(f"{override.input_line}: {error}") from error


def _cast_to_whole(override: Override) -> bool:
    return (override.input_line or "").partition("=")[2].lstrip().startswith(("int(", "tag(log,int(", "tag(log, int("))


def at_the_ends(space: dict) -> list[list[str]]:
    """Points of a space that cover both ends of every interval and every choice. They are checked before anything is
    begun."""
    values = {key: list(one.choices) if hasattr(one, "choices") else [one.low, one.high] for key, one in space.items()}
    return [
        [f"{key}={of[min(number, len(of) - 1)]}" for key, of in values.items()]
        for number in range(max(map(len, values.values())))
    ]


def show(study: Any, objective: str, folder: Path, console: Console | None = None) -> None:
    """Print all trials of a study, including those of earlier sessions, and the best one."""
    trials = study.get_trials(deepcopy=False)
    if not trials:
        return
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    valued = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = study.best_trial if valued else None
    table = Table(box=None, pad_edge=False)
    for name in ("trial", *keys, "state", objective, "run"):
        table.add_column(name, overflow="fold", justify="left" if name in ("state", "run") else "right")
    for trial in trials:
        value = trial.value if trial.state.name in ("COMPLETE", "PRUNED") else None
        table.add_row(
            f"{'* ' if best is not None and trial.number == best.number else ''}{trial.number + 1}",
            *(Text(_text(trial.params.get(key, ""))) for key in keys),
            trial.state.name.lower(),
            "" if value is None else f"{value:.4f}",
            Text(str(trial.user_attrs.get("run", ""))),
        )
    console = console or output_console()
    console.print(table)
    if best is not None:
        chosen = " ".join(
            f"'{key}={value}'" if set(str(value)) & set("[]{}() ") else f"{key}={value}"
            for key, value in best.params.items()
        )
        console.print(
            f"best of {len(valued)} finished trials: {objective} {best.value:.4f} with {chosen}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
        console.print(
            "It was chosen on validation; compare it on seeds of its own before you report it.",
            soft_wrap=True,
            highlight=False,
        )
    console.print(str(folder), soft_wrap=True, highlight=False, markup=False)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(key: str, value: object) -> str:
    return f"{key}={_text(value)}"


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError("hydra/sweeper=optuna needs Optuna: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
