"""Tasks: what a label means. :mod:`kdlab.tasks.metric` is light: it is imported without torch."""

from importlib import import_module
from typing import Any

_WHERE = {
    "CausalLM": "tokens",
    "Classification": "classification",
    "DataFacts": "facts",
    "Embedding": "embedding",
    "MaskedLM": "tokens",
    "Metric": "metric",
    "MultiLabel": "multilabel",
    "Regression": "regression",
    "Report": "metric",
    "Task": "base",
    "TokenClassification": "tokens",
    "task_of": "of_config",
}

__all__ = [
    "CausalLM",
    "Classification",
    "DataFacts",
    "Embedding",
    "MaskedLM",
    "Metric",
    "MultiLabel",
    "Regression",
    "Report",
    "Task",
    "TokenClassification",
    "task_of",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"kdlab.tasks.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'kdlab.tasks' has no attribute '{name}'")
