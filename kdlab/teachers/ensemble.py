"""Ensemble: several teachers combined to one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import torch

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional import cross_entropy, wide
from kdlab.outputs import Outputs

from .base import Teacher


class Ensemble(Teacher):
    r"""The weighted average of teachers, or for each training sample the best teacher.

    Args:
        members: the teachers, by name or in a sequence (then they are named by number, from 0).
        average: ``probabilities`` (Hinton et al. 2015: the logits are :math:`\log \sum_k w_k\,\mathrm{softmax}(z_k)`,
            at temperature 1), ``logits`` (:math:`\sum_k w_k z_k`, whose softmax is the geometric mean), or ``best``:
            for each training sample the logits :math:`z_k` of the member with the lowest cross-entropy to its label
            (the first one, if several are equal). Outside training, the label must not influence the choice, so the
            mean of the probabilities is used.
        weights: one per member; they are divided by their sum. None: equal weights. ``best`` accepts no weights.

    Raises:
        InputError: there are no members, or the weights do not fit them.

    >>> import torch
    >>> class Says:
    ...     def __init__(self, *rows):
    ...         self.rows = torch.tensor(rows)
    ...     def teach(self, batch):
    ...         return Outputs(self.rows)
    >>> batch = Batch(None, torch.tensor([0, 1]), torch.arange(2))
    >>> Ensemble([Says([1.0, 0.0], [1.0, 0.0]), Says([0.0, 2.0], [0.0, 2.0])], "best").teach(batch).logits
    tensor([[1., 0.],
            [0., 2.]])
    """

    def __init__(
        self,
        members: Mapping[str, Teacher] | Sequence[Teacher],
        average: str = "probabilities",
        weights: Sequence[float] | None = None,
    ):
        if not members:
            raise InputError("teacher.members: an ensemble needs at least one teacher")
        if average not in ("probabilities", "logits", "best"):
            raise InputError(f"teacher.average must be 'probabilities', 'logits' or 'best', got '{average}'")
        if average == "best" and weights:
            raise InputError(
                "teacher.weights: with teacher.average=best a single member teaches each sample, so weights have no "
                "effect; leave them out"
            )
        weights = list(weights) if weights else [1.0] * len(members)
        if len(weights) != len(members) or min(weights) < 0 or sum(weights) == 0:
            raise InputError(
                f"teacher.weights must be one number not below 0 for each of the {len(members)} members, got {weights}"
            )
        # a member of weight 0 is not evaluated: its output times 0 would still be NaN if it excludes a class
        named = members if isinstance(members, Mapping) else {str(place): one for place, one in enumerate(members)}
        heard = {name: weight / sum(weights) for name, weight in zip(named, weights) if weight > 0}
        self.members, self.weights = {name: named[name] for name in heard}, list(heard.values())
        self.average = average

    def watch(self, taps: Collection[str]) -> None:
        """Accepts no taps: an ensemble has no features.

        Raises:
            InputError: a tap is requested.
        """
        if taps:
            raise InputError(
                "an ensemble has no features of its own, so the losses that read the teacher's "
                f"{', '.join(sorted(taps))} need a single teacher"
            )

    @torch.no_grad()
    def teach(self, batch: Batch) -> Outputs:
        """The members' combined logits, in at least float32, without gradient and without features."""
        answers = torch.stack([wide(member.teach(batch).logits) for member in self.members.values()])
        if self.average == "best" and batch.split == "train":
            errors = torch.stack([batch.over_labels(partial(cross_entropy, answer)) for answer in answers])
            chosen = errors.argmin(0)[None, ..., None].expand(1, *answers.shape[1:])
            return Outputs(answers.gather(0, chosen).squeeze(0))
        weights = answers.new_tensor(self.weights).view(-1, *[1] * (answers.dim() - 1))
        if self.average == "logits":
            return Outputs((weights * answers).sum(0))
        # the logarithm of the averaged probabilities by log-sum-exp: it stays finite if a probability underflows
        return Outputs((answers.log_softmax(-1) + weights.log()).logsumexp(0))
