"""Models in GGUF files: the logits and tokens of the folder, and what is refused."""

import json
import sys

import pytest
import torch

import kdlab
from kdlab.data.text.tokenizers import Tokenizer, same_tokenizer
from kdlab.errors import InputError
from kdlab.models import CausalModel
from kdlab.models.gguf import ARCHITECTURES, SPLITS, read_header
from kdlab.models.hub import model_content
from tests.models.gguf_files import TEXTS, byte_tokenizer, write_gguf

pytest.importorskip("gguf")
IDS = torch.arange(24).view(2, 12) * 7 % 320


def small(architecture="llama", **options):
    torch.manual_seed(0)
    key_value_heads = None if architecture == "gpt2" else 1
    if architecture != "gpt2":  # others than the defaults of transformers: what the file says counts
        rope = {"rope_type": "default", "rope_theta": 1e6}
        options = {"options": {"rope_parameters": rope, "rms_norm_eps": 1e-5}, **options}
    sizes = {"vocabulary": 320, "layers": 2, "width": 32, "heads": 2, "positions": 48, **options}
    return CausalModel(architecture=architecture, key_value_heads=key_value_heads, **sizes).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("kind", "tolerance"), [("F32", 1e-6), ("F16", 2e-3), ("Q8_0", 3e-2)])
@torch.no_grad()
def test_the_logits_are_those_of_the_folder(architecture, kind, tolerance, tmp_path):
    model = small(architecture)
    found = CausalModel(pretrained=write_gguf(tmp_path / "m.gguf", model.network, kind=kind)).eval()
    assert found.positions == 48 and found.vocabulary == 320
    logits = model(IDS)
    torch.testing.assert_close(found(IDS), logits, rtol=0, atol=tolerance * logits.abs().max().item())
    assert all(one.dtype == torch.float32 and one.requires_grad for one in found.parameters())


def test_a_model_of_a_file_is_trained_cut_and_saved_like_any_other(tmp_path):
    file = write_gguf(tmp_path / "m.gguf", small(layers=3, tied=False).network)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"repetition_penalty": 9.0}))
    cut = CausalModel(pretrained=file, keep_layers=[1, 3])
    assert cut.network.generation_config.repetition_penalty != 9.0, "a file beside it is none of its own"
    with torch.no_grad():
        before = cut.eval()(IDS)
    cut.train()(IDS).square().mean().backward()
    assert all(one.grad is not None for one in cut.parameters())
    cut.network.save_pretrained(str(tmp_path / "saved"))
    again = CausalModel(pretrained=str(tmp_path / "saved")).eval()
    assert torch.equal(again(IDS), before) and again.config.num_hidden_layers == 2


