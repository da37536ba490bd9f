"""What is measured of a trained network beside the task's own metrics: one file a measure."""

from .fidelity import agreement, fidelity, kl_to_teacher
from .flops import flops
from .size import checkpoint_bytes

__all__ = ["agreement", "checkpoint_bytes", "fidelity", "flops", "kl_to_teacher"]
