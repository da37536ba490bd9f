"""Teacher: a role, not a class of networks."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from kdlab.batch import Batch
from kdlab.outputs import Outputs


class Teacher(Protocol):
    """Anything with a method ``teach``. Its Outputs are always detached.

    A *frozen* teacher is a handle outside the module tree. It is never optimised, averaged, wrapped or saved, since it
    can be loaded again. An *evolving* teacher (an average of the student, a peer) is a registered module of its
    strategy, and is saved with it. A teacher with separate outputs for each term of the loss
    (:class:`kdlab.teachers.PerTerm`) receives the terms with their taps, instead of the taps alone.
    """

    network: nn.Module | None

    def teach(self, batch: Batch) -> Outputs:
        """The teacher's Outputs on the batch."""

    def watch(self, taps: set[str]) -> None:
        """Sets the features that the Outputs must hold. Raises InputError for a tap that does not exist."""
