"""Teacher: a role, not a class of networks."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from kdlab.batch import Batch
from kdlab.outputs import Outputs


class Teacher(Protocol):
    """Anything that answers ``teach``. The answer is always detached.

    A *frozen* teacher is a handle outside the module tree: never optimised, averaged, wrapped or saved, since it can be
    had again. An *evolving* one (an average of the student, a peer) is a registered module of its strategy, and is
    saved with it. One that answers each term of the loss differently (:class:`kdlab.teachers.PerTerm`) is told of the
    terms, and not of the taps alone.
    """

    network: nn.Module | None

    def teach(self, batch: Batch) -> Outputs:
        """What the teacher says of the batch."""

    def watch(self, taps: set[str]) -> None:
        """Which features the answers must hold. Raises InputError for one that does not exist."""
