"""Logs a comparison to Weights & Biases: one summary run with the table and the figures, and the report's files as an
artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from kdlab.errors import InputError, told
from kdlab.training.loggers import wandb_mode

from .table import Table


def log_report(table: Table, folder: str | Path, project: str, name: str = "comparison") -> str:
    """Log a finished report: its table as ``comparison``, its figures as images, its folder as an artifact.

    Offline without a login, as with ``logger=wandb``. The environment variable WANDB_MODE has precedence.

    Args:
        folder: of :func:`kdlab.compare.write_report`.
        name: of the run and of the artifact.

    Returns:
        The run's address, or the folder for ``wandb sync``.

    Raises:
        InputError: wandb refuses the project or the connection.
    """
    import wandb

    folder, mode = Path(folder), wandb_mode()
    try:
        run = wandb.init(
            project=project,
            name=name,
            job_type="compare",
            mode=cast(Any, mode),
            dir=str(folder.resolve().parent),
            reinit="create_new",
            config={"metric": table.metric, "baseline": table.baseline},
        )
    except (wandb.Error, ValueError) as error:
        raise InputError(f"--wandb {project}: {told(error)}") from error
    with run:
        run.log(
            {
                "comparison": wandb.Table(columns=[*table.head()], data=table.cells()),
                **{f"figures/{path.stem}": wandb.Image(str(path)) for path in sorted(folder.glob("figures/*.png"))},
            }
        )
        for row in table.rows:
            if row.last is not None:
                run.summary[f"{table.metric}/{row.label}"] = row.last.mean
        artifact = wandb.Artifact(
            _artifact_name(name), type="comparison", description=f"Table, figures and page of {len(table.rows)} rows."
        )
        artifact.add_dir(str(folder))
        run.log_artifact(artifact)
    return run.url or "" if mode == "online" else str(Path(run.dir).parent)


def _artifact_name(name: str) -> str:
    """wandb allows letters, digits, dashes, underscores and dots.

    >>> _artifact_name("runs/quick start")
    'runs-quick-start'
    """
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-" for letter in name)
