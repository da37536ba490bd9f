"""Tasks: what a label means."""

from .base import Task
from .classification import Classification

__all__ = ["Classification", "Task"]
