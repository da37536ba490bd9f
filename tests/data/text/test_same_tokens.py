"""Tokenizers of one size are told apart by the tokens of a few texts, and by what each number stands for."""

import json

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from kdlab.data.text.same_tokens import COMPOSED, PROBES, SPECIAL, difference
from kdlab.data.text.tokenizers import Tokenizer
from tests.models.gguf_files import byte_tokenizer


def saved(folder, tokenizer):
    tokenizer.save_pretrained(str(folder))
    return Tokenizer("data.tokenizer", str(folder))


def compared(ours, theirs):
    return difference(ours, lambda text: theirs(text, add_special_tokens=False)["input_ids"], theirs.get_vocab())


def test_equal_ones_are_equal(tmp_path):
    for split in ("gpt-2", "llama-bpe", "qwen2"):
        tokenizer = byte_tokenizer(split)
        assert compared(saved(tmp_path / split, tokenizer), tokenizer) is None


def changed(folder, change):
    """A tokenizer in a folder whose file is changed."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return AutoTokenizer.from_pretrained(str(folder))


@pytest.mark.parametrize(("one", "other"), [("gpt-2", "smollm"), ("gpt-2", "qwen2")])
def test_the_same_tokens_and_another_split(one, other, tmp_path):
    ours = saved(tmp_path / "ours", byte_tokenizer(one))
    saved(tmp_path / "theirs", byte_tokenizer(one))
    split = json.loads(byte_tokenizer(other).backend_tokenizer.to_str())["pre_tokenizer"]
    theirs = changed(tmp_path / "theirs", lambda content: content.update(pre_tokenizer=split))
    assert theirs.get_vocab() == ours.unpadded.get_vocab()
    found = compared(ours, theirs)
    assert found.startswith("it makes [") and " of '12345 678 " in found and f", and {ours.name} makes [" in found


def test_other_numbers_of_tokens_that_no_probe_has(tmp_path):
    ours = saved(tmp_path / "ours", byte_tokenizer())
    saved(tmp_path / "theirs", byte_tokenizer())
    used = {number for text in (*PROBES, COMPOSED, *SPECIAL) for number in ours.unpadded(text)["input_ids"]}
    one, other = [number for number in range(250, 320) if number not in used][:2]

    def swap(content):
        words = {number: word for word, number in content["model"]["vocab"].items()}
        content["model"]["vocab"].update({words[one]: other, words[other]: one})

    theirs = changed(tmp_path / "theirs", swap)
    words = {number: word for word, number in theirs.get_vocab().items()}
    assert compared(ours, theirs) == (f"its token {one} is {words[one]!r}, and in {ours.name} it is {words[other]!r}")
    assert difference(ours, lambda text: theirs(text)["input_ids"]) is None, "a server names no numbers"
    assert difference(ours, lambda text: None) is None, "it does not say"


def test_letters_and_accents_that_are_composed(tmp_path):
    saved(tmp_path / "theirs", byte_tokenizer())
    theirs = changed(tmp_path / "theirs", lambda content: content.update(normalizer={"type": "NFC"}))
    assert "of 'cafe\u0301'" in compared(saved(tmp_path / "ours", byte_tokenizer()), theirs)


def test_further_tokens_are_no_difference_unless_the_data_use_them(tmp_path):
    more = byte_tokenizer()
    more.add_special_tokens({"additional_special_tokens": [AddedToken("<|tool|>", special=True)]})
    assert len(more) == len(byte_tokenizer()) + 1
    assert compared(saved(tmp_path / "fewer", byte_tokenizer()), more) is None
    assert "of '<|tool|>'" in compared(saved(tmp_path / "more", more), byte_tokenizer())
    padded = byte_tokenizer()
    padded.add_special_tokens({"pad_token": "<|fill|>"})
    assert compared(saved(tmp_path / "padded", padded), byte_tokenizer()) is None, "padding is never read"


def test_a_special_token_with_a_new_name_is_told_apart_from_another_text(tmp_path):
    ours, theirs = byte_tokenizer(), byte_tokenizer()
    ours.add_special_tokens({"additional_special_tokens": [AddedToken("<|tool|>", special=True)]})
    theirs.add_special_tokens({"additional_special_tokens": [AddedToken("<|reserved|>", special=True)]})
    mine = saved(tmp_path, ours)
    assert "'<|tool|>'" in compared(mine, theirs)
    encode = lambda text: theirs(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    assert difference(mine, encode, theirs.get_vocab(), special=False) is None
