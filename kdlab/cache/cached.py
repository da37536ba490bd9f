"""Cached: a frozen teacher that reads its answers from a store."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.models.quantised import parameter_count
from kdlab.normalisation import Normalisation
from kdlab.outputs import Outputs
from kdlab.teachers import Frozen, Teacher

from .store import Damaged, Store

LOGITS = "logits"
_OPEN = 4  # slots whose files are kept open

#: the index of a slot, and by name what the codec stores of its samples
Slot = tuple[Tensor, dict[str, dict[str, Tensor]]]


class Cached(Teacher):
    """A frozen teacher whose answers are read from a store, and asked of the network where the store has none.

    A batch says where it comes from (split, epoch, view, sample), so it names the place of its answers. The network is
    loaded when it is first needed: with a filled store that may be never.

    With a codec that is not exact, an answer of the network is rounded as a stored one is: a run has the same result
    wherever its answers come from.

    Args:
        make: loads the live teacher.
        store: of its answers.
        fixed: each training sample has one answer in all epochs and views.
    """

    def __init__(self, make: Callable[[], Frozen], store: Store, fixed: bool):
        self.store, self.fixed = store, fixed
        self._make = make
        self._live: Frozen | None = None
        self._taps: tuple[str, ...] = ()
        self._open: OrderedDict[str, Slot] = OrderedDict()
        #: slots that were filled for this run: a teacher that is asked about one of them all the same says why
        self.promised: set[str] = set()
        self._warned = False

    # -- the network ---------------------------------------------------------------------------------------------------

    @property
    def live(self) -> Frozen:
        """The teacher itself, loaded on first use."""
        if self._live is None:
            with torch.random.fork_rng(devices=[]):  # a network that is built draws its first weights
                self._live = self._make()
            self._live.watch(self._taps)
        return self._live

    @property
    def is_loaded(self) -> bool:
        """Whether the network is in memory."""
        return self._live is not None

    # the base has attributes; here they are loaded on first use
    @property
    def network(self) -> nn.Module:  # type: ignore[override]
        """The network, loaded on first use."""
        return self.live.network

    @property
    def aliases(self) -> Mapping[str, str]:  # type: ignore[override]
        """The ``taps:`` of the network's config; of a filled store from its manifest."""
        if self._live is None and "aliases" in self.store.facts:
            return dict(self.store.facts["aliases"])
        return self.live.aliases

    @property
    def normalisations(self) -> list[Normalisation]:
        """The network's own normalisation, if it is not the batch's; of a filled store from its manifest."""
        if self._live is None and "normalisations" in self.store.facts:
            return [Normalisation.of(**one) for one in self.store.facts["normalisations"]]
        return self.live.normalisations

    @property
    def parameter_count(self) -> int:
        """The number of the network's parameters; of a filled store from its manifest."""
        if self._live is None and "parameters" in self.store.facts:
            return int(self.store.facts["parameters"])
        return parameter_count(self.live.network)

    # -- what it says --------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """What is kept of each sample: ``logits`` and the taps that are watched."""
        return (LOGITS, *self._taps)

    def watch(self, taps: Collection[str]) -> None:
        """Sets the taps whose features :meth:`teach` returns.

        Raises:
            InputError: the network has no such tap.
        """
        self._taps = tuple(sorted(taps))
        self._open.clear()
        if self._live is not None:
            self._live.watch(self._taps)
        elif not set(self._taps) <= {name for _, name in self.store.files()}:
            _ = self.live  # only the network knows which taps it has

    def slot_of(self, batch: Batch) -> str | None:
        """The slot with a batch's answers; None where it can have none (mixed images)."""
        if batch.partner_target is not None:
            return None
        return self.slot(batch.split, batch.epoch, batch.view_number)

    def slot(self, split: str, epoch: int = 0, view: int = 0) -> str:
        """The slot of a split in an epoch and view."""
        return split if split != "train" or self.fixed else f"train-e{epoch}-v{view}"

    def teach(self, batch: Batch) -> Outputs:
        """The Outputs on the batch, detached, with the watched features: from the store, or from the network where the
        store has none."""
        stored = self._stored(batch)
        return self.rounded(self.live.teach(batch)) if stored is None else stored

    def rounded(self, outputs: Outputs) -> Outputs:
        """The network's Outputs as they would be read from the store."""
        read_back, features = self.store.codec.read_back, outputs.features
        if self.store.codec.exact:
            return outputs
        return outputs.replace(
            answer=read_back(outputs.logits), features={name: read_back(value) for name, value in features.items()}
        )

    def _stored(self, batch: Batch) -> Outputs | None:
        slot = self.slot_of(batch)
        opened = None if slot is None else self._opened(slot)
        if opened is None:
            return None
        index, values = opened
        wanted = batch.index.cpu()
        places = torch.searchsorted(index, wanted).clamp_(max=len(index) - 1)
        if not torch.equal(index[places], wanted):
            self._warn(f"it has no answers to some samples of {slot}")
            return None
        device = batch.index.device
        found = {
            name: self.store.codec.decode({key: one[places].to(device) for key, one in stored.items()})
            for name, stored in values.items()
        }
        return Outputs(found.pop(LOGITS), features=found)

    def _opened(self, slot: str) -> Slot | None:
        if slot in self._open:
            self._open.move_to_end(slot)
            return self._open[slot]
        index, values = None, {}
        try:
            for name in self.names:
                found = self.store.stored(slot, name)
                if found is None:
                    if slot in self.promised:
                        self._warn(f"the {name} of {slot} are not there any more")
                    return None
                if index is not None and not torch.equal(index, found[0]):
                    raise Damaged(f"the files of {slot} hold different samples")
                index, values[name] = found
        except Damaged as error:
            self._warn(str(error))
            return None
        if index is None:
            return None
        self._open[slot] = index, values
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return self._open[slot]

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"cache of the teacher's answers {self.store.path}: {why}. The teacher is asked instead, which takes "
                "longer and changes no result",
                stacklevel=2,
            )
