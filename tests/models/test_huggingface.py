import json
import time
from pathlib import Path

import pytest
import torch

from kdlab.models import HuggingFaceClassifier
from kdlab.models.taps import Taps

transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # the variable is read when the library is imported, which may have happened already
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def original():
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    return transformers.ResNetForImageClassification(config).eval()


@pytest.fixture
def folder(original, tmp_path):
    original.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_a_saved_model_answers_with_its_logits(original, folder):
    x = torch.randn(2, 1, 16, 16)
    network = HuggingFaceClassifier(folder).eval()
    logits = network(x)
    assert isinstance(logits, torch.Tensor) and logits.shape == (2, 3)
    assert torch.equal(logits, original(pixel_values=x).logits)


def test_it_can_learn(folder):
    network = HuggingFaceClassifier(folder).train()
    network(torch.randn(4, 1, 16, 16)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_model_saved_in_half_precision_reads_ordinary_images(original, tmp_path):
    original.half().save_pretrained(tmp_path)
    assert HuggingFaceClassifier(str(tmp_path)).eval()(torch.randn(2, 1, 16, 16)).isfinite().all()


# the first is the example of the class's documentation; its module answers with a record of fields and not with a
# tensor
@pytest.mark.parametrize(
    "tap, shape",
    [
        ("network.resnet.encoder", (8, 2, 2)),
        ("network.resnet.embedder", (4, 4, 4)),
        ("network.resnet.encoder.stages.1", (8, 2, 2)),
    ],
)
def test_taps_are_tensors(folder, tap, shape):
    network = HuggingFaceClassifier(folder).eval()
    with Taps(network, [tap]) as features:
        network(torch.randn(2, 1, 16, 16))
    assert isinstance(features[tap], torch.Tensor) and features[tap].shape == (2, *shape)


@pytest.mark.parametrize("name", ["nobody/nothing", "no such name"])
def test_a_name_that_is_neither_is_refused_fast(name):
    began = time.perf_counter()
    with pytest.raises(ValueError, match=f"'{name}' is neither a folder.*nor"):
        HuggingFaceClassifier(name)
    assert time.perf_counter() - began < 5


# transformers 5.0 finds the name of a type in the folder's name
@pytest.mark.parametrize("name", ["nothing", "resnet"])
@pytest.mark.parametrize("config", [None, {}, {"num_labels": 3}])
def test_a_folder_without_the_type_of_its_model_is_refused(folder, name, config):
    named = Path(folder).rename(Path(folder).with_name(name))
    (named / "config.json").unlink()
    if config is not None:
        (named / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=f"{name}' has no config.json with a model_type; write it with save_pretrained"
    ):
        HuggingFaceClassifier(str(named))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path.name}' has no config.json"):
        HuggingFaceClassifier(str(tmp_path))


def test_truncated_weights_are_refused(folder, tmp_path):
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="model"):
        HuggingFaceClassifier(folder)
