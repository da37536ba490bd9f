"""What is measured of generated answers: numbers of each answer, and numbers of all answers of a split."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric

from kdlab.errors import InputError
from kdlab.functional.tokens import IGNORED

#: the metrics of generated answers
OF_ANSWERS = ("exact_match", "answer_tokens", "truncated", "rouge_l", "distinct_1", "distinct_2")
#: those of all answers of a split together -> the length of their n-grams
OF_ALL = {"distinct_1": 1, "distinct_2": 2}
#: the entry of a batch's measured samples that holds the tokens of its answers, ``(seeds, B, T)``
TOKENS = "tokens"


def check_drawing(temperature: float, seeds: Sequence[int], measured: Sequence[str]) -> tuple[int, ...]:
    """The seeds of the answers that are measured.

    Raises:
        InputError: the temperature or a seed is out of its range, or one of them has no effect.
    """
    number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not number or not 0 <= temperature < math.inf:
        raise InputError(f"task.answer_temperature must be 0 (greedy) or greater, and finite, got {temperature!r}")
    listed = isinstance(seeds, Sequence) and not isinstance(seeds, str) and len(seeds) > 0
    if not listed or any(not isinstance(one, int) or isinstance(one, bool) or one < 0 for one in seeds):
        raise InputError(f"task.answer_seeds must be a list of whole numbers, for example [1,2,3], got {seeds!r}")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"task.answer_seeds={list(seeds)}: a seed is named twice, and would draw the same answers")
    if temperature == 0 and len(seeds) > 1:
        raise InputError(
            f"task.answer_seeds={list(seeds)}: greedy answers do not depend on a seed; task.answer_temperature=1 draws "
            "them"
        )
    if temperature > 0 and not measured:
        raise InputError(
            f"task.answer_temperature={temperature}: no metric of generated answers is measured; "
            "'task.measured=[rouge_l]'"
        )
    return tuple(seeds)


def rouge_l(answer: str, reference: str) -> float:
    r"""ROUGE-L: the F1 score of the longest common subsequence of words, by torchmetrics. Lin (2004), "ROUGE: A Package
    for Automatic Evaluation of Summaries", https://aclanthology.org/W04-1013/, section 3:

    .. math:: P = \frac{\mathrm{LCS}}{|\text{answer}|}, \quad R = \frac{\mathrm{LCS}}{|\text{reference}|}, \quad
              F_1 = \frac{2 P R}{P + R}

    Words are what is left of the text in lower case where everything but a to z and digits separates them. They are not
    stemmed. It is 0 where a text has no words.

    >>> round(rouge_l("The cat sat.", "the cat is on the mat"), 4)     # "the cat": P = 2/3, R = 2/6
    0.4444
    """
    from torchmetrics.functional.text import rouge_score

    return float(rouge_score(answer, reference, rouge_keys="rougeL")["rougeL_fmeasure"])


def has_words(text: str) -> bool:
    """Whether :func:`rouge_l` finds words in a text.

    >>> has_words("42!"), has_words("你好")
    (True, False)
    """
    return re.search("[a-z0-9]", text.lower()) is not None


def without_ends(labels: Tensor, ends: Sequence[int] | None) -> Tensor:
    """Labels ``(B, T)`` with -100 in place of the tokens that end an answer.

    >>> without_ends(torch.tensor([[-100, 7, 2]]), [2]).tolist()
    [[-100, 7, -100]]
    """
    return labels.masked_fill(torch.isin(labels, labels.new_tensor(list(ends))), IGNORED) if ends else labels


def texts_of(labels: Tensor, decode: Callable[[list[int]], str]) -> list[str]:
    """The texts of the labels ``(B, T)`` that count."""
    return [decode(row[row != IGNORED].tolist()) for row in labels]


def stacked(tokens: Sequence[Tensor]) -> Tensor:
    """Labels ``(B, T)`` of several drawings as one tensor, filled up to the same width with -100.

    >>> stacked([torch.tensor([[5]]), torch.tensor([[6, 7]])]).tolist()
    [[[5, -100]], [[6, 7]]]
    """
    width = max(one.shape[1] for one in tokens)
    return torch.stack([F.pad(one, (0, width - one.shape[1]), value=IGNORED) for one in tokens])


class OnceAsked(Mapping[str, Tensor]):
    """Values that are made together when one of them is asked for.

    Args:
        names: of the values.
        make: makes them.

    >>> samples = OnceAsked(("truncated",), lambda: print("now") or {"truncated": torch.ones(2)})
    >>> len(samples)
    1
    >>> samples["truncated"].tolist()
    now
    [1.0, 1.0]
    """

    def __init__(self, names: Sequence[str], make: Callable[[], dict[str, Tensor]]):
        self._names, self._make = names, make
        self._made: dict[str, Tensor] | None = None

    def __getitem__(self, name: str) -> Tensor:
        if self._made is None:
            self._made = self._make()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class OfSamples(MeanMetric):
    """The mean of a number that was measured of each sample (:attr:`kdlab.Outputs.samples`).

    Args:
        name: of the number.
    """

    def __init__(self, name: str) -> None:
        super().__init__(nan_strategy="disable")
        self.name = name

    def update(self, logits: Tensor, target: Tensor, samples: Mapping[str, Tensor] | None = None) -> None:  # type: ignore[override]
        """Adds the numbers of a batch; nothing where its samples were not measured."""
        if samples:
            super().update(samples[self.name])


class Distinct(Metric):
    """The share of distinct n-grams among all n-grams of the answers of a split: 1 if none occurs twice. Li et al.
    (2016), https://arxiv.org/abs/1510.03055, section 5.1 (which divides by the number of tokens). The n-grams are of
    tokens, without the one that ends an answer. With several seeds, the share is that of each seed's answers, and the
    value is their mean.

    It is a number of the set of all answers: more answers have a smaller share. So it is compared at equal numbers of
    prompts. Under several processes, the n-grams of all of them are put together. NaN without an n-gram.

    Args:
        size: n.
        seeds: how many drawings of answers there are.
        options: of :class:`torchmetrics.Metric`.

    >>> metric = Distinct(1)
    >>> metric.update(None, None, {"tokens": torch.tensor([[[4, 5, 4, -100], [5, 6, -100, -100]]])})  # 4, 5, 6 of five
    >>> round(metric.compute().item(), 4)
    0.6
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    grams: list[Tensor]
    counts: Tensor

    def __init__(self, size: int, seeds: int = 1, **options: Any):
        super().__init__(**options)
        self.size = size
        #: each n-gram once, after the number of its drawing
        self.add_state("grams", [], dist_reduce_fx="cat")
        self.add_state("counts", torch.zeros(seeds, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Any, target: Any, samples: Mapping[str, Tensor] | None = None) -> None:
        """Adds the answers of a batch; nothing where there are none."""
        if not samples:
            return
        for number, labels in enumerate(samples[TOKENS]):
            if labels.shape[1] < self.size:
                continue
            grams = labels.unfold(1, self.size, 1).flatten(0, 1)
            grams = grams[(grams != IGNORED).all(1)]
            self.counts[number] += len(grams)
            self.grams.append(torch.cat([grams.new_full((len(grams), 1), number), grams], 1))
        self.grams = [self._known().unique(dim=0)]

    def _known(self) -> Tensor:
        """All n-grams; none of them is of the right shape, too."""
        grams = self.grams if isinstance(self.grams, list) else [self.grams]
        empty = torch.zeros(0, 1 + self.size, dtype=torch.long, device=self.counts.device)
        return torch.cat([empty, *grams])

    def sync(self, *arguments: Any, **options: Any) -> None:
        """Put the n-grams of all processes together. A process without any gives none of the same shape."""
        self.grams = [self._known()]
        super().sync(*arguments, **options)

    def compute(self) -> Tensor:
        """The share."""
        distinct = self._known().unique(dim=0)[:, 0].bincount(minlength=len(self.counts))
        return (distinct / self.counts).mean()
