"""Losses of sampled answers: module form of :mod:`kdlab.functional.policy`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.rows import one_of
from kdlab.outputs import Outputs

from .base import Loss, fraction, not_negative, positive


class PolicyGradient(Loss):
    r""":func:`kdlab.functional.minillm` on answers that the student has just sampled (``strategy=on_policy``): a policy
    gradient with the rewards :math:`r_t = \log p(y_t) - \log q(y_t)`, and the exact reverse KL at each position.

    The student that is trained is the one that sampled, so the ratio of the two is 1 and clipping it changes nothing.
    With ``discount=1``, ``length=none`` and ``single_step=1`` or 0, the expected gradient is that of the reverse KL of
    whole answers, a token.

    With ``strategy.teacher_mix=a`` tokens are drawn from :math:`\tilde p = a\,p + (1 - a)\,q`. Then a token's policy
    gradient has the weight :math:`q(y_t) / \tilde p(y_t)`, clipped to [0.8, 1.2] as in the authors' code.

    | file | is |
    | --- | --- |
    | ``minillm`` | MiniLLM: later rewards, and the single-step term |
    | ``sampled_reverse_kl`` | a token's own reward alone, as its advantage: one number of the teacher for each token |

    Args:
        discount: gamma of the rewards after a token, in [0, 1]; 0: its own reward alone.
        length: by what the sum of later rewards is divided (:func:`kdlab.functional.discounted_advantage`):
            ``remaining``, ``discounted`` or ``none``.
        single_step: weight of the exact reverse KL at each position. If it is greater than 0, a token's advantage has
            the rewards after it alone, as in the paper: its own is part of the single-step term. (The authors' code has
            it in both.)
        clip: rewards are clipped to [-clip, clip].

    Raises:
        ValueError: an argument is out of its range.
    """

    function = staticmethod(functional.minillm)
    needs_samples = True
    #: the teacher's part in the distribution from which tokens are drawn; the strategy sets it
    teacher_mix = 0.0

    def __init__(
        self, discount: float = 0.95, length: str = "remaining", single_step: float = 1.0, clip: float = 100.0
    ):
        super().__init__()
        self.discount = fraction("discount", discount)
        self.length = one_of("length", length, ("remaining", "discounted", "none"))
        self.single_step = not_negative("single_step", single_step)
        self.clip = positive("clip", clip)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``. Rows of an answer follow one another, and have the number of its sample."""
        tokens = batch.labels
        mine, theirs = (functional.token_log_probability(one.logits, tokens) for one in (student, teacher))
        rewards = functional.reverse_kl_reward(mine.detach(), theirs, clip=self.clip)
        answer, place, shape = _places(batch.index)
        table, mask = rewards.new_zeros(shape), rewards.new_zeros(shape)
        table[answer, place], mask[answer, place] = rewards, 1.0
        advantages = functional.discounted_advantage(table, self.discount, length=self.length, mask=mask)
        if self.single_step:  # the rewards after a token are those from the next one on
            advantages = torch.cat([advantages[:, 1:], advantages.new_zeros(shape[0], 1)], 1) * self._after
        return functional.minillm(
            student.logits,
            teacher.logits,
            tokens,
            mine.detach(),
            advantages[answer, place],
            self._importance(mine.detach(), theirs) if self.teacher_mix else None,
            single_step=self.single_step,
        )

    @property
    def by_rows(self) -> bool:
        """False: an advantage is of a whole answer."""
        return False

    def _importance(self, mine: Tensor, theirs: Tensor) -> Tensor:
        """q / (a p + (1 - a) q), from the logarithms of q and p."""
        mixed = torch.logaddexp(theirs + math.log(self.teacher_mix), mine + math.log1p(-self.teacher_mix))
        return (mine - mixed).exp()

    @property
    def _after(self) -> float:
        """The discount of the rewards after a token, where they are not divided by their number."""
        return self.discount if self.length == "none" else 1.0


def _places(index: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """For each row the number of its answer and its place in it, and the number of answers and their greatest length.

    >>> _places(torch.tensor([7, 7, 3, 9, 9, 9]))
    (tensor([0, 0, 1, 2, 2, 2]), tensor([0, 1, 0, 0, 1, 2]), (3, 3))
    """
    if not len(index):
        return index, index, (0, 1)
    begins = torch.ones(len(index), dtype=torch.bool, device=index.device)
    begins[1:] = index[1:] != index[:-1]
    answer = begins.long().cumsum(0) - 1
    place = torch.arange(len(index), device=index.device) - begins.nonzero().flatten()[answer]
    return answer, place, (int(answer[-1]) + 1, int(place.max()) + 1)
