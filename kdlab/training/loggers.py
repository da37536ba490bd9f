"""Loggers beside metrics.csv, which is always written. Each is a function of the run, named by ``logger._target_``."""

from __future__ import annotations

import netrc
import os
from typing import Literal

from kdlab.runs.run import Run


def wandb(
    run: Run, project: str = "kdlab", mode: Literal["auto", "online", "offline"] = "auto", entity: str | None = None
):
    """Weights & Biases, tied to the run by its hash: a resumed run goes on in the same place.

    Args:
        mode: ``online``, ``offline``, or ``auto``: online where one is logged in (WANDB_API_KEY or ~/.netrc), offline
            otherwise. The environment's WANDB_MODE goes before it.
    """
    from lightning.pytorch.loggers import WandbLogger

    offline = wandb_mode(mode) == "offline"
    # wandb's service stays in the folder that it was started in, so a relative path would lead elsewhere once this
    # process has changed its own
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
    """Where Weights & Biases writes: ``auto`` is ``online`` where one is logged in, ``offline`` otherwise; the
    environment's WANDB_MODE goes before."""
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


def tensorboard(run: Run):
    """TensorBoard, in the run's own folder."""
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir=str(run.path), name="tensorboard", version="")
