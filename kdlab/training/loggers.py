"""Loggers, in addition to metrics.csv, which is always written. Each is a function of the run, named by
``logger._target_``."""

from __future__ import annotations

import netrc
import os
from typing import Literal

from lightning.pytorch.loggers import Logger

from kdlab.runs.run import Run


def wandb(
    run: Run, project: str = "kdlab", mode: Literal["auto", "online", "offline"] = "auto", entity: str | None = None
) -> Logger:
    """Weights & Biases, tied to the run by its hash: a resumed run continues the same run there.

    Args:
        mode: ``online``, ``offline``, or ``auto``: online with a login (WANDB_API_KEY or ~/.netrc), offline otherwise.
            The environment variable WANDB_MODE has precedence.
    """
    from lightning.pytorch.loggers import WandbLogger

    offline = wandb_mode(mode) == "offline"
    # wandb's service keeps the working directory in which it was started, so after a chdir here a relative path would
    # mean another folder
    return WandbLogger(
        project=project,
        entity=entity,
        name=run.path.name,
        id=run.hash,
        resume="allow",
        group=run.path.parent.name,
        save_dir=str(run.path.resolve()),
        offline=offline,
        config=run.config,
    )


def wandb_mode(mode: Literal["auto", "online", "offline"] = "auto") -> str:
    """Where Weights & Biases writes: ``auto`` is ``online`` with a login, ``offline`` otherwise. The environment
    variable WANDB_MODE has precedence."""
    if "WANDB_MODE" in os.environ:
        return os.environ["WANDB_MODE"]
    return ("online" if _logged_in() else "offline") if mode == "auto" else mode


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def tensorboard(run: Run) -> Logger:
    """TensorBoard, in the run's own folder."""
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir=str(run.path), name="tensorboard", version="")
