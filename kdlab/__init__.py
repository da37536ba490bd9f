"""kdlab: a research workbench for knowledge distillation on Lightning and Hydra.

>>> import kdlab
>>> run = kdlab.train(["student=mlp", "loss.kd.temperature=8"])     # doctest: +SKIP
>>> run.metrics["test/accuracy"], run.student                       # doctest: +SKIP

Importing kdlab is light: what a name needs is imported when the name is first used.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdlab import compare
    from kdlab.api import load, train
    from kdlab.batch import Batch
    from kdlab.library import distill
    from kdlab.losses.base import Loss
    from kdlab.outputs import Outputs
    from kdlab.runs.run import Run, RunStore
    from kdlab.strategies.base import Strategy

# of tqdm, which other libraries import, in a notebook without ipywidgets: kdlab shows none of its bars
warnings.filterwarnings("ignore", "IProgress not found")

__version__ = "0.1.0"

_LAZY = {
    "train": "kdlab.api",
    "load": "kdlab.api",
    "distill": "kdlab.library",
    "Run": "kdlab.runs.run",
    "RunStore": "kdlab.runs.run",
    "Batch": "kdlab.batch",
    "Outputs": "kdlab.outputs",
    "Loss": "kdlab.losses.base",
    "Strategy": "kdlab.strategies.base",
}
__all__ = ["Batch", "Loss", "Outputs", "Run", "RunStore", "Strategy", "compare", "distill", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name == "compare":
        return import_module("kdlab.compare")
    raise AttributeError(f"module 'kdlab' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
