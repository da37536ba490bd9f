"""A client of OpenAI-compatible servers: timeouts, retries, and a bound of requests in flight."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

from kdlab.errors import InputError, RunFailed

if TYPE_CHECKING:
    import httpx

Given = TypeVar("Given")
Made = TypeVar("Made")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds before a request is repeated; the pause doubles each time
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)  # statuses that a later try may not have


class ServerGone(RunFailed):
    """A server did not answer, however often it was asked."""


class ServerRefused(InputError):
    """A server answered that it will not do what it is asked.

    Args:
        status: of its answer; 0 where it is no answer to a request.
        said: by the server.
    """

    def __init__(self, problem: str, status: int = 0, said: str = ""):
        super().__init__(problem)
        self.status, self.said = status, said


class Server:
    """A server by its address.

    Args:
        address: ``http://localhost:8000``, with or without ``/v1``.
        model: the name of the model; :meth:`check` refuses None.
        timeout: seconds for one answer.
        retries: how often a failed request is repeated: 6 take about half a minute, 8 a minute and a half.
        in_flight: requests at a time.
        key_variable: the environment variable that holds the key of the server. It is read when a request is sent, and
            kept nowhere.

    Raises:
        InputError: an argument is out of its range.
    """

    def __init__(
        self,
        address: str,
        model: str | None = None,
        timeout: float = 60.0,
        retries: int = 6,
        in_flight: int = 8,
        key_variable: str = "OPENAI_API_KEY",
    ):
        if not isinstance(address, str) or not address.startswith(("http://", "https://")):
            raise InputError(f"address must begin with http:// or https://, got {address!r}")
        for name, number, least in (("retries", retries, 0), ("in_flight", in_flight, 1)):
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise InputError(f"{name} must be a whole number of at least {least}, got {number!r}")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
            raise InputError(f"timeout must be a number of seconds greater than 0, got {timeout!r}")
        self.address = _checked(address).rstrip("/").removesuffix("/v1")
        self.model, self.timeout, self.retries, self.in_flight = model, float(timeout), retries, in_flight
        self.key_variable = key_variable
        self.requests = self.repeated = 0
        self.waited = 0.0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._client: httpx.Client | None = None

    # -- requests ------------------------------------------------------------------------------------------------------

    def post(self, path: str, content: dict[str, Any]) -> Any:
        """The answer to a request, as JSON. A request that fails is repeated, after a pause that doubles.

        Raises:
            ServerRefused: the server will not do it.
            ServerGone: it did not answer.
        """
        return self._asked("POST", path, content, self.retries)

    def _asked(self, method: str, path: str, content: dict[str, Any] | None, retries: int) -> Any:
        import httpx  # not above: every run imports the teachers

        address, reason = self.address + path, ""
        for attempt in range(retries + 1):
            pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)
            with self._lock:
                self.requests += 1
                self.repeated += attempt > 0
            try:
                answer = self._session().request(method, address, json=content, headers=self._headers())
                if answer.status_code < 400:
                    return answer.json()
                reason = f"{answer.status_code} {_said(answer)}"
                if answer.status_code not in _AGAIN:
                    said = reason.partition(" ")[2]
                    raise ServerRefused(f"{address} refuses the request: {reason}", answer.status_code, said)
                pause = max(pause, min(_seconds(answer.headers.get("retry-after")), _LONGEST_PAUSE))
            except (httpx.TransportError, ValueError) as error:  # no connection, no answer in time, or no JSON
                reason = str(error).strip() or type(error).__name__
            if attempt < retries:
                with self._lock:
                    self.waited += pause
                if self._stop.wait(pause):
                    break
        tries = f"in {retries + 1} tries" if retries else "when it was asked"
        raise ServerGone(f"{address} did not answer {tries} ({reason})")

    def _session(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                limits = httpx.Limits(max_connections=self.in_flight, max_keepalive_connections=self.in_flight)
                self._client = httpx.Client(timeout=httpx.Timeout(self.timeout, pool=None), limits=limits)
            return self._client

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):  # the message of httpx would show it
            raise InputError(
                f"{self.key_variable}: the environment variable holds a character that no header can hold, for example "
                f"a line break; export {self.key_variable}=KEY"
            )
        return {"Authorization": f"Bearer {key}"} if key else {}

    def each(self, ask: Callable[[Given], Made], asked: Iterable[Given]) -> Iterator[tuple[Given, Made]]:
        """``ask`` of each, with at most ``in_flight`` at a time, in the order in which they are answered. The next one
        is begun only when an answer was taken. After an error nothing more is begun; it is raised when what was in
        flight is answered."""
        waiting: dict[Future[Made], Given] = {}
        error: BaseException | None = None
        self._stop.clear()
        pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix="server")
        try:
            remaining = iter(asked)
            while True:
                while error is None and len(waiting) < self.in_flight and (one := next(remaining, self)) is not self:
                    waiting[pool.submit(ask, one)] = one  # type: ignore[arg-type,assignment]
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    one = waiting.pop(future)
                    if (problem := future.exception()) is not None:
                        error = error or problem
                    else:
                        yield one, future.result()
        except BaseException:  # it is interrupted, or no more is wanted: nothing is repeated
            self._stop.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if error is not None:
            raise error

    def tokens(self, text: str) -> list[int] | None:
        """The tokens that the server makes of a text, without those that begin or end one; None if it does not say."""
        # vLLM reads prompt and add_special_tokens, llama.cpp content and add_special
        content = {"prompt": text, "content": text, "add_special_tokens": False, "add_special": False}
        try:
            found = self.post("/tokenize", {"model": self.model, **content})["tokens"]
        except (ServerRefused, KeyError, TypeError):
            return None
        return found if isinstance(found, list) and all(isinstance(token, int) for token in found) else None

    # -- before anything is asked --------------------------------------------------------------------------------------

    def check(self, key: str, length: int | None = None) -> None:
        """Ask the server what it is, once, before anything else: does it answer, has it the model, and does that read
        texts of this length?

        Args:
            key: of the config, for messages.
            length: of the longest text, in tokens; None: not known.

        Raises:
            InputError: it does not answer, has not the model, no model is named, or texts are too long for it.
        """
        models: list[dict] = []
        try:
            listed = self._asked("GET", "/v1/models", None, min(self.retries, 1))
        except ServerGone as error:
            raise InputError(
                f"{key}.address={self.address}: no server answers there: {error}. Start it, for example with "
                "'vllm serve MODEL --no-enable-prefix-caching', or give another address"
            ) from error
        except ServerRefused as error:
            if " 401 " in str(error) or " 403 " in str(error):
                raise InputError(
                    f"{key}.address={self.address}: {error}. The key of the server is read from the environment "
                    f"variable {self.key_variable} ({key}.key_variable)"
                ) from error
            listed = None  # it does not list its models
        if isinstance(listed, dict):
            models = listed.get("data", [])
        names = [str(one.get("id")) for one in models]
        if self.model is None:  # the name is part of the identity of a run, so it is not taken from the server
            raise InputError(
                f"{key}.model has no value; the server has {', '.join(names) or 'no list of models'}; "
                f"{key}.model={names[0] if len(names) == 1 else 'NAME'}"
            )
        if names and self.model not in names:
            raise InputError(f"{key}.model={self.model}: the server has no such model (it has {', '.join(names)})")
        limits = [one.get("max_model_len") for one in models if one.get("id") == self.model]
        if length is not None and limits and isinstance(limits[0], int) and length + 1 > limits[0]:
            raise InputError(
                f"{key}.address={self.address}: the model reads at most {limits[0]} tokens, and a text of "
                f"data.length={length} needs {length + 1}, with the one that the server adds; "
                f"data.length={limits[0] - 1}, or start the server with --max-model-len {length + 1}"
            )


def _checked(address: str) -> str:
    """The address. Raises InputError where it cannot be read."""
    import httpx

    try:
        host = httpx.URL(address).host
    except httpx.InvalidURL as error:
        raise InputError(f"address={address} cannot be read ({error}); for example http://localhost:8000") from error
    if not host:
        raise InputError(f"address={address} names no server; for example http://localhost:8000")
    return address


def _said(answer: httpx.Response) -> str:
    """What a server says of an error, in one line."""
    try:
        content = answer.json()
        found = content.get("error", content) if isinstance(content, dict) else content
        text = found.get("message", found) if isinstance(found, dict) else found
    except ValueError:
        text = answer.text
    return " ".join(str(text).split())[:300]


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
