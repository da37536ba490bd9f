import json
from pathlib import Path

import pytest
import torch
from torch import nn

from kdlab.errors import InputError
from kdlab.models import TextEncoder
from kdlab.models.hub import model_content
from kdlab.models.taps import Taps

transformers = pytest.importorskip("transformers")
ARCHITECTURES = ("bert", "distilbert", "roberta", "modernbert")
SIZES = {"layers": 3, "width": 16, "heads": 4, "intermediate": 20, "vocabulary": 40, "positions": 12}
IDS = torch.tensor([[2, 5, 7, 9, 3], [2, 8, 3, 0, 0], [2, 6, 4, 3, 0]])
MASK = (IDS != 0).long()
INPUTS = {"input_ids": IDS, "attention_mask": MASK}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # the variable is read when the library is imported, which may have happened already
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def new(architecture="bert", seed=0, **options):
    torch.manual_seed(seed)
    return TextEncoder(architecture=architecture, **{"classes": 3, **SIZES, **options}).eval()


@pytest.fixture
def folder(tmp_path):
    new().network.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "head, shape",
    [("classification", (3, 3)), ("tokens", (3, 5, 3)), ("masked_lm", (3, 5, 40)), ("embedding", (3, 16))],
)
def test_each_head_has_its_output_and_padding_changes_nothing(architecture, head, shape):
    network = new(architecture, head=head, **({"classes": None} if head == "embedding" else {}))
    out = network(**INPUTS, token_type_ids=torch.ones_like(IDS))
    assert out.shape == shape
    longer = {name: nn.functional.pad(value, (0, 2)) for name, value in INPUTS.items()}
    again = network(**longer, token_type_ids=torch.ones(3, 7, dtype=torch.long))
    counts = MASK.bool() if out.dim() == 3 else torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(again[:, :5][counts] if out.dim() == 3 else again, out[counts], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_taps_are_the_models_own_hidden_states_and_attentions(architecture):
    network = new(architecture)
    names = [*(f"hidden{i}" for i in range(4)), *(f"{part}{i}" for part in ("attention", "query") for i in (1, 2, 3))]
    assert set(names) <= set(network.taps)
    with Taps(network, names) as features:
        network(**INPUTS)
    assert network.config._attn_implementation == "eager" and len(network.tap_notes) == 1 + (
        architecture == "modernbert"
    )
    own = network.network(**INPUTS, output_hidden_states=True, output_attentions=True)
    for number, state in enumerate(own.hidden_states):
        assert torch.equal(features[f"hidden{number}"], state), number
    for number, attention in enumerate(own.attentions, start=1):
        assert attention.shape == (3, 4, 5, 5)
        assert torch.equal(features[f"attention{number}"], attention), number
        assert features[f"query{number}"].shape == (3, 5, 16)


@pytest.mark.parametrize("architecture", ("bert", "distilbert", "roberta"))
def test_queries_keys_and_values_compute_the_attention(architecture):
    network = new(architecture)
    with Taps(network, ["query2", "key2", "attention2"]) as features:
        network(**INPUTS)
    query, key = (features[name].view(3, 5, 4, 4).transpose(1, 2) for name in ("query2", "key2"))
    scores = (query @ key.mT / 2).masked_fill(MASK[:, None, None] == 0, -torch.inf)
    torch.testing.assert_close(scores.softmax(-1), features["attention2"])


def test_the_parts_of_modernberts_fused_projection():
    network = new("modernbert")
    with Taps(network, ["query2", "key2", "value2", "hidden1"]) as features:
        network(**INPUTS)
    layer = network.network.model.layers[1]
    fused = layer.attn.Wqkv(layer.attn_norm(features["hidden1"])).view(3, 5, 3, 16)
    for place, name in enumerate(("query2", "key2", "value2")):
        torch.testing.assert_close(features[name], fused[:, :, place])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pooled_and_embedding(architecture):
    network = new(architecture)
    with Taps(network, ["pooled", "embedding"]) as features:
        logits = network(**INPUTS)
    assert features["pooled"].shape == (3, 16)
    torch.testing.assert_close(features["pooled"], features["embedding"])  # dropout is off
    classifier = network.network.classifier
    torch.testing.assert_close(getattr(classifier, "out_proj", classifier)(features["embedding"]), logits)
    for head, shape in (("tokens", (3, 5, 16)), ("masked_lm", (3, 5, 16))):
        other = new(architecture, head=head)
        with Taps(other, ["embedding"]) as features:
            other(**INPUTS)
        assert features["embedding"].shape == shape


def test_vectors_are_means_over_the_mask_and_may_be_normalised():
    plain, scaled = (new(head="embedding", classes=None, normalise=normalise) for normalise in (False, True))
    states = plain.network(**INPUTS).last_hidden_state
    expected = torch.stack([states[i, : int(n)].mean(0) for i, n in enumerate(MASK.sum(1))])
    torch.testing.assert_close(plain(**INPUTS), expected)
    with Taps(scaled, ["pooled", "embedding", "hidden3"]) as features:
        vectors = scaled(**INPUTS)
    torch.testing.assert_close(features["pooled"], expected)
    assert torch.equal(features["embedding"], vectors) and torch.equal(features["hidden3"], states)
    torch.testing.assert_close(vectors, expected / expected.norm(dim=1, keepdim=True))
    assert torch.equal(new(head="embedding", classes=None, pooling="cls")(**INPUTS), states[:, 0])


def test_every_parameter_of_a_new_encoder_learns():
    for head in ("classification", "tokens", "masked_lm", "embedding"):
        network = new(head=head).train()
        network(**INPUTS).square().sum().backward()
        assert [name for name, value in network.named_parameters() if value.grad is None] == []


def test_eager_attention_is_chosen_only_where_a_tap_needs_it():
    network = new()
    for taps, used in ((["hidden1", "query1"], "sdpa"), (["attention1"], "eager")):
        Taps(network, taps)
        assert network.config._attn_implementation == used
    assert "eager" in network.tap_notes[0]


def test_roberta_counts_positions_by_the_mask():
    """Its padding token here is 1, as of its tokenizers; transformers finds the same positions by the token."""
    network = new("roberta", padding=1)
    ids = IDS.masked_fill(IDS == 0, 1)
    own = network.network(input_ids=ids, attention_mask=MASK).logits
    assert torch.equal(network(input_ids=ids, attention_mask=MASK), own)
    assert network.positions == 12 and new("bert").positions == 12


# -- pretrained ------------------------------------------------------------------------------------------------------


def test_a_saved_classifier_answers_with_its_logits(folder):
    network = TextEncoder(pretrained=str(folder)).eval()
    assert torch.equal(network(**INPUTS), new()(**INPUTS))
    assert network.pretrained_weights == {"classes": 3, "unfilled": []} and network.class_names is None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_of_other_classes_or_of_another_task_is_new(architecture, tmp_path):
    new(architecture, head="masked_lm").network.save_pretrained(tmp_path)
    for head, classes in (("classification", 4), ("tokens", 5)):
        network = TextEncoder(pretrained=str(tmp_path), head=head, classes=classes)
        assert network(**INPUTS).shape[-1] == classes
        assert network.pretrained_weights["classes"] is None and network.pretrained_weights["unfilled"]
    assert TextEncoder(pretrained=str(tmp_path), head="masked_lm").pretrained_weights["unfilled"] == []
    assert TextEncoder(pretrained=str(tmp_path), head="embedding").pretrained_weights["unfilled"] == []


def test_a_body_without_a_head_becomes_a_classifier(tmp_path):
    body = new(head="embedding")
    body.network.save_pretrained(tmp_path)
    network = TextEncoder(pretrained=str(tmp_path), classes=3).eval()
    assert {name.split(".")[-3] for name in network.pretrained_weights["unfilled"]} == {"pooler", "network"}
    with Taps(network, ["hidden3"]) as features:
        network(**INPUTS)
    assert torch.equal(features["hidden3"], body.network(**INPUTS).last_hidden_state)


def test_other_classes(folder):
    network = TextEncoder(pretrained=str(folder), classes=1)
    assert network(**INPUTS).shape == (3, 1)
    assert network.pretrained_weights == {
        "classes": 3,
        "unfilled": ["network.classifier.bias", "network.classifier.weight"],
    }


def test_names_of_classes(tmp_path):
    encoder = new()
    encoder.config.id2label = {0: "neg", 1: "neutral", 2: "pos"}
    encoder.network.save_pretrained(tmp_path)
    assert TextEncoder(pretrained=str(tmp_path)).class_names == ["neg", "neutral", "pos"]


def pickled(folder):
    state = transformers.BertForSequenceClassification.from_pretrained(folder).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_a_folder_is_its_config_weights_and_code(folder, tmp_path):
    """What else is in it does not make it another model; a copy in another folder is the same."""
    before = model_content(folder)
    (folder / "README.md").write_text("a card")
    (folder / "tokenizer.json").write_text("{}")
    assert model_content(folder) == before == model_content(folder.rename(tmp_path / "other"))
    folder = tmp_path / "other"
    (folder / "modeling_own.py").write_text("")
    with_code = model_content(folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert len({before, with_code, model_content(folder)}) == 3


def test_pickles_are_loaded_where_they_are_allowed(folder):
    pickled(folder)
    network = TextEncoder(pretrained=str(folder), allow_pickle=True).eval()
    assert torch.equal(network(**INPUTS), new()(**INPUTS))


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def truncated(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def header_cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def shard_missing(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00001.safetensors"}}))


def broken_config(folder):
    (folder / "config.json").write_text('{"model_type": "bert"')


def remote_code(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "own", "auto_map": {"AutoConfig": "own.Config"}})
    )


def image_model(folder):
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic")
    transformers.ResNetForImageClassification(config).save_pretrained(folder)


def other_sizes(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (no_weights, "has a config.json and no weights.*half written"),
        (truncated, "are damaged.*fetch them again"),
        (header_cut, "are damaged.*fetch them again"),
        (shard_missing, "lacks model-00001.safetensors"),
        (broken_config, "config.json' cannot be read"),
        (pickled, "only in pytorch_model.bin.*allow_pickle=true"),
        (remote_code, "trust_remote_code=true"),
        (image_model, "type resnet .*no text encoder.*student=huggingface"),
        (other_sizes, "do not fill network.bert.encoder.layer.3"),
    ],
)
def test_damaged_folders_name_fault_and_cure(spoil, message, folder):
    spoil(folder)
    with pytest.raises(ValueError, match=message) as caught:
        TextEncoder(pretrained=str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nobody/nothing", "no such name"])
def test_a_name_that_is_neither_folder_nor_reachable(name):
    with pytest.raises(ValueError, match=f"'{name}' is neither a folder.*nor reachable"):
        TextEncoder(pretrained=name)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"architecture": "brt"}, "architecture must be one of.*did you mean 'bert'"),
        ({"architecture": None}, "give either pretrained"),
        ({"pretrained": "x"}, "give either pretrained"),
        ({"head": "sequence"}, "head must be one of"),
        ({"pooling": "max"}, "pooling must be one of"),
        ({"vocabulary": None}, "vocabulary: a new encoder needs"),
        ({"layers": 0}, "layers must be a whole number"),
        ({"heads": 3}, "heads must divide width"),
        ({"padding": 40}, "padding must be a token"),
        ({"options": {"hidden_size": 3}}, "options.hidden_size"),
        ({"options": {"hiden_act": "relu"}}, "options.hiden_act.*did you mean 'hidden_act'"),
    ],
)
def test_bad_arguments_name_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(**{"architecture": "bert", "classes": 3, **SIZES, **options})


