"""Teacher: a role, not a class of networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from torch import nn

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.models.quantised import parameter_count
from kdlab.normalisation import Normalisation
from kdlab.outputs import Outputs


class Teacher:
    """Base of the teachers. A subclass defines :meth:`teach`; the rest has defaults for a teacher without features.

    A *frozen* teacher is a handle outside the module tree. It is never optimised, averaged, wrapped or saved, since it
    can be loaded again. An *evolving* teacher (an average of the student, a peer) is a registered module of its
    strategy, and is saved with it. It is no subclass: the strategy calls it by a method of its own.
    """

    #: whether it answers with logits of all classes, which metrics on validation and test need
    gives_logits: bool = True
    #: the network, where there is one alone
    network: nn.Module | None = None
    #: the ``taps:`` of that network's config: alias -> dotted path of the module
    aliases: Mapping[str, str] = MappingProxyType({})
    #: the teachers that it consists of, by name; empty for a single network
    members: Mapping[str, Teacher] = MappingProxyType({})
    #: the loss's term -> the member that teaches it; empty where the same answer is for all terms
    terms: Mapping[str, str] = MappingProxyType({})

    def teach(self, batch: Batch) -> Outputs:
        """The teacher's Outputs on the batch, detached, with the watched features."""
        raise NotImplementedError(f"{type(self).__name__} must define teach(batch)")

    def watch(self, taps: Collection[str]) -> None:
        """Sets the taps whose features the Outputs hold.

        Raises:
            InputError: there is no such tap; here every one, since this teacher has no features.
        """
        if taps:
            raise InputError(
                f"the teacher has no features, so the losses that read its {', '.join(sorted(taps))} need another one"
            )

    def prepare(self, taps: Mapping[str, Collection[str]]) -> None:
        """Called once, before the first batch: sets the taps by the terms of the loss.

        Args:
            taps: each term of the loss that learns from a teacher -> the taps of the teacher that it reads.

        Raises:
            InputError: there is no such tap, or the terms are not those that this teacher teaches.
        """
        self.watch({tap for read in taps.values() for tap in read})

    def attend(self, asking: Callable[[], Collection[str]]) -> None:
        """Called once, after the losses are prepared. ``asking`` returns the terms that learn from a teacher at the
        present step; a teacher may leave out the answers for all others."""

    @property
    def by_term(self) -> dict[str, Teacher]:
        """Term -> its teacher; empty where the same answer is for all terms."""
        return {term: self.members[name] for term, name in self.terms.items()}

    @property
    def parameter_count(self) -> int | None:
        """The number of parameters of its network; None where it is not one alone."""
        return None if self.network is None else parameter_count(self.network)

    @property
    def normalisations(self) -> list[Normalisation]:
        """The normalisations of its networks' inputs that differ from the batch's, each once."""
        found = [one for member in self.members.values() for one in member.normalisations]
        return list(dict.fromkeys(found))

    def __deepcopy__(self, memo: dict) -> Teacher:
        """Itself: what copies a strategy (an average of weights) must not copy a teacher that cannot change."""
        return self
