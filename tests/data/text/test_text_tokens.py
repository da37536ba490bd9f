"""Tokens: kept, verified, the same as made now; tokenizers and what may be wrong with them."""

import shutil
from pathlib import Path

import pytest
import torch

from kdlab.data import TextFiles
from kdlab.data.text import tokens as module
from kdlab.data.text.tokenizers import Tokenizer, tokenizer_content
from kdlab.data.text.tokens import Tokenising
from kdlab.errors import InputError
from tests.data.text.texts import options, sentences, text_file
from tests.data.text.tiny_tokenizer import tokenizer_folder

TEXTS = [text for text, _ in sentences(12)]


def same(one, other):
    pairs = [(one.ids, other.ids), (one.types, other.types), (one.words, other.words)]
    return (one.pad, one.vocabulary, one.cut) == (other.pad, other.vocabulary, other.cut) and all(
        (a is None and b is None) or (torch.equal(a.values, b.values) and torch.equal(a.ends, b.ends)) for a, b in pairs
    )


@pytest.fixture
def folder(tmp_path):
    return tokenizer_folder(tmp_path / "tokenizer", types=True)


@pytest.mark.parametrize("words, pairs", [(False, None), (False, TEXTS[::-1]), (True, None)])
def test_kept_tokens_are_those_made_now(tmp_path, folder, words, pairs, monkeypatch):
    texts = [text.split() for text in TEXTS] if words else TEXTS

    def tokenising():
        return Tokenising(Tokenizer("data.tokenizer", folder), 10, words)

    made, problem = tokenising().kept(tmp_path / "kept", texts, pairs)
    assert problem is None and made.cut > 0 and made.types is not None and int(made.ids.lengths.max()) == 10
    assert same(made, tokenising().made(texts, pairs))
    monkeypatch.setattr(Tokenising, "made", lambda *_: pytest.fail("they are kept"))
    monkeypatch.setattr(Tokenizer, "loaded", property(lambda self: pytest.fail("it is not needed")))
    again, _ = tokenising().kept(tmp_path / "kept", texts, pairs)
    assert same(made, again)


def test_tokens_are_those_of_the_library(folder):
    made = Tokenising(Tokenizer("data.tokenizer", folder), 10).made(TEXTS, TEXTS[::-1])
    rows = torch.tensor([3, 0, 7])
    given = [TEXTS[row] for row in rows], [TEXTS[::-1][row] for row in rows]
    wanted = Tokenizer("", folder).loaded(*given, truncation=True, max_length=10, padding=True, return_tensors="pt")
    found = made.inputs(rows, 10)
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in found)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-3], lambda content: content[:-1] + b"\x07", lambda _: b""]
)
def test_a_damaged_file_is_made_again(tmp_path, folder, damage):
    tokenising = Tokenising(Tokenizer("data.tokenizer", folder), 10)
    made, _ = tokenising.kept(tmp_path / "kept", TEXTS, None)
    (path,) = (tmp_path / "kept").iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    again, _ = tokenising.kept(tmp_path / "kept", TEXTS, None)
    assert same(made, again) and path.read_bytes() == whole


def test_what_decides_the_file(tmp_path, folder):
    kept = tmp_path / "kept"
    first = Tokenizer("data.tokenizer", folder)
    other = Tokenizer("data.tokenizer", tokenizer_folder(tmp_path / "other", words=["good", "bad"]))
    Tokenising(first, 10).kept(kept, TEXTS, None)
    for change in (
        lambda: Tokenising(first, 11).kept(kept, TEXTS, None),
        lambda: Tokenising(other, 10).kept(kept, TEXTS, None),
        lambda: Tokenising(first, 10).kept(kept, TEXTS[1:], None),
        lambda: Tokenising(first, 10).kept(kept, TEXTS, TEXTS),
        lambda: Tokenising(first, 10, words=True).kept(kept, [text.split() for text in TEXTS], None),
    ):
        before = len([*kept.iterdir()])
        change()
        assert len([*kept.iterdir()]) == before + 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    data = TextFiles(text_file(tmp_path / "t.tsv"), **options(tmp_path, folder=str(tmp_path / "file")))
    assert "the tokens cannot be kept for other runs" in "\n".join(data.notes())


def test_the_identity_of_a_tokenizer(tmp_path, folder):
    first = tokenizer_content(Path(folder))
    (Path(folder) / "model.safetensors").write_bytes(b"weights")
    assert tokenizer_content(Path(folder)) == first
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert tokenizer_content(copy) == first
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text().replace('"good"', '"goood"'))
    assert tokenizer_content(copy) != first


def test_texts_that_are_too_long(tmp_path):
    path = text_file(tmp_path / "t.tsv")
    notes = TextFiles(path, **options(tmp_path, length=10)).notes()
    assert notes == ["data.train: 30 of 60 texts are longer than 10 tokens and were cut (data.length)"]
    with pytest.raises(InputError, match="30 of 60 texts of data.train are longer than 10 tokens; data.truncate=true"):
        TextFiles(path, **options(tmp_path, length=10, truncate=False)).setup()
    with pytest.raises(
        InputError, match="data.length=600: the tokenizer .* is for at most 512 tokens; data.length=512"
    ):
        TextFiles(path, **options(tmp_path, length=600)).setup()
    with pytest.raises(InputError, match="data.length=2 leaves no room for text"):
        TextFiles(path, **options(tmp_path, length=2)).setup()


def test_faults_of_tokenizers(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    path = text_file(tmp_path / "t.tsv")

    def told(**more):
        with pytest.raises(InputError) as error:
            TextFiles(path, **options(tmp_path, **more)).setup()
        return str(error.value)

    unpadded = tokenizer_folder(tmp_path / "unpadded", pad=False)
    assert "has no pad token" in told(tokenizer=unpadded) and "data.pad_token" in told(tokenizer=unpadded)
    assert TextFiles(path, **options(tmp_path, tokenizer=unpadded, pad_token="[SEP]")).train_size > 0
    assert "no such token; did you mean '[SEP]'" in told(tokenizer=unpadded, pad_token="[SEPP]")
    (tmp_path / "empty").mkdir()
    assert "the folder holds no tokenizer" in told(tokenizer=str(tmp_path / "empty"))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tokenizer.json").write_text("{")
    assert "cannot be read" in told(tokenizer=str(broken))
    assert "neither a folder with a tokenizer nor reachable" in told(tokenizer="nobody/there-is-no-such-model")


def test_the_version_of_the_format_counts(tmp_path, folder, monkeypatch):
    tokenising = Tokenising(Tokenizer("data.tokenizer", folder), 10)
    tokenising.kept(tmp_path / "kept", TEXTS, None)
    monkeypatch.setattr(module, "_FORMAT", 2)
    tokenising.kept(tmp_path / "kept", TEXTS, None)
    assert len([*(tmp_path / "kept").iterdir()]) == 2
