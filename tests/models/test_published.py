"""The table of published models: their numbers of parameters, and models of these sizes without values."""

import json

import pytest
import torch

from kdlab.models.published import TABLE, planned, published, sizes_of

MODELS = [one["names"][0] for one in json.loads(TABLE.read_text(encoding="utf-8"))["models"]]


@pytest.mark.parametrize("name", MODELS)
def test_the_sizes_give_the_published_number_of_parameters(name):
    model = planned(pretrained=name)
    assert sum(one.numel() for one in model.parameters()) == pytest.approx(published()[name].parameters, rel=1e-9)
    assert all(one.is_meta for one in model.parameters())


def test_a_planned_model_is_cut_and_adapted_like_any_other():
    whole = planned(pretrained="HuggingFaceTB/SmolLM2-135M-Instruct")
    cut = planned(pretrained="HuggingFaceTB/SmolLM2-135M-Instruct", keep_layers=10, vocabulary=49000)
    assert cut.config.num_hidden_layers == 10 and cut.vocabulary == 49000
    # a layer: queries and outputs, keys and values, three matrices of the feed-forward layer, two norms
    layer = 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576
    numbers = [sum(one.numel() for one in model.parameters()) for model in (whole, cut)]
    assert numbers == [134_515_008, 134_515_008 - 20 * layer]
    adapted = planned(pretrained="HuggingFaceTB/SmolLM2-135M", lora={"rank": 8})
    trained = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
    assert trained == 30 * 8 * ((576 + 576) + (576 + 192)), "adapters of queries and of values"
    new = planned(architecture="llama", vocabulary=100, layers=2, width=64, heads=4)
    assert all(one.device == torch.device("meta") for one in new.parameters())


def test_sizes_of_a_folder_are_read_and_others_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 64, "n_layer": 3, "n_head": 2}))
    assert sizes_of(str(tmp_path)).num_hidden_layers == 3
    assert planned(pretrained=str(tmp_path)).config.hidden_size == 64, "no weights are read"
    with pytest.raises(ValueError, match=r"'Qwen/Qwen2.5-8B' are not known without a download; did you mean 'Qwen/Q"):
        sizes_of("Qwen/Qwen2.5-8B")


def test_no_name_is_in_the_table_twice():
    names = [name for one in json.loads(TABLE.read_text(encoding="utf-8"))["models"] for name in one["names"]]
    assert len(names) == len(set(names)) and {one.fields["model_type"] for one in published().values()} >= {
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma2",
        "gpt2",
        "phi3",
    }
