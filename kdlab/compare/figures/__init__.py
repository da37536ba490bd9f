"""Figures: pure functions from plain data to matplotlib figures, one file each; and :func:`draw`, which gathers their
data from groups of runs."""

from .agreement import agreement, agreement_matrix
from .gather import NAMES, draw
from .heat_map import heat_map
from .learning_curves import learning_curves
from .pareto import Point, front, pareto
from .per_class import per_class
from .reliability import reliability
from .soft_targets import soft_targets
from .style import Drawing, remove, save

__all__ = [
    "NAMES",
    "Drawing",
    "Point",
    "agreement",
    "agreement_matrix",
    "draw",
    "front",
    "heat_map",
    "learning_curves",
    "pareto",
    "per_class",
    "reliability",
    "remove",
    "save",
    "soft_targets",
]
