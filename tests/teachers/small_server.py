"""A small OpenAI-compatible server for tests: a model of this process behind http.server."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from kdlab.models.generation import generate


class SmallServer:
    """``/v1/models``, ``/v1/completions`` (also with ``prompt_logprobs``), ``/v1/chat/completions``, ``/tokenize``
    (with a tokenizer) and llama.cpp's ``/completion``.

    Args:
        network: a causal language model.
        tokenizer: of prompts that are texts.
        disturb: called with each (path, request) before it is answered; returns None, or (status, answer).
        port: 0 chooses one.
    """

    def __init__(
        self, network, tokenizer=None, disturb: Callable | None = None, port: int = 0, names=("tiny",), longest=None
    ):
        self.network, self.tokenizer, self.disturb, self.names = network.eval(), tokenizer, disturb, names
        self.longest = longest  # max_model_len
        self.asked: list[tuple[str, dict]] = []
        self.connections: list = []
        self.at_once = self.most_at_once = 0
        self._lock, self._turn = threading.Lock(), threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                outer.connections.append(self.connection)

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                self.send(200, {"data": [{"id": name, "max_model_len": outer.longest} for name in outer.names]})

            def do_POST(self):
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.asked.append((self.path, content))
                    outer.at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer.at_once)
                try:
                    disturbed = outer.disturb and outer.disturb(self.path, content)
                    if self.path == "/tokenize" and outer.tokenizer is None:
                        disturbed = disturbed or (404, {"error": "not found"})
                    with outer._turn:
                        self.send(*(disturbed or (200, outer.answer(self.path, content))))
                finally:
                    with outer._lock:
                        outer.at_once -= 1

            def send(self, status, content):
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.http.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        for connection in self.connections:  # those that clients keep open
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @torch.no_grad()
    def answer(self, path, content):
        if path == "/tokenize":
            return {"tokens": self.tokenizer(content["prompt"], add_special_tokens=False)["input_ids"]}
        if path == "/completion":
            return {"completion_probabilities": [{"top_logprobs": self.top(content["prompt"], content["n_probs"])[-1]}]}
        if "prompt_logprobs" in content:
            rows = self.top(content["prompt"], content["prompt_logprobs"])
            given = [{str(one["id"]): {"logprob": one["logprob"]} for one in row} for row in rows[:-1]]
            return {"choices": [{"text": "", "prompt_logprobs": [None, *given]}]}
        if path == "/v1/chat/completions":
            text = self.tokenizer.apply_chat_template(content["messages"], tokenize=False, add_generation_prompt=True)
        else:
            text = content["prompt"]
        ids = torch.tensor([self.tokenizer(text, add_special_tokens=False)["input_ids"]])
        made = generate(
            self.network,
            ids,
            torch.tensor([ids.shape[1]]),
            most=content["max_tokens"],
            end=self.tokenizer.eos_token_id,
            temperature=content["temperature"],
            key=(content.get("seed", 0),),
        )
        said = self.tokenizer.decode(made.tokens[0, ids.shape[1] :], skip_special_tokens=True)
        reason = "stop" if made.ended[0] else "length"
        choice = {"finish_reason": reason, "text": said, "message": {"role": "assistant", "content": said}}
        return {"choices": [choice], "usage": {"completion_tokens": int(made.answers[0])}}

    def top(self, ids, number):
        logs = self.network(torch.tensor([ids]))[0].log_softmax(-1)
        values, places = logs.topk(min(number, logs.shape[-1]))
        return [
            [{"id": token, "logprob": value} for token, value in zip(tokens, row)]
            for tokens, row in zip(places.tolist(), values.tolist())
        ]
