"""kdlab: a research workbench for knowledge distillation on Lightning and Hydra.

>>> import kdlab
>>> run = kdlab.train(["student=mlp", "loss.kd.temperature=8"])     # doctest: +SKIP
>>> run.metrics["test/accuracy"], run.student                       # doctest: +SKIP

Importing kdlab is light: what a name needs is imported when the name is first used.
"""

import warnings
from importlib import import_module

# of tqdm, which other libraries import, in a notebook without ipywidgets: kdlab shows none of its bars
warnings.filterwarnings("ignore", "IProgress not found")

__version__ = "0.1.0"

_LAZY = {
    "train": "kdlab.api",
    "load": "kdlab.api",
    "Run": "kdlab.runs.run",
    "RunStore": "kdlab.runs.run",
    "Batch": "kdlab.batch",
    "Outputs": "kdlab.outputs",
    "Loss": "kdlab.losses.base",
    "Strategy": "kdlab.strategies.base",
}
__all__ = sorted(_LAZY)


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name == "compare":
        return import_module("kdlab.compare")
    raise AttributeError(f"module 'kdlab' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *_LAZY])
