"""Answers of an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kdlab.errors import RunFailed
from kdlab.teachers.client import Server, ServerGone

from .kept import Answer
from .prompts import Prompts
from .sampling import Sampling


def answered_by(
    server: Server, prompts: Prompts, chat: bool, asked: Sequence[tuple[int, int]], sampling: Sampling
) -> Iterator[list[Answer]]:
    """Answers, one at a time, as they come. Each request has a seed of its own: a server that uses it gives the same
    answers in any order.

    Args:
        chat: whether prompts go to ``/v1/chat/completions``, where the server's own template writes them, or to
            ``/v1/completions``.
        asked: (index, sample) of each answer.

    Raises:
        RunFailed: the server is gone; what was answered before is given first.
    """
    path = "/v1/chat/completions" if chat else "/v1/completions"
    body: dict[str, Any] = {
        "model": server.model,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "n": 1,
    }
    if sampling.top_k is not None:
        body["top_k"] = sampling.top_k  # beyond OpenAI's own interface; vLLM and llama.cpp have it

    def ask(one: tuple[int, int]) -> Answer:
        index, sample = one
        content = {"messages": prompts.messages(index)} if chat else {"prompt": prompts.row(index, chat)["prompt"]}
        seed = {"seed": sampling.seed_of(index, sample)} if sampling.temperature > 0 else {}
        answer = server.post(path, {**body, **content, **seed})
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] if chat else choice["text"]
            tokens = (answer.get("usage") or {}).get("completion_tokens")
            finish = "length" if choice.get("finish_reason") == "length" else "stop"
            return Answer(index, sample, text or "", tokens, finish)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise RunFailed(
                f"teacher: {server.address}{path} sent what is no answer of this interface ({str(answer)[:200]})"
            ) from error

    try:
        for _, answer in server.each(ask, asked):
            yield [answer]
    except ServerGone as error:
        raise RunFailed(
            f"teacher: {error}. Finished answers are kept; when the server is there again, the same command resumes"
        ) from error
