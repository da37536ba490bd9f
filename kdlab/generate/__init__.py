"""Answers of a teacher to prompts, in a file that a student learns from (``kdlab generate``)."""

from .answering import Summary, generate
from .prompts import Prompts, read_prompts
from .sampling import Sampling

__all__ = ["Prompts", "Sampling", "Summary", "generate", "read_prompts"]
