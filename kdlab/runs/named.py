"""The runs that a config's references name (:mod:`kdlab.config.references`)."""

from __future__ import annotations

from typing import overload

from kdlab.config.references import CheckpointFile, ComposedRun, FinishedRun, Reference

from .run import Run, RunStore, run_of


@overload
def run_named(one: ComposedRun | FinishedRun) -> Run: ...


@overload
def run_named(one: Reference) -> Run | None: ...


def run_named(one: Reference) -> Run | None:
    """The run that a reference names, or whose checkpoint it names. It may not be begun yet. None if there is none: a
    network by its target, an ensemble, or a file outside every run."""
    if isinstance(one, ComposedRun):
        return RunStore(one.config["paths"]["runs"]).run(one.config)
    if isinstance(one, FinishedRun):
        return Run(one.path)
    return run_of(one.path) if isinstance(one, CheckpointFile) else None


def data_config(one: Reference) -> dict | None:
    """The config node of the data that a referenced network was trained on; None where no run records it.

    Raises:
        InputError: its run cannot be read.
    """
    if isinstance(one, ComposedRun):
        return one.config["data"]
    run = run_named(one)
    data = None if run is None else run.config["data"]
    return data if data and data.get("_target_") else None  # the data of a run made from Python have no recipe