@pytest.mark.parametrize("split", SPLITS)
def test_the_tokens_are_those_of_the_folder(split, tmp_path):
    tokenizer = byte_tokenizer(split)
    file = write_gguf(tmp_path / "m.gguf", small().network, tokenizer, split)
    found = Tokenizer("data.tokenizer", file).unpadded
    texts = [*TEXTS, "1234567 x", "I'LL  go\n", "<|user|>hi<|end|>", " 7 é\t", "cafe\u0301", "a zzq zzq"]
    assert found(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert found.eos_token_id == tokenizer.eos_token_id and found.chat_template == tokenizer.chat_template
    assert len(found) == len(tokenizer)
    assert found.bos_token == tokenizer.bos_token == ("<|begin|>" if split == "llama-bpe" else None)
    with pytest.raises(InputError, match=r"the tokenizer has no pad token.*data.pad_token=\"<\|"):
        _ = Tokenizer("data.tokenizer", file).loaded
    assert Tokenizer("data.tokenizer", file, pad_token="<|end|>").loaded.pad_token_id == tokenizer.eos_token_id


def test_the_identity_is_that_of_the_content(tmp_path):
    network, tokenizer = small().network, byte_tokenizer()
    one = write_gguf(tmp_path / "one.gguf", network, tokenizer)
    other = write_gguf(tmp_path / "other.gguf", network, tokenizer, kind="F16")
    digits = write_gguf(tmp_path / "digits.gguf", network, tokenizer, split="smollm")
    assert same_tokenizer({"tokenizer": one}, {"tokenizer": other})
    assert not same_tokenizer({"tokenizer": one}, {"tokenizer": digits})
    assert len({model_content(tmp_path / f"{name}.gguf") for name in ("one", "other", "digits")}) == 3

    from kdlab.runs.identity import _described

    node = {"_target_": "kdlab.models.CausalModel", "pretrained": one}
    assert _described(node)["pretrained"] == model_content(tmp_path / "one.gguf")


def test_the_header_is_that_of_the_package(tmp_path):
    from gguf import GGUFReader

    file = write_gguf(tmp_path / "m.gguf", small().network, byte_tokenizer())
    header, reader = read_header(file), GGUFReader(file)
    assert set(header.fields) == {key for key in reader.fields if not key.startswith("GGUF.")}
    assert {one.name: (header.begin + header.tensors[one.name][2]) for one in reader.tensors} == {
        one.name: one.data_offset for one in reader.tensors
    }
    assert header.of_model("rope.freq_base") == pytest.approx(1e6) and header.fields["general.license"] == "mit"


def test_what_is_refused(tmp_path, monkeypatch):
    network, tokenizer = small().network, byte_tokenizer()
    file = write_gguf(tmp_path / "m.gguf", network, tokenizer)

    def refused(name, words):
        with pytest.raises(ValueError, match=words):
            CausalModel(pretrained=str(tmp_path / name))

    refused("n.gguf", r"there is no file .*n.gguf; did you mean '.*m.gguf'")
    (tmp_path / "text.gguf").write_text("hello")
    refused("text.gguf", "is no GGUF file")
    content = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "short.gguf").write_bytes(content[:-5000])
    refused("short.gguf", "is damaged: it ends before the weights of .*; fetch it again")
    (tmp_path / "shorter.gguf").write_bytes(content[:900])
    refused("shorter.gguf", "is damaged: its header cannot be read")
    write_gguf(tmp_path / "bloom.gguf", network, architecture="bloom")
    refused("bloom.gguf", "architecture 'bloom'; GGUF files are supported for llama, qwen2, qwen3, gpt2")
    write_gguf(tmp_path / "long.gguf", network, fields=[("llama.rope.scaling.type", "yarn")])
    refused("long.gguf", r"scales its rotary positions \(yarn\)")

    def tokenizer_refused(words, **options):
        path = write_gguf(tmp_path / "t.gguf", network, **options)
        with pytest.raises(InputError, match=f"data.tokenizer=.*t.gguf: {words}.*data.tokenizer=FOLDER"):
            _ = Tokenizer("data.tokenizer", path).unpadded

    tokenizer_refused("the file holds no tokenizer")
    tokenizer_refused("how its tokenizer splits text is named 'default'", tokenizer=tokenizer, split="default")

    monkeypatch.setitem(sys.modules, "gguf", None)
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "gguf" else there(name, *more))
    refused("m.gguf", r"needs the package gguf: pip install 'kdlab\[gguf\]'")
    assert Tokenizer("data.tokenizer", file).unpadded("a cat")["input_ids"] == tokenizer("a cat")["input_ids"]


def test_a_run_learns_from_a_file_as_from_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer, student = byte_tokenizer(pad=True), small()
    file = write_gguf(tmp_path / "student.gguf", student.network, tokenizer)
    student.network.save_pretrained(str(tmp_path / "student"))
    tokenizer.save_pretrained(str(tmp_path / "student"))
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 3))
    common = [
        *("task=causal_lm", "data=causal_text", "data.train=texts.jsonl", f"data.vocabulary={len(tokenizer)}"),
        *("data.length=24", "data.batch_size=4", "student=causal", "strategy=supervised"),
        *("trainer.max_epochs=1", "progress=none"),
    ]
    runs = [kdlab.train([*common, f"data.tokenizer={one}", f"student.pretrained={one}"]) for one in (file, "student")]
    for key in ("train/loss", "test/nll"):
        assert runs[0].metrics[key] == pytest.approx(runs[1].metrics[key], rel=1e-4)
