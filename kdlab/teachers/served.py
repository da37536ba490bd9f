"""Served: a teacher that is a server."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.errors import InputError, RunFailed
from kdlab.functional.tokens import IGNORED
from kdlab.outputs import Outputs, TopK

from .base import Teacher
from .client import Server, ServerGone, ServerRefused

PROTOCOLS = ("prompt", "positions")
_REPEAT = 1e-2  # by how much a probability may differ between two answers to the same text
_FOREIGN = 1e-2  # the most that tokens beyond the tokenizer may hold: models have unused columns
_NO_CACHE = "Start the server without it, for example 'vllm serve MODEL --no-enable-prefix-caching'"
Row = list[tuple[int, float]]


class Served(Teacher):
    r"""A causal language model on a server, whose most probable next tokens are the target: their log-probabilities and
    the mass of all others (:class:`kdlab.outputs.TopK`), at temperature 1.

    | protocol | a request | servers |
    | --- | --- | --- |
    | ``prompt`` | for a text: ``/v1/completions`` with ``prompt_logprobs`` | vLLM |
    | ``positions`` | for a labelled token: ``/completion`` with ``n_probs`` and ``cache_prompt`` | llama.cpp |

    The tokens of the data are sent, so the server must have their tokenizer. A server of the first kind must not cache
    prefixes, since log-probabilities of a cached prefix are wrong or missing in some versions: the first text is asked
    for twice, and an answer that differs is refused.

    Args:
        address: ``http://localhost:8000``, with or without ``/v1``.
        model: its name on the server. It is part of the identity of a run.
        vocabulary: number of tokens of the data's tokenizer, which :meth:`teach` needs. Tokens beyond it, of unused
            columns of the model, are left out; their mass counts as that of all others.
        top_k: so many of the most probable tokens. Servers have a limit: vLLM of 20 unless it was started with
            ``--max-logprobs``.
        protocol: see above.
        timeout, retries, in_flight, key_variable: as of :class:`kdlab.teachers.client.Server`.

    Raises:
        InputError: an argument is out of its range, or the model has no name; the message has those of the server.
    """

    gives_logits = False

    #: how the server is reached does not change what it answers
    NOT_IDENTITY: ClassVar[tuple[str, ...]] = (
        "address",
        "timeout",
        "retries",
        "in_flight",
        "key_variable",
        "protocol",
    )

    def __init__(
        self,
        address: str,
        model: str | None = None,
        vocabulary: int | None = None,
        top_k: int = 20,
        protocol: str = "prompt",
        timeout: float = 60.0,
        retries: int = 8,
        in_flight: int = 8,
        key_variable: str = "OPENAI_API_KEY",
    ):
        if protocol not in PROTOCOLS:
            raise InputError(f"teacher.protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
        if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
            raise InputError(f"teacher.top_k must be a whole number of at least 1, got {top_k!r}")
        try:
            self.server = Server(address, model, timeout, retries, in_flight, key_variable)
        except InputError as error:
            raise InputError(f"teacher.{error}") from error
        if model is None:
            self.server.check("teacher")  # refuses it, with the names that the server has
        self.vocabulary, self.top_k, self.protocol = vocabulary, top_k, protocol
        self._is_checked = False
        #: what it has cost: batches, texts, and seconds that training waited for answers
        self.cost = {"batches": 0, "texts": 0, "seconds": 0.0}

    def watch(self, taps: Collection[str]) -> None:
        """Accepts no taps: a server gives probabilities alone.

        Raises:
            InputError: a tap is requested.
        """
        if taps:
            raise InputError(
                f"teacher=served gives probabilities and no features, so the losses that read the teacher's "
                f"{', '.join(sorted(taps))} need teacher=causal"
            )

    def teach(self, batch: Batch) -> Outputs:
        """The server's most probable tokens at each position whose next token has a label. Positions without one hold
        the token 0 with probability 1.

        Raises:
            InputError: in the first call: the vocabulary is not known, or the server does not answer, has not the
                model, or does not give what the protocol needs.
            RunFailed: later: it is gone, or refuses a request. The run resumes from its last checkpoint.
        """
        if self.vocabulary is None:
            raise InputError("teacher.vocabulary has no value; it is the number of tokens of data.tokenizer")
        begun = time.monotonic()
        batch = batch.for_teacher()
        ids = batch.inputs["input_ids"]
        if "position_ids" in batch.inputs:
            raise InputError("teacher=served reads one text a row; data.packed=false")
        mask = batch.inputs.get("attention_mask")
        lengths = [ids.shape[1]] * len(ids) if mask is None else mask.sum(1).tolist()
        counts = torch.zeros_like(batch.labels, dtype=torch.bool)
        counts[:, :-1] = batch.labels[:, 1:] != IGNORED
        texts = [row[:length] for row, length in zip(ids.tolist(), lengths)]
        wanted = [row.nonzero().flatten().tolist() for row in counts.cpu()]
        found = self._answers(texts, wanted)
        self.cost["batches"] += 1
        self.cost["texts"] += len(texts)
        self.cost["seconds"] += time.monotonic() - begun
        return Outputs(self._target(found, tuple(ids.shape), ids.device))

    def _answers(self, texts: Sequence[list[int]], wanted: Sequence[list[int]]) -> list[dict[int, Row]]:
        """For each text: position -> (token, log-probability) of the next token, the most probable first."""
        is_first = not self._is_checked
        if is_first:
            self._check(texts, wanted)
            self._is_checked = True
        try:
            asked = [number for number, places in enumerate(wanted) if places]
            answers = dict(self.server.each(lambda number: self._text(texts[number], wanted[number]), asked))
        except ServerGone as error:
            raise RunFailed(
                f"teacher: {error}. When the server is there again, the same command resumes from the last checkpoint; "
                f"a greater teacher.retries waits longer (it is {self.server.retries})"
            ) from error
        except ServerRefused as error:
            if is_first:
                raise
            raise RunFailed(
                f"teacher: {error}. When that is mended, the same command resumes from the last checkpoint"
            ) from error
        return [answers.get(number, {}) for number in range(len(texts))]

    def _check(self, texts: Sequence[list[int]], wanted: Sequence[list[int]]) -> None:
        self.server.check("teacher")
        number = next((number for number, places in enumerate(wanted) if places), None)
        if number is None:
            return
        try:
            one, other = (self._text(texts[number], wanted[number]) for _ in range(2))
        except ServerRefused as error:
            hint = (
                "; a smaller teacher.top_k may be allowed"
                if "refuses" in str(error) and "logprob" in str(error)
                else ""
            )
            raise InputError(f"teacher: {error}{hint}") from error
        for place in wanted[number]:
            if _apart(one[place], other[place]) > _REPEAT:
                cure = (
                    f", as a cache of prefixes may do. {_NO_CACHE}"
                    if self.protocol == "prompt"
                    else ". The server keeps the prefix, for which kdlab asks (cache_prompt), and then gives other "
                    "numbers: take another version of it, or a vLLM server with teacher.protocol=prompt"
                )
                raise InputError(
                    f"teacher.address={self.server.address}: the same text got other probabilities when it was asked "
                    f"for again (token {place + 1}){cure}"
                )

    # -- protocols -----------------------------------------------------------------------------------------------------

    def _text(self, tokens: list[int], places: Sequence[int]) -> dict[int, Row]:
        try:
            if self.protocol == "prompt":
                return self._of_prompt(tokens, places)
            return {place: self._at(tokens[: place + 1]) for place in places}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            other = next(one for one in PROTOCOLS if one != self.protocol)
            raise ServerRefused(
                f"{self.server.address} does not send what teacher.protocol={self.protocol} needs ({error!r}); "
                f"teacher.protocol={other} asks in another way"
            ) from error

    def _of_prompt(self, tokens: list[int], places: Sequence[int]) -> dict[int, Row]:
        content = {"prompt": tokens, "max_tokens": 1, "temperature": 0, "prompt_logprobs": self.top_k}
        answer = self.server.post("/v1/completions", {"model": self.server.model, **content})
        given = answer["choices"][0]["prompt_logprobs"]
        absent = next((place for place in places if place + 1 >= len(given) or given[place + 1] is None), None)
        if absent is not None:
            raise ServerRefused(
                f"{self.server.address} leaves out the log-probabilities of token {absent + 2} of {len(tokens)}, as a "
                f"cache of prefixes may do. {_NO_CACHE}"
            )
        if len(given) != len(tokens):
            raise ValueError(f"{len(given)} positions for {len(tokens)} tokens")
        return {
            place: self._row((int(key), one["logprob"]) for key, one in given[place + 1].items()) for place in places
        }

    def _at(self, tokens: list[int]) -> Row:
        content = {"prompt": tokens, "n_predict": 1, "n_probs": self.top_k, "temperature": 0, "cache_prompt": True}
        answer = self.server.post("/completion", content)
        given = answer["completion_probabilities"][0]["top_logprobs"]
        return self._row((one["id"], one["logprob"]) for one in given)

    def _row(self, pairs: Any) -> Row:
        """The most probable tokens: a server may add the token that stands in the text."""
        found = sorted(((int(token), float(value)) for token, value in pairs), key=lambda pair: -pair[1])
        if not found or not all(math.isfinite(value) and value <= 1e-4 for _, value in found[:1]):
            raise ValueError("no log-probabilities")
        known = [pair for pair in found if self.vocabulary is None or pair[0] < self.vocabulary]
        wrong = [] if len(known) == len(found) else [pair for pair in found if pair not in known]
        if not known or sum(math.exp(value) for _, value in wrong) > _FOREIGN:
            raise RunFailed(
                f"teacher: the server names the token {wrong[0][0]}, and the data's tokenizer has {self.vocabulary} "
                "tokens: the model on the server has another tokenizer"
            )
        return known[: self.top_k]

    # -- the target ----------------------------------------------------------------------------------------------------

    def _target(self, found: Sequence[dict[int, Row]], shape: tuple[int, ...], device: torch.device) -> TopK:
        most = max((len(row) for text in found for row in text.values()), default=1)
        classes = self.vocabulary
        assert classes is not None
        ids = torch.zeros(*shape, most, dtype=torch.long)
        logs = torch.full((*shape, most), -math.inf)
        logs[..., 0] = 0.0
        tail = torch.full(shape, -math.inf)
        for number, text in enumerate(found):
            for place, row in text.items():
                values = torch.tensor([value for _, value in row], dtype=torch.float64).clamp(max=0)
                ids[number, place, : len(row)] = torch.tensor([token for token, _ in row])
                logs[number, place, : len(row)] = values.float()
                if len(row) < classes:
                    tail[number, place] = _log_rest(values)
        known: dict[str, Any] = {"log_probabilities": logs.to(device), "log_tail": tail.to(device)}
        return TopK(ids=ids.to(device), classes=classes, kept=False, **known)


def _apart(one: Row, other: Row) -> float:
    """By how much probabilities differ at most. A token that one of the two leaves out has at most the least of its
    probabilities.

    >>> round(_apart([(3, math.log(0.6)), (1, -14.0)], [(3, math.log(0.59)), (1, -13.0)]), 4)
    0.01
    >>> round(_apart([(3, math.log(0.6))], [(4, math.log(0.5))]), 4)
    0.1
    """
    first, second = ({token: math.exp(value) for token, value in row} for row in (one, other))
    found = [abs(first[token] - second[token]) for token in first.keys() & second.keys()]
    for mine, theirs in ((first, second), (second, first)):
        found += [mine[token] - min(theirs.values()) for token in mine.keys() - theirs.keys()]
    return max(found)


def _log_rest(values: Tensor) -> float:
    """The logarithm of what is missing to 1.

    >>> round(_log_rest(torch.tensor([0.5, 0.25]).log()), 4)
    -1.3863
    """
    rest = -math.expm1(min(float(values.logsumexp(0)), 0.0))
    return math.log(rest) if rest > 0 else -math.inf
