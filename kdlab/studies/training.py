"""Trains the missing runs of a study as one resumable sweep on kdlab's own launcher. All of them are checked before the
first begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.config.compose import compose, own_hydra, sharing_teachers
from kdlab.errors import InputError, did_you_mean
from kdlab.launch import processes
from kdlab.runs import known
from kdlab.runs.run import Run, RunStore
from kdlab.tasks.metric import report_of

from .names import unknown_names, unknown_networks
from .study import Study

# the overrides that may be added to a study: places of runs and data, progress, launcher; none of them changes a result
FREE = ("paths.runs", "paths.data", "progress", "data.folder", "data.download", "data.workers")
LAUNCHER = "hydra.launcher."

#: the composed configs of a study's runs, by their overrides
Configs = Mapping[tuple[str, ...], dict]


@dataclass
class Trained:
    """A run of a study in its present state.

    Args:
        config: the composed config.
        digest: its hash.
        run: the run, whose directory may not exist.
        message: why it did not finish, if the launcher knows.
        kept: its record in the study's results, where it was taken from there and not trained.
    """

    config: dict
    digest: str
    run: Run
    message: str = ""
    kept: dict | None = None


def refuse_others(extra: Sequence[str]) -> None:
    """Raises InputError where an additional override would change the study."""
    for text in extra:
        key = text.lstrip("+").partition("=")[0]
        if "=" not in text or key not in FREE and not key.startswith(LAUNCHER):
            raise InputError(
                f"reproduce: {text}: a study trains what its study.yaml defines; you can set only {', '.join(FREE)} "
                f"and {LAUNCHER}…{did_you_mean(key, FREE)}"
            )


def composed(overrides: Sequence[Sequence[str]], extra: Sequence[str] = (), warm: bool = False) -> list[dict]:
    """The configs of some runs.

    Args:
        warm: whether to start heavy imports in parallel if the first run is not known to be finished.

    Raises:
        InputError: some cannot be composed. Each problem is named once, with the first run that has it.
    """
    configs: list[dict] = []
    problems: dict[str, str] = {}
    with own_hydra(), sharing_teachers():
        for texts in overrides:
            try:
                configs.append(compose([*texts, *extra]))
            except InputError as error:
                for problem in error.problems:
                    problems.setdefault(problem, " ".join(texts))
            if warm and len(configs) == 1 and not problems and known.finished(configs[0]) is None:
                processes.warm()
    if problems:
        raise InputError(*(f"{problem} [in {whose}]" for problem, whose in problems.items()))
    return configs


def train(
    study: Study,
    extra: Sequence[str] = (),
    keep: Callable[[Study, Configs], Mapping[tuple[str, ...], dict]] | None = None,
) -> dict[tuple[str, ...], Trained]:
    """Train the missing runs. Returns every run of the study by its overrides. Training continues after a failure, and
    the result includes the failed runs.

    Args:
        extra: additional overrides, from :data:`FREE` and of the launcher.
        keep: the records of the runs that are not trained, from the study and its configs (:func:`kept_runs`).

    Raises:
        InputError: a run cannot be composed or has problems, or no run can have what study.yaml asks for. No run was
            begun.
        KeyboardInterrupt: the same call resumes from the last finished epochs.
    """
    from kdlab.sweep.plan import plan
    from kdlab.sweep.scheduler import Grid

    refuse_others(extra)
    overrides = study.run_overrides()
    launcher = _launcher([text for text in extra if text.lstrip("+").startswith(LAUNCHER)])
    configs = composed(overrides, [text for text in extra if not text.lstrip("+").startswith(LAUNCHER)], warm=True)
    study = study.with_headlines({texts: report_of(config) for texts, config in zip(overrides, configs)})
    if wrong := unknown_names(study, dict(zip(overrides, configs))):
        raise InputError(*wrong)
    kept = keep(study, dict(zip(overrides, configs))) if keep else {}
    missing = [number for number, texts in enumerate(overrides) if texts not in kept]
    labels = _labels(study)
    asked = [overrides[number] for number in missing]
    planned = plan(asked, [configs[number] for number in missing], labels=[labels[number] for number in missing])
    networks = {
        texts: planned.networks[job.digest] for texts, job in zip(asked, planned.jobs) if job.digest in planned.networks
    }
    if wrong := unknown_networks(study, networks):
        raise InputError(*wrong)
    chosen: dict[str, Any] = {}
    for job in planned.jobs:  # other overrides may give the same run: it is trained once, or found if it is finished
        if job.digest not in chosen or not chosen[job.digest].run.finished and job.run.finished:
            chosen[job.digest] = job
    if jobs := list(chosen.values()):
        launcher.run(Grid(jobs), planned.gpus, progress=jobs[0].config["progress"])
    messages = {
        outcome.job.digest: outcome.message or outcome.status
        for outcome in launcher.outcomes
        if not outcome.job.run.finished
    }
    trained = {
        texts: Trained(job.config, job.digest, chosen[job.digest].run, messages.get(job.digest, ""))
        for texts, job in zip(asked, planned.jobs)
    }
    for texts, config in zip(overrides, configs):
        if record := kept.get(texts):
            run = RunStore(config["paths"]["runs"]).run(config, record["hash"])
            trained[texts] = Trained(config, record["hash"], run, kept=record)
    return trained


def _labels(study: Study) -> list[str]:
    """The name of each run for people: row and seed, and the table if two tables have a row of that name."""
    labels: dict[tuple[str, ...], str] = {}
    for table in study.tables:
        for row in table.in_order():
            ambiguous = any(row.name == other.name for one in study.tables if one is not table for other in one.rows)
            for seed in row.seeds:
                labels.setdefault(
                    row.run_overrides(seed), f"{f'{table.name}: ' if ambiguous else ''}{row.name}, seed {seed}"
                )
    return list(labels.values())


def _launcher(given: Sequence[str]) -> Any:
    """kdlab's launcher with the options that are given."""
    from hydra import compose as hydra_compose

    from kdlab.config.compose import explaining
    from kdlab.sweep.launcher import Launcher

    if not given:
        return Launcher()
    with own_hydra(), explaining(given):
        options = hydra_compose("train", list(given), return_hydra_config=True).hydra.launcher
    if options.get("stack"):
        raise InputError(
            "hydra.launcher.stack: a study is reproduced by runs that are trained one by one; leave it out"
        )
    return Launcher(**{key: value for key, value in options.items() if key != "_target_"})
