"""Tokens of a causal language model: which logits predict which token, which tokens count, and means over tokens.

Only this module shifts by one position. The logits at position t predict the token at t + 1. A label of -100 does not
count. No shape depends on the labels, so the functions can be compiled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import reduced, wide, without_masked

#: a label that does not count
IGNORED = -100


def predicting(x: Tensor) -> Tensor:
    """The positions of ``(B, T, ...)`` that predict a token of the text: all but the last, ``(B, T - 1, ...)``."""
    return x[:, :-1]


def predicted(labels: Tensor) -> Tensor:
    """The tokens of ``(B, T)`` that a position of the text predicts: all but the first, ``(B, T - 1)``."""
    return labels[:, 1:]


def token_mask(labels: Tensor, *, shift: bool = True, ignored: int = IGNORED) -> Tensor:
    """True for tokens that count.

    Args:
        labels: ``(B, T)``.
        shift: True: the result is aligned with the predicting positions, ``(B, T - 1)``. False: the labels are already
            shifted.
        ignored: the label that does not count.

    >>> import torch
    >>> token_mask(torch.tensor([[-100, 5, 7, -100]]))
    tensor([[ True,  True, False]])
    """
    return (predicted(labels) if shift else labels) != ignored


def generated_mask(tokens: Tensor, prompt: int, padding: int) -> Tensor:
    """True for the generated tokens that count: those that follow a token other than padding. So the end-of-text token
    counts even if it is also the padding token, and the tokens after it do not.

    Args:
        tokens: prompt and answer ``(B, P + R)``.
        prompt: P, at least 1.
        padding: number of the padding token.

    Returns:
        ``(B, R)``

    >>> import torch
    >>> generated_mask(torch.tensor([[4, 7, 0, 0]]), prompt=1, padding=0)
    tensor([[ True,  True, False]])
    """
    if not 1 <= prompt < tokens.shape[1]:
        raise ValueError(
            f"prompt must be at least 1 and less than the length of the tokens {tuple(tokens.shape)}, got {prompt}"
        )
    return tokens[:, prompt - 1 : -1] != padding


def answer_begins(labels: Tensor, ignored: int = IGNORED) -> Tensor:
    """Where the last answer of each text begins: the first token of the last run of labels, ``(B,)``. What comes before
    it is its prompt. It is 0 for a text without a prompt, or without labels.

    >>> import torch
    >>> answer_begins(torch.tensor([[-100, 5, -100, 7, 2], [-100, -100, 4, 2, -100], [3, 4, 2, -100, -100]]))
    tensor([3, 2, 0])
    """
    counts = labels != ignored
    begins = counts.clone()
    begins[:, 1:] &= ~counts[:, :-1]
    places = torch.arange(labels.shape[1], device=labels.device)
    return (begins * places).max(1).values


def token_rows(
    logits: Tensor, labels: Tensor, *, shift: bool = True, ignored: int = IGNORED
) -> tuple[Tensor, Tensor, Tensor]:
    """Converts sequences to rows, the input of every loss on rows.

    Args:
        logits: ``(B, T, V)``.
        labels: ``(B, T)``.
        shift, ignored: see :func:`token_mask`.

    Returns:
        Logits ``(N, V)``, labels ``(N,)`` and weights ``(N,)`` (1 if the token counts, else 0), with N = B (T - 1), or
        N = B T without shift.

    >>> import torch
    >>> rows, target, weights = token_rows(torch.zeros(1, 3, 4), torch.tensor([[-100, 2, -100]]))
    >>> rows.shape, target, weights
    (torch.Size([2, 4]), tensor([   2, -100]), tensor([1., 0.]))
    """
    same_tokens(logits, labels, "token_rows")
    mask = token_mask(labels, shift=shift, ignored=ignored)
    if shift:
        logits, labels = predicting(logits), predicted(labels)
    return logits.flatten(0, 1), labels.flatten(), mask.flatten().to(wide(logits).dtype)


def token_log_probability(
    logits: Tensor, tokens: Tensor, temperature: float = 1.0, *, mask: Tensor | None = None
) -> Tensor:
    """Log-probability of each token under the logits at the same place (without a shift); 0 if it does not count.

    Args:
        logits: ``(..., V)``.
        tokens: ``(...)``; any number, also -100, if the mask is 0.
        mask: ``(...)``; None: all tokens count.

    >>> import torch
    >>> token_log_probability(torch.tensor([[[0.0, 0.0], [0.0, 3.0]]]), torch.tensor([[1, -100]]),
    ...     mask=torch.tensor([[1, 0]]))
    tensor([[-0.6931,  0.0000]])
    """
    same_tokens(logits, tokens, "token_log_probability")
    log_probabilities = (without_masked(logits, mask) / temperature).log_softmax(-1)
    tokens = tokens if mask is None else tokens.masked_fill(mask == 0, 0)
    return reduced(log_probabilities.gather(-1, tokens[..., None])[..., 0], mask)


def sequence_mean(values: Tensor, mask: Tensor) -> Tensor:
    """For each sequence the mean over the tokens that count, ``(B, T)`` to ``(B,)``; 0 for a sequence in which none
    counts.

    >>> import torch
    >>> sequence_mean(torch.tensor([[1.0, 3.0], [5.0, 0.0]]), torch.tensor([[1, 1], [1, 0]]))
    tensor([2., 5.])
    """
    return reduced(values, mask).sum(-1) / (mask != 0).sum(-1).clamp(min=1)


def averaged(values: Tensor, mask: Tensor, average: str = "tokens") -> Tensor:
    """One number for a batch of sequences.

    Args:
        values: one value per token ``(B, T)``.
        mask: ``(B, T)``.
        average: ``tokens``: the mean over all tokens that count, so a long sequence has more weight. ``sequences``: the
            mean over sequences of the mean over their tokens, without sequences in which none counts.

    >>> import torch
    >>> values, mask = torch.tensor([[1.0, 3.0], [5.0, 0.0]]), torch.tensor([[1, 1], [1, 0]])
    >>> averaged(values, mask), averaged(values, mask, "sequences")
    (tensor(3.), tensor(3.5000))
    """
    if average not in ("tokens", "sequences"):
        raise ValueError(f"average must be tokens or sequences, got {average!r}")
    if average == "tokens":
        return reduced(values, mask, "mean")
    return reduced(sequence_mean(values, mask), (mask != 0).any(-1), "mean")


def same_tokens(logits: Tensor, tokens: Tensor, what: str) -> None:
    """Raises ValueError, with both shapes, unless there is one token per row of logits."""
    if logits.shape[:-1] != tokens.shape:
        raise ValueError(
            f"{what}: one token per row: logits {tuple(logits.shape)} need tokens {tuple(logits.shape[:-1])}, got "
            f"{tuple(tokens.shape)}"
        )
