"""Tasks whose rows are tokens: a class for each labelled token, the masked tokens of a text, and the next token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional.tokens import IGNORED, answer_begins
from kdlab.models.calling import answer_of
from kdlab.models.generation import Generated, generate
from kdlab.outputs import LazyLogits, Outputs

from .answers import (
    OF_ALL,
    OF_ANSWERS,
    TOKENS,
    Distinct,
    OfSamples,
    OnceAsked,
    check_drawing,
    has_words,
    rouge_l,
    stacked,
    texts_of,
    without_ends,
)
from .classification import Classification, NegativeLogLikelihood, macro_f1
from .metric import CAUSAL_LM, MASKED_LM, TOKEN_CLASSIFICATION


class Tokens(Classification):
    """Base: rows are the tokens that have a label. Targets are ``(B, T)``; a token with the label -100 is no row.

    Args:
        classes: number of classes of a token.
    """

    text_heads: ClassVar[tuple[str, ...]] = ("tokens", "masked_lm")
    #: how many rows get logits at a time where the network's answers are lazy; None: all
    rows_at_once: int | None = None

    def __init__(self, classes: int):
        super().__init__(classes)

    def network_outputs(self, network: nn.Module, batch: Batch, view: int = 0) -> Outputs:
        """Answers ``(B, T, C)``.

        Raises:
            InputError: the network gives another shape.
        """
        answer = answer_of(network, batch.view(view).inputs)
        if not isinstance(answer, (Tensor, LazyLogits)) or isinstance(answer, Tensor) and answer.dim() != 3:
            raise InputError(
                f"{type(network).__name__} must answer with a tensor of shape (samples, tokens, classes), got "
                f"{tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__}"
            )
        return Outputs(answer, mask=batch.mask)

    def align(self, outputs: Outputs, batch: Batch) -> Outputs:
        """Outputs whose logits are the labelled tokens, ``(N, C)``. Logits that are not computed yet stay so.

        Raises:
            InputError: the network answered to other tokens than those that have labels.
        """
        rows, answer = _labelled(self.answered(batch.labels)), outputs.answer
        found = (answer.hidden if isinstance(answer, LazyLogits) else answer).shape[:2]
        if found != batch.labels.shape:
            raise InputError(
                f"task={self.name}: a network answered to {tuple(found)} tokens (samples, tokens), and the labels are "
                f"of {tuple(batch.labels.shape)}; it must read the tokens that the student reads: "
                "data.teacher_tokenizer=null data.teacher_pad_to=same"
            )
        if isinstance(answer, LazyLogits):
            hidden = answer.hidden.flatten(0, 1)[rows]
            return outputs.replace(answer=replace(answer, hidden=hidden, rows_at_once=self.rows_at_once))
        return outputs.replace(answer=answer.flatten(0, 1)[rows])

    def align_batch(self, batch: Batch) -> Batch:
        """The batch whose targets and indices are those of the labelled tokens, ``(N,)``.

        Raises:
            InputError: the labels are not ``(B, T)``.
        """
        if batch.labels.dim() != 2:
            raise InputError(
                f"task={self.name} needs a label for each token, of shape (samples, tokens), and the data have "
                f"{tuple(batch.labels.shape)}"
            )
        target = self.answered(batch.labels)
        rows = _labelled(target)
        index = batch.index.repeat_interleave(target.shape[1])[rows]
        return batch.replace(target=target.flatten()[rows], index=index)

    def answered(self, labels: Tensor) -> Tensor:
        """The label that the answer at each position is compared with, ``(B, T)``: that of its own token."""
        return labels

    def row_counts(self, target: Tensor) -> Tensor | None:
        """The labelled tokens of each stored sample; None if the data choose them (masked tokens)."""
        return (self.answered(target) != IGNORED).sum(1) if target.dim() == 2 else None

    def check_labels(self, target: Tensor) -> None:
        """Raises InputError where a label is neither a class nor -100."""
        labels = target[target != IGNORED]
        if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= self.classes):
            raise InputError(
                f"task={self.name} needs labels from 0 to {self.classes - 1}, or -100 for tokens without a label; the "
                f"data have labels from {int(labels.min())} to {int(labels.max())}"
            )

    def test_metrics(self) -> MetricCollection:
        """Those of validation."""
        return self.metrics()


def _labelled(target: Tensor) -> Tensor:
    """The places of the labels that count, in the flattened target."""
    return (target.flatten() != IGNORED).nonzero().flatten()


class TokenClassification(Tokens):
    """One class a token (parts of speech, named entities). The first token of a word has the word's label.

    Args:
        classes: number of classes.
    """

    report = TOKEN_CLASSIFICATION

    def metrics(self) -> MetricCollection:
        """``f1``, the mean over classes of the F1 score; ``accuracy``, the share of correct tokens; ``nll`` in nats a
        token."""
        found: dict[str, Metric | MetricCollection] = {
            "f1": macro_f1(self.classes),
            "accuracy": MulticlassAccuracy(self.classes, average="micro", validate_args=False),
            "nll": NegativeLogLikelihood(),
        }
        return MetricCollection(found, compute_groups=False)


class Perplexity(NegativeLogLikelihood):
    """The exponential of the mean cross-entropy."""

    def compute(self) -> Tensor:
        """The perplexity of all rows."""
        return MeanMetric.compute(self).exp()


class Words(Tokens):
    """Base: a row's classes are the words of a vocabulary.

    Args:
        classes: size of the vocabulary.
    """

    keeps_logits: ClassVar[bool] = False  # a row has as many numbers as there are words

    def metrics(self) -> MetricCollection:
        """``nll`` in nats a row, ``perplexity``, its exponential, and ``accuracy``."""
        return MetricCollection(self._of_rows(), compute_groups=False)

    def _of_rows(self) -> dict[str, Metric | MetricCollection]:
        return {
            "nll": NegativeLogLikelihood(),
            "perplexity": Perplexity(),
            "accuracy": MulticlassAccuracy(self.classes, average="micro", validate_args=False),
        }

    def predictions(self, outputs: Outputs, rows: Batch) -> dict[str, Tensor]:
        """The most probable word of each row, its log-probability and that of the right one."""
        logs = outputs.logits.float().log_softmax(-1)
        best = logs.max(-1)
        return {
            "predicted": best.indices.to(torch.int32),
            "log_probability": best.values,
            "target_log_probability": logs.gather(-1, rows.labels[:, None]).squeeze(-1),
            "target": rows.labels,
            "index": rows.index,
        }


class MaskedLM(Words):
    """The words behind the masked tokens of a text (Devlin et al. 2019, "BERT", https://arxiv.org/abs/1810.04805). The
    data choose which tokens are masked.

    Args:
        classes: size of the vocabulary.
    """

    report = MASKED_LM
    text_heads: ClassVar[tuple[str, ...]] = ("masked_lm", "tokens")


class CausalLM(Words):
    r"""The next token of a text: row :math:`t` is the answer to the tokens :math:`x_1 … x_t`, and its label is
    :math:`x_{t+1}`.

    A position is a row if the token after it has a label. Tokens of a prompt and padding have the label -100. The token
    that ends an answer is a label like any other. The first token of a text is never predicted.

    Metrics of answers that the network generates to the prompts of validation and test:

    | metric | is |
    | --- | --- |
    | ``exact_match`` | the share of prompts whose answer is that of the data, token by token |
    | ``rouge_l`` | the mean of :func:`kdlab.tasks.answers.rouge_l` with the answer of the data |
    | ``distinct_1``, ``distinct_2`` | the share of distinct n-grams (:class:`kdlab.tasks.answers.Distinct`) |
    | ``answer_tokens`` | the mean length in tokens, with the one that ends the answer |
    | ``truncated`` | the share of answers that do not end within ``longest_answer`` tokens |

    Args:
        classes: size of the vocabulary.
        rows_at_once: how many rows get logits at a time, in all loss terms that need no more than logits: memory grows
            with it, and not with the number of tokens. None: all rows.
        measured: metrics that come first, the headline at their head: ``nll``, ``perplexity``, ``accuracy``, and those
            of generated answers.
        longest_answer: the most tokens of an answer that is generated.
        end_tokens: the numbers of the tokens that end an answer. kdlab gives them, from the data. Empty: there are
            none, and answers cannot be measured. None: that is not known, and answers have ``longest_answer`` tokens.
        answer_temperature: 0: answers are greedy. Otherwise tokens are drawn at this temperature.
        answer_seeds: of the draws. Each prompt is answered once for each seed, and metrics are means over the seeds.
        decode: from tokens to their text. kdlab gives it, from the data; ``rouge_l`` needs it.

    Raises:
        InputError: an argument is out of its range, or there is no such metric.
    """

    report = CAUSAL_LM
    text_heads: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        classes: int,
        rows_at_once: int | None = None,
        measured: Sequence[str] = (),
        longest_answer: int = 32,
        end_tokens: Sequence[int] | None = None,
        answer_temperature: float = 0.0,
        answer_seeds: Sequence[int] = (1,),
        decode: Callable[[list[int]], str] | None = None,
    ):
        super().__init__(classes)
        if rows_at_once is not None and rows_at_once < 1:
            raise InputError(f"task.rows_at_once must be at least 1, or null (all rows), got {rows_at_once}")
        if longest_answer < 1:
            raise InputError(f"task.longest_answer must be at least 1 (token), got {longest_answer}")
        self.rows_at_once, self.longest_answer = rows_at_once, longest_answer
        self.end_tokens = None if end_tokens is None else tuple(end_tokens)
        self.report = self.report.measuring(measured)
        #: the metrics of generated answers that are measured
        self.of_answers = [name for name in measured if name in OF_ANSWERS]
        self.answer_temperature, self.decode = answer_temperature, decode
        self.answer_seeds = check_drawing(answer_temperature, answer_seeds, self.of_answers)

    def metrics(self) -> MetricCollection:
        """Those of :class:`Words`, and those of generated answers that are ``measured``."""
        found = self._of_rows()
        for name in self.of_answers:
            found[name] = Distinct(OF_ALL[name], len(self.answer_seeds)) if name in OF_ALL else OfSamples(name)
        return MetricCollection(found, compute_groups=False)

    def network_outputs(self, network: nn.Module, batch: Batch, view: int = 0) -> Outputs:
        """Answers ``(B, T, C)``; lazy where the network can leave its head to be applied later. Of validation and test,
        also what is measured of generated answers. They are generated when a metric asks for that.

        Raises:
            InputError: generated answers are measured, and a row of the data has no prompt, or holds several texts, or
                texts are compared and cannot be.
        """
        if self.of_answers and not network.training:
            check_prompts(batch, "task.measured")
            self.check_end("task.measured")
            self._check_texts(batch)
        lazily = getattr(network, "lazily", None)
        with lazily() if callable(lazily) else nullcontext():
            outputs = super().network_outputs(network, batch, view)
        if not self.of_answers or network.training or batch.split == "train" or not len(batch):
            return outputs
        return outputs.replace(
            samples=OnceAsked([*self.of_answers, TOKENS], lambda: self._measured_of_all(network, batch))
        )

    def computed(self, metrics: MetricCollection) -> dict[str, float]:
        """The values of a collection, without those of generated answers where none were generated: of a kept teacher,
        or an average."""
        found = super().computed(metrics)
        return {name: value for name, value in found.items() if name not in OF_ANSWERS or not math.isnan(value)}

    def generated(
        self, network: nn.Module, batch: Batch, temperature: float, most: int, key: Sequence[int] = ()
    ) -> Generated:
        """A network's own answers to the prompts of a batch (:func:`kdlab.models.generation.generate`). A prompt is
        what comes before the last answer of a text."""
        return generate(
            network,
            batch.inputs["input_ids"],
            answer_begins(batch.labels),
            most=most,
            end=self.end_tokens or None,
            temperature=temperature,
            index=batch.index,
            key=key,
        )

    def check_end(self, key: str) -> None:
        """Raises InputError where it is known that no token ends an answer.

        Args:
            key: the option that needs answers, for the message.
        """
        if self.end_tokens == ():
            raise InputError(
                f"{key}: answers are generated up to a token that ends them, and the data have none; data.end=true (of "
                "chats, the tokenizer's template must write a special token after an answer)"
            )

    def _check_texts(self, batch: Batch) -> None:
        """Raises InputError where ``rouge_l`` has no texts to compare, or finds no words in those of the training
        samples that a run is tried on."""
        if "rouge_l" not in self.of_answers:
            return
        if self.decode is None:
            raise InputError(
                "task.measured: rouge_l compares texts, and these data have no tokenizer that writes them; "
                "'task.measured=[exact_match]'"
            )
        if batch.split != "train" or not len(batch):
            return
        wanted = without_ends(self._wanted(batch), self.end_tokens)
        if not any(has_words(text) for text in texts_of(wanted, self.decode)):
            raise InputError(
                "task.measured: rouge_l counts words of the letters a to z and digits, and the answers of these data "
                "have none; 'task.measured=[exact_match]'"
            )

    def _measured_of_all(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What is measured of the answers to a batch: the mean over the seeds for each sample, and all tokens."""
        drawn = [
            self.generated(network, batch, self.answer_temperature, self.longest_answer, (seed,))
            for seed in self.answer_seeds
        ]
        found = [self._measured(one, batch) for one in drawn]
        means = {name: torch.stack([one[name] for one in found]).mean(0) for name in found[0]}
        return {**means, TOKENS: stacked([without_ends(one.labels, self.end_tokens) for one in drawn])}

    def _wanted(self, batch: Batch) -> Tensor:
        """The labels of the last answer of each text, up to the token that ends it ``(B, T)``."""
        places = torch.arange(batch.labels.shape[1], device=batch.labels.device)
        wanted = batch.labels.masked_fill(places < answer_begins(batch.labels)[:, None], IGNORED)
        if self.end_tokens:  # a template may write more after it
            ending = torch.isin(wanted, wanted.new_tensor(self.end_tokens)).long()
            wanted = wanted.masked_fill(ending.cumsum(1) > ending, IGNORED)
        return wanted

    def _measured(self, generated: Generated, batch: Batch) -> dict[str, Tensor]:
        """The metrics of each sample, of one answer to each prompt."""
        wanted, labels = self._wanted(batch), generated.labels
        width = max(labels.shape[1], wanted.shape[1])
        wanted, labels = (F.pad(one, (0, width - one.shape[1]), value=IGNORED) for one in (wanted, labels))
        found = {
            "exact_match": (wanted == labels).all(1).float(),
            "answer_tokens": generated.answers.float(),
            "truncated": (~generated.ended).float(),
        }
        if "rouge_l" in self.of_answers and self.decode is not None:
            texts, references = (texts_of(without_ends(one, self.end_tokens), self.decode) for one in (labels, wanted))
            found["rouge_l"] = labels.new_tensor(
                [rouge_l(text, reference) for text, reference in zip(texts, references)], dtype=torch.float
            )
        return found

    def answered(self, labels: Tensor) -> Tensor:
        """The label of the next token, and -100 at the last position.

        >>> CausalLM(9).answered(torch.tensor([[-100, -100, 4, 2]])).tolist()
        [[-100, 4, 2, -100]]
        """
        return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def check_prompts(batch: Batch, key: str) -> None:
    """Raises InputError where a text of a batch has no prompt that could be answered.

    Args:
        key: the option that needs answers, for the message.
    """
    if "position_ids" in batch.inputs:
        raise InputError(f"{key}: answers are generated to prompts, and here rows are packed; data.packed=false")
    if len(batch) and int(answer_begins(batch.labels).min()) < 1:
        raise InputError(
            f"{key}: answers are generated to prompts, and these texts have none; name their columns, for example "
            "data.prompt=question data.answer=answer"
        )
