"""Measurements of a trained network besides the task's own metrics, one file each."""

from .alignment import alignment, comparable_taps
from .fidelity import Agreement, KLToTeacher, LabelAgreement, LabelKLToTeacher, agreement, kl_to_teacher
from .flops import flops
from .generation import answering, generation_speed
from .memory import inference_bytes, peak_bytes
from .size import checkpoint_bytes
from .speed import speed, timed_in_turns

__all__ = [
    "Agreement",
    "KLToTeacher",
    "LabelAgreement",
    "LabelKLToTeacher",
    "agreement",
    "alignment",
    "answering",
    "checkpoint_bytes",
    "comparable_taps",
    "flops",
    "generation_speed",
    "inference_bytes",
    "kl_to_teacher",
    "peak_bytes",
    "speed",
    "timed_in_turns",
]
