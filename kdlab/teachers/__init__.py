"""Teachers: subclasses of :class:`Teacher`, whose ``teach(batch)`` returns detached Outputs."""

from .base import Teacher
from .ensemble import Ensemble
from .frozen import Frozen
from .per_term import PerTerm
from .routed import Routed
from .served import Served

__all__ = ["Ensemble", "Frozen", "PerTerm", "Routed", "Served", "Teacher"]
