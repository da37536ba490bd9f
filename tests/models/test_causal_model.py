"""Causal language models: taps, the lazy head, padding, packed rows, and what is refused."""

import pytest
import torch

from kdlab.models import CausalModel
from kdlab.models.causal import NEW
from kdlab.models.taps import Taps
from kdlab.outputs import LazyLogits

SIZES = {"vocabulary": 40, "layers": 2, "width": 32, "heads": 4, "positions": 64}
IDS = torch.arange(14).view(2, 7) * 5 % 40


def small(architecture="llama", **options):
    torch.manual_seed(0)
    return CausalModel(architecture=architecture, **{**SIZES, **options}).eval()


@pytest.mark.parametrize("architecture", NEW)
def test_taps_are_what_transformers_calls_them(architecture):
    model = small(architecture, key_value_heads=None if architecture == "gpt2" else 2)
    with Taps(model, list(model.taps)) as features:
        logits = model(IDS)
    own = model.network(input_ids=IDS, output_hidden_states=True, output_attentions=True)
    assert logits.shape == (2, 7, 40)
    for number in range(3):
        torch.testing.assert_close(features[f"hidden{number}"], own.hidden_states[number], rtol=1e-5, atol=1e-5)
    for number in range(2):
        torch.testing.assert_close(features[f"attention{number + 1}"], own.attentions[number], rtol=1e-5, atol=1e-5)
    assert features["query1"].shape == (2, 7, 32)
    assert features["value1"].shape == (2, 7, 32 if architecture == "gpt2" else 16)


@pytest.mark.parametrize("architecture", NEW)
def test_lazy_logits_padding_and_packed_rows(architecture):
    model = small(architecture)
    logits = model(IDS)
    with model.lazily():
        lazy = model(IDS)
    assert isinstance(lazy, LazyLogits) and lazy.hidden.shape == (2, 7, 32)
    torch.testing.assert_close(lazy.dense(), logits, rtol=1e-5, atol=1e-5)
    assert isinstance(model(IDS), torch.Tensor), "outside of the context it answers with logits"
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0], [1] * 7])
    torch.testing.assert_close(model(IDS, mask)[0, :4], model(IDS[:1, :4])[0], rtol=1e-5, atol=1e-5)
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2]] * 2)
    both = model(IDS, position_ids=places)
    torch.testing.assert_close(both[:, :4], model(IDS[:, :4]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both[:, 4:], model(IDS[:, 4:]), rtol=1e-5, atol=1e-5)


def test_a_capped_head_is_capped_when_it_is_lazy():
    model = small("gemma2", options={"final_logit_softcapping": 0.05})
    with model.lazily():
        lazy = model(IDS)
    assert isinstance(lazy, LazyLogits) and lazy.dense().abs().max() <= 0.05
    torch.testing.assert_close(lazy.dense(), model(IDS), rtol=1e-5, atol=1e-6)


def test_a_head_that_is_more_than_kdlab_knows_is_not_lazy():
    model = small()
    assert model._head_is_known()
    hooked = model.network.lm_head.register_forward_hook(lambda module, inputs, output: output)
    hooked.remove()
    model.network.config.logits_scaling = 3.0  # which this architecture does not apply
    assert not model._head_is_known()


def test_columns_beyond_the_tokenizer_are_left_out(tmp_path):
    model = small(vocabulary=40)
    model.network.save_pretrained(str(tmp_path))
    fewer = CausalModel(pretrained=str(tmp_path), vocabulary=36).eval()
    assert fewer(IDS % 36).shape == (2, 7, 36)
    torch.testing.assert_close(fewer(IDS % 36), model(IDS % 36)[..., :36])
    with pytest.raises(ValueError, match="vocabulary=41: the model has only 40 tokens"):
        CausalModel(pretrained=str(tmp_path), vocabulary=41)
    with pytest.raises(ValueError, match="the data have the token 39, and the model's vocabulary has 36"):
        CausalModel(pretrained=str(tmp_path), vocabulary=36)(IDS.clamp(min=39))


@pytest.mark.parametrize("architecture", NEW)
def test_a_new_model_names_no_tokens_of_another_tokenizer(architecture):
    model = small(architecture)
    for config in (model.config, model.network.generation_config):
        assert config.eos_token_id is config.bos_token_id is config.pad_token_id is None
    embeddings = model.network.get_input_embeddings()
    embeddings(torch.tensor([[0]])).sum().backward()
    assert embeddings.weight.grad[0].abs().min() > 0, "the token 0 is a token like any other"


def test_gradient_checkpointing_and_adapters_change_no_gradient():
    plain, spared = small(), small(gradient_checkpointing=True)
    for model in (plain, spared):
        model.train()
        model(IDS).float().pow(2).mean().backward()
    for one, other in zip(plain.parameters(), spared.parameters()):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7)
    adapted = small(lora={"rank": 2})
    assert {name.split(".")[-3] for name, one in adapted.named_parameters() if one.requires_grad} <= {
        "lora_A",
        "lora_B",
    }
    torch.testing.assert_close(adapted(IDS), plain.eval()(IDS))


