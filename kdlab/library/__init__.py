"""kdlab as a library: networks and loaders of your own, without configs.

:func:`distill` trains. :func:`prepared` gives the strategy for a Lightning Trainer of your own.
"""

from .distilling import Distilled, distill
from .loaders import Batches
from .preparing import Prepared, prepared

__all__ = ["Batches", "Distilled", "Prepared", "distill", "prepared"]
