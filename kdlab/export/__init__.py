"""Export: a trained student in a form that other tools load, without kdlab."""

from importlib import import_module
from typing import Any

_WHERE = {"to_huggingface": "huggingface", "Written": "huggingface"}

__all__ = ["Written", "to_huggingface"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"kdlab.export.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'kdlab.export' has no attribute '{name}'")
