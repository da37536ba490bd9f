"""Answers of an OpenAI-compatible server."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from kdlab.errors import InputError, RunFailed
from kdlab.teachers.client import Server, ServerGone, ServerRefused

from .kept import Answer
from .prompts import Prompts
from .sampling import Sampling

# statuses of a request that the server reads and does not accept
_FAULTY = (400, 413, 422)


class Settings:
    """What requests say of sampling. Servers have defaults of their own (vLLM those of the model's
    generation_config.json, llama.cpp top_k=40 and min_p=0.05), so each is sent, with the value that changes nothing
    where ``sampling`` has none. ``unknown`` holds those that the server did not accept.
    """

    def __init__(self, sampling: Sampling):
        self._always: dict[str, Any] = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "n": 1,
        }
        # beyond OpenAI's own interface, but for the last two; repetition is vLLM's, repeat llama.cpp's
        self._neutral: dict[str, Any] = {
            "top_k": -1,
            "min_p": 0,
            "repetition_penalty": 1,
            "repeat_penalty": 1,
            "presence_penalty": 0,
            "frequency_penalty": 0,
        }
        if sampling.top_k is not None and sampling.temperature > 0:  # it changes the answers
            del self._neutral["top_k"]
            self._always["top_k"] = sampling.top_k
        self.unknown: set[str] = set()
        self._lock = threading.Lock()

    def sent(self) -> dict[str, Any]:
        """The settings of a request."""
        with self._lock:
            return {**self._always, **{name: one for name, one in self._neutral.items() if name not in self.unknown}}

    def learn(self, error: ServerRefused, sent: Collection[str]) -> bool:
        """Whether a request is refused because of settings that it can do without; they are not sent again.

        Raises:
            InputError: it is refused because of one that it cannot do without.
        """
        if error.status not in _FAULTY:
            return False
        named = {name for name in (*self._neutral, "top_k") if name in sent and re.search(rf"\b{name}\b", error.said)}
        if named & set(self._always):
            raise InputError(f"sampling.top_k={self._always['top_k']}: {error}; sampling.top_k=null") from error
        with self._lock:
            self.unknown |= named
        return bool(named)


def answered_by(
    server: Server,
    prompts: Prompts,
    chat: bool,
    asked: Sequence[tuple[int, int]],
    settings: Settings,
    sampling: Sampling,
    refused: dict[int, str] | None = None,
    fresh: bool = False,
) -> Iterator[list[Answer]]:
    """Answers, one at a time, as they come. Each request has a seed of its own: a server that uses it gives the same
    answers in any order.

    Args:
        chat: whether prompts go to ``/v1/chat/completions``, where the server's own template writes them, or to
            ``/v1/completions``.
        asked: (index, sample) of each answer.
        refused: gets the prompts that the server refuses, as one that is too long, with its reason; None: the first
            such prompt ends it.
        fresh: whether the command threw away the answers that were there, for messages.

    Raises:
        RunFailed: the server is gone, or refuses a prompt; what was answered before is given first.
    """
    resumes = f"the same command{' without fresh=true' if fresh else ''} resumes"
    path = "/v1/chat/completions" if chat else "/v1/completions"

    def ask(one: tuple[int, int]) -> Answer | None:
        index, sample = one
        if refused is not None and index in refused:
            return None
        content = {"messages": prompts.messages(index)} if chat else {"prompt": prompts.row(index, chat)["prompt"]}
        seed = {"seed": sampling.seed_of(index, sample)} if sampling.temperature > 0 else {}
        while True:
            sent = settings.sent()
            try:
                answer = server.post(path, {"model": server.model, **sent, **content, **seed})
                break
            except ServerRefused as error:
                if settings.learn(error, sent):
                    continue
                if error.status not in _FAULTY:
                    raise
                if refused is not None:
                    refused[index] = error.said
                    return None
                raise RunFailed(
                    f"teacher: {prompts.table.places([index])}: {error}. Finished answers are kept; "
                    f"data.faulty=drop leaves such prompts out, and with it {resumes}"
                ) from error
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] if chat else choice["text"]
            tokens = (answer.get("usage") or {}).get("completion_tokens")
            finish = "length" if choice.get("finish_reason") == "length" else "stop"
            text = (text or "").encode("utf-8", "replace").decode()  # half of a surrogate pair is no text
            return Answer(index, sample, text, tokens, finish)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise RunFailed(
                f"teacher: {server.address}{path} sent what is no answer of this interface ({str(answer)[:200]})"
            ) from error

    try:
        for _, answer in server.each(ask, asked):
            if answer is not None:
                yield [answer]
    except ServerGone as error:
        raise RunFailed(
            f"teacher: {error}. Finished answers are kept; when the server is there again, {resumes}"
        ) from error