def test_sizes_of_a_pretrained_encoder_are_its_own(folder):
    with pytest.raises(ValueError, match="layers: a pretrained encoder has its own sizes"):
        TextEncoder(pretrained=str(folder), layers=2)


def test_options_reach_the_config():
    assert new(options={"hidden_act": "relu"}).config.hidden_act == "relu"


def test_tokens_of_another_tokenizer_are_refused():
    with pytest.raises(ValueError, match="have the token 40, and the model's vocabulary has 40"):
        new()(input_ids=torch.tensor([[2, 40]]))
    with pytest.raises(ValueError, match="padding has the token 1 .* set padding=1"):
        new()(input_ids=torch.tensor([[2, 3, 1]]), attention_mask=torch.tensor([[1, 1, 0]]))
    with pytest.raises(ValueError, match="13 tokens, and the model has positions for 12; set data.length=12"):
        new()(input_ids=torch.ones(1, 13, dtype=torch.long))


# -- parts of outputs as taps ----------------------------------------------------------------------------------------


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.both = nn.Linear(2, 6)
        self.pair = Both()

    def forward(self, x):
        first, second = self.pair(self.both(x))
        return first + second


class Both(nn.Module):
    def forward(self, x):
        return x[..., :3], x[..., 3:]


def test_items_and_ranges_of_outputs():
    network, x = Pair(), torch.randn(4, 2)
    whole = network.both(x)
    with Taps(network, ["second", "middle", "pair[0]"], {"second": "pair[1]", "middle": "both[2:4]"}) as features:
        network(x).sum().backward()
    assert torch.equal(features["second"], whole[:, 3:]) and torch.equal(features["middle"], whole[:, 2:4])
    assert torch.equal(features["pair[0]"], whole[:, :3])


@pytest.mark.parametrize(
    "path, message",
    [("pair[2]", "Both returns no item 2"), ("both[1]", "Linear returns one tensor"), ("both[4:9]", "range 4:9")],
)
def test_parts_that_do_not_exist(path, message):
    network = Pair()
    with pytest.raises(InputError, match=message), Taps(network, [path]):
        network(torch.randn(4, 2))


def test_a_folder_counts_by_its_content(folder, tmp_path):
    from kdlab.runs.identity import _described

    node = {"_target_": "kdlab.models.TextEncoder", "pretrained": str(folder)}
    other = Path(folder).rename(tmp_path / "elsewhere")
    assert _described({**node, "pretrained": str(other)}) == _described({**node, "pretrained": str(other)})
    assert str(other) not in json.dumps(_described({**node, "pretrained": str(other)}))