@pytest.mark.parametrize("architecture", NEW)
def test_kept_layers_are_those_of_the_pretrained_model(architecture, tmp_path):
    model = small(architecture, layers=4)
    model.network.save_pretrained(str(tmp_path / "whole"))
    cut = CausalModel(pretrained=str(tmp_path / "whole"), keep_layers=[1, 3]).eval()
    with Taps(model, ["hidden1"]) as whole:
        model(IDS)
    with Taps(cut, ["hidden1"]) as kept:
        logits = cut(IDS)
    torch.testing.assert_close(kept["hidden1"], whole["hidden1"], rtol=1e-5, atol=1e-5)
    cut.network.save_pretrained(str(tmp_path / "cut"))
    again = CausalModel(pretrained=str(tmp_path / "cut")).eval()
    torch.testing.assert_close(again(IDS), logits)
    assert again.config.num_hidden_layers == 2
    written = cut.network.generate(IDS[:1, :3], max_new_tokens=4, do_sample=False)
    plain = cut.network.generate(IDS[:1, :3], max_new_tokens=4, do_sample=False, use_cache=False)
    assert written.tolist() == plain.tolist(), "keys and values are kept at the places of the layers"
    for wrong, words in (([1, 5], "numbers from 1 to 4"), (5, "must be from 1 to 4"), ([2, 2], "must differ")):
        with pytest.raises(ValueError, match=words):
            CausalModel(pretrained=str(tmp_path / "whole"), keep_layers=wrong)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"architecture": "lama"}, "architecture must be one of .* did you mean 'llama'"),
        ({"layers": None}, "layers: a new model needs layers, width, heads, vocabulary"),
        ({"heads": 5}, "heads must divide width"),
        ({"key_value_heads": 3}, "key_value_heads must divide heads"),
        ({"architecture": "gpt2", "key_value_heads": 2}, "every head of gpt2 has keys and values of its own"),
        ({"width": 36, "heads": 4}, "llama needs an even width of a head"),
        ({"attention": "flash"}, "attention must be one of sdpa, eager"),
        ({"options": {"hidden_size": 3}}, "options.hidden_size: kdlab has an argument of its own"),
        ({"options": {"rope": 3}}, "options.rope: LlamaConfig has no such field"),
        ({"pretrained": "x"}, "give either pretrained"),
        ({"keep_layers": 1}, "keep_layers is for a pretrained model"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        CausalModel(**{"architecture": "llama", **SIZES, **options})


def test_an_encoder_is_refused(tmp_path):
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ).save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="model of type bert .* no causal language model such as llama"):
        CausalModel(pretrained=str(tmp_path))
    with pytest.raises(ValueError, match="pretrained model has its own sizes"):
        CausalModel(pretrained=str(tmp_path), layers=2)
