"""Replay: the student's earlier answers, and how often it learns from its own (DistiLLM)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchmetrics.utilities.distributed import gather_all_tensors

from kdlab.counter import counter_bits
from kdlab.models.generation import Generated


def gathered(texts: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes ``(N, W)``, and how many of them are of processes before this one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return texts, 0
    parts = gather_all_tensors(texts)
    return torch.cat(parts), sum(len(part) for part in parts[: torch.distributed.get_rank()])


class Replay(nn.Module):
    r"""Answers that were generated before, and the share of the steps that learn from the student's own answers.

    The adaptive schedule of DistiLLM (Ko et al. 2024, https://arxiv.org/abs/2402.03898, section 3.2 and the authors'
    ``finetune.py``): the share :math:`\phi` begins at 0. Where the validation loss is greater by :math:`\varepsilon` or
    more than it was at the last change (at first: at the first validation), it rises. At step t of T, answers are
    generated with probability :math:`\phi\,(1 - t / T)`, and while the memory is not full with probability
    :math:`\phi`. With the rest of :math:`\phi`, answers in the memory are learned from again.

    It is saved with the strategy, and the same in all processes.

    Args:
        capacity: how many answers are kept; the oldest one is forgotten first.
        width: the most tokens of a prompt with its answer.
    """

    texts: Tensor
    written: Tensor
    share: Tensor
    reference: Tensor

    def __init__(self, capacity: int, width: int):
        super().__init__()
        # tokens, followed by: tokens of the prompt, of the answer, whether it has ended, and the sample's number
        self.register_buffer("texts", torch.zeros(capacity, width + 4, dtype=torch.int64))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))
        self.register_buffer("share", torch.zeros((), dtype=torch.float64))
        self.register_buffer("reference", torch.full((), float("inf"), dtype=torch.float64))

    @property
    def full(self) -> bool:
        """Whether the next answer takes the place of another."""
        return int(self.written) >= len(self.texts)

    @torch.no_grad()
    def follow(self, loss: float, tolerance: float, rise: float) -> None:
        """Raise the share where the validation loss has risen.

        >>> replay = Replay(capacity=4, width=3)
        >>> for loss in (2.0, 1.5, 2.05, 2.1, 2.15, 2.2):
        ...     replay.follow(loss, tolerance=0.1, rise=0.25)
        >>> replay.share.item(), replay.reference.item()
        (0.5, 2.2)
        """
        if bool(self.reference.isinf()):
            self.reference.fill_(loss)
        # one part in 10^9 for sums of tenths
        elif loss >= float(self.reference) + tolerance * (1 - 1e-9):
            self.share.copy_((self.share + rise).clamp(max=1.0))
            self.reference.fill_(loss)

    @torch.no_grad()
    def keep(self, generated: Generated, index: Tensor) -> None:
        """Keep answers, those of all processes, in the order of their samples' numbers.

        Args:
            index: the numbers of the samples ``(B,)``.
        """
        width = self.texts.shape[1] - 4
        tokens = generated.tokens
        tokens = torch.cat([tokens, tokens.new_zeros(len(tokens), width - tokens.shape[1])], 1)
        facts = torch.stack([generated.prompts, generated.answers, generated.ended.to(tokens.dtype), index], 1)
        rows, _ = gathered(torch.cat([tokens, facts], 1))
        rows = rows[rows[:, -1].argsort(stable=True)][-len(self.texts) :]
        places = (self.written + torch.arange(len(rows), device=rows.device)) % len(self.texts)
        self.texts[places] = rows
        self.written += len(rows)

    @torch.no_grad()
    def draw(self, number: int, *key: int) -> tuple[Generated, Tensor]:
        """This process's part of answers that are drawn, each one with equal probability, and their samples' numbers.

        Args:
            number: how many this process needs.
            key: of the random numbers.
        """
        held = torch.arange(number, device=self.texts.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            held = held + gathered(held[:, None])[1]
        rows = self.texts[counter_bits(held, *key) % min(int(self.written), len(self.texts))]
        prompts, answers, ended, index = rows[:, -4:].unbind(1)
        width = cast(int, int((prompts + answers).max())) if number else 1
        return Generated(rows[:, :width], prompts, answers, ended.bool()), index
