"""Tasks: what a label means. :mod:`kdlab.tasks.metric` is light: it is imported without torch."""

from importlib import import_module
from typing import Any

_WHERE = {
    "Classification": "classification",
    "DataFacts": "facts",
    "Metric": "metric",
    "MultiLabel": "multilabel",
    "Regression": "regression",
    "Report": "metric",
    "Task": "base",
    "task_of": "of_config",
}

__all__ = ["Classification", "DataFacts", "Metric", "MultiLabel", "Regression", "Report", "Task", "task_of"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"kdlab.tasks.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'kdlab.tasks' has no attribute '{name}'")
