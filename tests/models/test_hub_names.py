"""Names of the hub: a path is a missing folder, and without a network the message comes soon."""

import socket
import time

import pytest

from kdlab.data import HuggingFaceTexts
from kdlab.data.text.tokenizers import Tokenizer
from kdlab.errors import InputError
from kdlab.models import hub_names
from kdlab.models.hub import read_config
from kdlab.models.hub_names import why_not_there
from tests.data.text.texts import options

constants = pytest.importorskip("huggingface_hub.constants")
pytest.importorskip("transformers")


@pytest.fixture
def closed(monkeypatch, tmp_path):
    """A hub that nobody serves: a port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{found.getsockname()[1]}"
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in (
        ("HF_HUB_OFFLINE", False),
        ("ENDPOINT", endpoint),
        ("HUGGINGFACE_CO_URL_TEMPLATE", template),
        ("HF_HUB_CACHE", str(tmp_path / "hub")),
    ):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(hub_names, "_PAUSE", 0.0)


class Session:
    """Counts requests and answers each with an error, or with a status."""

    def __init__(self, *errors):
        self.errors, self.asked = list(errors), []

    def head(self, address, timeout):
        self.asked.append(address)
        if error := self.errors.pop(0):
            raise error


def test_without_a_network_the_message_comes_soon(closed):
    begin = time.monotonic()
    with pytest.raises(ValueError, match="'nobody/nothing' is neither a folder .* does not answer: .*refused"):
        read_config("nobody/nothing")
    with pytest.raises(InputError, match="data.tokenizer=nobody/nothing: .* does not answer: .*data.tokenizer=FOLDER"):
        _ = Tokenizer("data.tokenizer", "nobody/nothing").loaded
    assert time.monotonic() - begin < 10  # the libraries would try for 70 seconds


def test_one_lost_request_is_no_missing_network(closed, monkeypatch):
    for errors, asked, why in (((None,), 1, None), ((OSError("lost"), None), 2, None)):
        session = Session(*errors)
        monkeypatch.setattr("huggingface_hub.utils.get_session", lambda session=session: session)
        assert why_not_there("some/model", "v1", ["config.json"]) is why
        assert len(session.asked) == asked and session.asked[0].endswith("/some/model/resolve/v1/config.json")
    session = Session(OSError("lost"), OSError("still\nlost"))
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: session)
    assert why_not_there("some/model", None, ["config.json"]).endswith("does not answer: still")


def test_nobody_is_asked_for_a_model_on_this_machine_or_offline(closed, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: pytest.fail("the hub is asked"))
    files = {"a": str(tmp_path), "b": None}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file, revision: files[file])
    assert why_not_there("some/model", None, ["b", "a"]) is None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert why_not_there("some/model", None, ["b"]) is None


def test_a_path_is_a_missing_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: pytest.fail("the hub is asked"))
    (tmp_path / "encoder").mkdir()
    near, far = str(tmp_path / "encodr"), "models/a/b"
    with pytest.raises(ValueError, match=f"^there is no folder {near}; did you mean '{tmp_path}/encoder'"):
        read_config(near)
    with pytest.raises(ValueError, match=r"^there is no folder models/a/b \(model.save_pretrained"):
        read_config(far)
    with pytest.raises(InputError, match=r"data.tokenizer=./words: there is no folder ./words \(tokenizer.save_pre"):
        _ = Tokenizer("data.tokenizer", "./words").loaded
    pytest.importorskip("datasets")
    with pytest.raises(InputError, match="data.dataset=./set: there is no such folder"):
        HuggingFaceTexts("./set", **options(tmp_path)).setup()
