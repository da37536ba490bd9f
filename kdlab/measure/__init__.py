"""Measurements of a trained network besides the task's own metrics, one file each."""

from .alignment import alignment, comparable_taps
from .fidelity import Agreement, KLToTeacher, LabelAgreement, LabelKLToTeacher, agreement, kl_to_teacher
from .flops import flops
from .memory import inference_bytes
from .size import checkpoint_bytes
from .speed import speed, timed_in_turns

__all__ = [
    "Agreement",
    "KLToTeacher",
    "LabelAgreement",
    "LabelKLToTeacher",
    "agreement",
    "alignment",
    "checkpoint_bytes",
    "comparable_taps",
    "flops",
    "inference_bytes",
    "kl_to_teacher",
    "speed",
    "timed_in_turns",
]
