"""Frozen: a network that is used and never changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.models.taps import Taps
from kdlab.normalisation import Normalisation
from kdlab.outputs import Outputs
from kdlab.tasks import Task

from .base import Teacher


def _tensors(inputs: object) -> Iterable[torch.Tensor]:
    """The tensors of inputs: one, or those of a mapping."""
    values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    return (value for value in values if isinstance(value, torch.Tensor))


class Frozen(Teacher):
    """A handle on a trained network: in evaluation mode, without gradients, and outside every module tree.

    It is deliberately not an ``nn.Module``: so Lightning does not save, average or wrap it, nor warn about it, and
    ``.train()`` on the strategy does not reach it. It moves to the batch's device when it is called (no hook of
    Lightning runs early enough).

    Args:
        network: any module that maps inputs to logits.
        task: runs a network on a batch.
        aliases: the ``taps:`` of the network's config.
        normalisation: normalisation of the network's training inputs; None: the same as the batch's.
        given: normalisation of the batch's inputs. If the two differ, the batch's inputs (in all views) are converted
            to the network's normalisation; if they are equal, nothing is computed.
        class_order: for each class of the data, its column in the network's logits; None: they have one order.
    """

    network: nn.Module

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        aliases: Mapping[str, str] | None = None,
        normalisation: Normalisation | None = None,
        given: Normalisation | None = None,
        class_order: Sequence[int] | None = None,
    ):
        self.class_order = None if class_order is None else tuple(class_order)
        self.network = network.eval().requires_grad_(False)
        self.task, self.aliases = task, dict(aliases or {})
        self._convert = given.onto(normalisation) if normalisation is not None and given is not None else None
        #: the network's own normalisation, if it differs from the batch's
        self.own_normalisation = normalisation if self._convert is not None else None
        self._taps = Taps(network, ())
        self._place: tuple | None = None
        self._exact: dict[str, torch.Tensor] | None = None

    def watch(self, taps: Collection[str]) -> None:
        """Sets the taps whose features :meth:`teach` returns.

        Raises:
            InputError: the network has no such tap.
        """
        self._taps = Taps(self.network, taps, self.aliases)

    @property
    def normalisations(self) -> list[Normalisation]:
        """The network's own normalisation, if it is not the batch's."""
        return [] if self.own_normalisation is None else [self.own_normalisation]

    def follow(self, batch: Batch) -> None:
        """Moves the network to the batch's device and dtype, if it is not there."""
        floating = [value.dtype for value in _tensors(batch.inputs) if value.is_floating_point()]
        place = (batch.index.device, floating[0] if floating else None)
        if place == self._place:
            return
        if self._exact is not None:  # back to the weights before rounding
            self.network.to(torch.float32).load_state_dict(self._exact, assign=True)
        elif place[1] in (torch.float16, torch.bfloat16):
            self._exact = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        self.network.to(device=place[0], dtype=place[1])
        self._place = place

    # not inference_mode: its tensors cannot be saved for backward, as squared losses and connectors require
    @torch.no_grad()
    def teach(self, batch: Batch) -> Outputs:
        """The network's Outputs on the batch, detached, with the watched features. The network is moved to the batch's
        device and dtype."""
        batch = batch.for_teacher()
        self.follow(batch)
        if self._convert is not None:
            batch = batch.replace(
                inputs=self._convert(batch.inputs), further_views=tuple(map(self._convert, batch.further_views))
            )
        with self._taps as features:
            outputs = self.task.network_outputs(self.network, batch)
        if self.class_order is not None:
            columns = list(self.class_order)
            outputs = outputs.map(lambda one: one.replace(answer=one.logits[..., columns]))
        return (outputs.replace(features=features) if features else outputs).detach()
