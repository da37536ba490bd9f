"""The client of servers: what is repeated, what is not, and how many requests are sent at a time."""

import threading
import time

import pytest
import torch

from kdlab.errors import InputError
from kdlab.models import CausalModel
from kdlab.teachers import client
from kdlab.teachers.client import Server, ServerGone, ServerRefused
from tests.teachers.small_server import SmallServer


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return CausalModel(architecture="llama", vocabulary=24, layers=1, width=16, heads=2, positions=32)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(client, "_FIRST_PAUSE", 0.01)


ASKED = {"prompt": [1, 2, 3], "n_probs": 2}


def test_a_failed_request_is_repeated(network):
    answers = iter([(500, {"error": {"message": "busy"}}), (429, b"slow"), (200, b"no json"), None])
    with SmallServer(network, disturb=lambda path, content: next(answers)) as small:
        server = Server(small.address + "/v1/", "tiny")
        found = server.post("/completion", ASKED)
    assert len(found["completion_probabilities"][0]["top_logprobs"]) == 2
    assert (server.requests, server.repeated) == (4, 3) and server.waited > 0


def test_what_will_not_be_done_is_not_repeated(network):
    with SmallServer(
        network, disturb=lambda *of: (400, {"error": {"message": "prompt_logprobs:\n too many"}})
    ) as small:
        server = Server(small.address, "tiny")
        with pytest.raises(ServerRefused, match="refuses the request: 400 prompt_logprobs: too many"):
            server.post("/completion", ASKED)
    assert server.requests == 1


def test_a_server_that_is_gone_or_too_slow(network):
    with SmallServer(network, disturb=lambda *of: time.sleep(0.5)) as small:
        with pytest.raises(ServerGone, match="did not answer in 2 tries .*timed out"):
            Server(small.address, "tiny", timeout=0.05, retries=1).post("/completion", ASKED)
        address = small.address
    with pytest.raises(ServerGone, match="did not answer when it was asked"):
        Server(address, "tiny", retries=0).post("/completion", ASKED)
    with pytest.raises(InputError, match=r"teacher.address=.*: no server answers there.*Start it, for example"):
        Server(address, "tiny").check("teacher")


def test_no_more_requests_are_in_flight_than_the_bound(network):
    held, at_once = threading.Semaphore(0), []
    server = Server("http://127.0.0.1:1", "tiny", in_flight=3)

    def ask(number):
        at_once.append(number)
        held.acquire(timeout=5)
        return number * number

    found = server.each(ask, iter(range(7)))
    threading.Timer(0.05, held.release).start()
    first = next(found)
    assert first[1] == first[0] ** 2 and len(at_once) <= 3, "the next one is asked when an answer was taken"
    held.release(10)
    assert dict([first, *found]) == {number: number * number for number in range(7)}


def test_the_key_is_read_from_the_environment(network, monkeypatch):
    monkeypatch.setenv("MY_KEY", "abc")
    server = Server("http://127.0.0.1:1", "tiny", key_variable="MY_KEY")
    assert server._headers() == {"Authorization": "Bearer abc"} and "abc" not in str(vars(server))
    assert Server("http://127.0.0.1:1", "tiny", key_variable="NONE_SUCH")._headers() == {}


@pytest.mark.parametrize("key", ["abc\r", " abc \n"])
def test_blanks_around_the_key_are_left_out(network, monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with SmallServer(network) as small:
        server = Server(small.address, "tiny", key_variable="MY_KEY")
        server.post("/completion", ASKED)
    assert server._headers() == {"Authorization": "Bearer abc"} and server.repeated == 0


@pytest.mark.parametrize("key", ["secret\rword", "secret\u2026word"])
def test_a_key_that_no_header_can_hold_is_not_shown(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    server = Server("http://127.0.0.1:9", "tiny", key_variable="MY_KEY")
    for ask in (lambda: server.post("/completion", ASKED), lambda: server.check("teacher")):
        with pytest.raises(InputError, match="^MY_KEY: the environment variable holds a character") as error:
            ask()
        assert "secret" not in str(error.value) and "word" not in str(error.value)
    assert server.repeated == 0


def test_texts_that_are_too_long_for_the_model_are_found_first(network):
    with SmallServer(network, longest=32) as small:
        Server(small.address, "tiny").check("teacher", 31)
        with pytest.raises(InputError, match="at most 32 tokens, .*data.length=32 needs 33.* data.length=31, or start"):
            Server(small.address, "tiny").check("teacher", 32)


def test_the_model_is_one_that_the_server_has(network):
    with SmallServer(network, names=("one",)) as small:
        Server(small.address, "one").check("teacher")
        with pytest.raises(InputError, match="teacher.model has no value; the server has one; teacher.model=one"):
            Server(small.address).check("teacher")
        with pytest.raises(InputError, match=r"teacher.model=two: the server has no such model \(it has one\)"):
            Server(small.address, "two").check("teacher")
    with SmallServer(network, names=("one", "two")) as small:
        with pytest.raises(InputError, match="teacher.model has no value; the server has one, two; teacher.model=NAME"):
            Server(small.address).check("teacher")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"address": "localhost:8000"}, "address must begin with http:// or https://, got 'localhost:8000'"),
        ({"address": "http://localhost:port"}, "address=http://localhost:port cannot be read .Invalid port: 'port'"),
        ({"address": "http://"}, "address=http:// names no server; for example http://localhost:8000"),
        ({"retries": -1}, "retries must be a whole number of at least 0"),
        ({"in_flight": 0}, "in_flight must be a whole number of at least 1"),
        ({"timeout": 0}, "timeout must be a number of seconds greater than 0"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        Server(**{"address": "http://localhost", **options})
