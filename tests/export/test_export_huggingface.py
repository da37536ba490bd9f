"""A student of transformers that was trained here loads there, and answers the same."""

import json

import pytest
import torch

import kdlab as package
from kdlab.errors import RunFailed
from kdlab.export import huggingface, to_huggingface
from kdlab.export.card import card
from kdlab.models.text import Normalise, Pooling
from tests.data.text.tiny_tokenizer import tokenizer_folder

MLP = ["strategy=supervised", "trainer.max_epochs=1", "progress=none"]


@pytest.fixture
def images(workplace):
    """A run whose student is a tiny ResNet of transformers."""
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=10
    )
    torch.manual_seed(0)
    ResNetForImageClassification(config).save_pretrained("tiny")
    return package.train([*MLP, "student=huggingface", "student.model=tiny"])


def test_a_student_loads_in_transformers(kdlab, images):
    from transformers import AutoModelForImageClassification

    code, out, err = kdlab("export", str(images.path), "--to", "hf")
    folder = images.path / "hf"
    assert (code, err) == (0, "") and out.startswith(f"{folder}: ResNetForImageClassification; loaded again")
    x = torch.randn(3, 1, 8, 8)
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    assert torch.equal(model(x).logits, images.student(x))
    card = (folder / "README.md").read_text()
    assert f"`{images.path.name}`" in card and f"{images.metrics['test/accuracy']:.4f}" in card
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["ResNetForImageClassification"]
    code, _, err = kdlab("export", str(images.path), "--to", "hf")
    assert code == 2 and "exists and is not empty" in err
    assert kdlab("export", str(images.path), "--to", "hf", "--which", "best", "--folder", "elsewhere")[0] == 0


def test_no_bars_are_printed_where_no_model_was_loaded_before(images, capsys, tmp_path, monkeypatch):
    from transformers.utils.logging import enable_progress_bar

    student = images.student  # loading it turns the bars off
    monkeypatch.setattr(type(images), "network", lambda run, which: student)
    enable_progress_bar()
    capsys.readouterr()
    to_huggingface(images, tmp_path / "hf")
    assert capsys.readouterr().err == ""


def test_a_model_that_answers_differently_is_not_kept(images, monkeypatch, tmp_path):
    inputs = huggingface._inputs

    def other(model, data, vocabulary):
        with torch.no_grad():
            model.classifier[1].bias += 1  # after it was written
        return inputs(model, data, vocabulary)

    monkeypatch.setattr(huggingface, "_inputs", other)
    with pytest.raises(RunFailed, match="answers differently from the student, by 1"):
        to_huggingface(images, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_another_student_is_refused(kdlab, workplace):
    run = package.train(MLP)
    code, _, err = kdlab("export", str(run.path), "--to", "hf")
    assert code == 2 and "is MLP, which is no model of transformers" in err


def test_names_of_other_classes_are_not_kept(images):
    """Pretrained weights bring names along, and the student learned the classes of its data, which have numbers."""
    from transformers import ResNetForImageClassification

    model = ResNetForImageClassification.from_pretrained("tiny")
    model.config.id2label = dict(enumerate("abcdefghij"))
    huggingface._name_classes(model, images.config)
    assert model.config.id2label[9] == "LABEL_9" and model.config.label2id == {f"LABEL_{n}": n for n in range(10)}


def test_the_tokenizer_is_the_one_that_the_run_read(tmp_path, monkeypatch):
    """Its own revision, not that of the data set, and the pad token of the data."""
    from kdlab.data.text.tokenizers import Tokenizer

    folder = tokenizer_folder(tmp_path / "unpadded", pad=False)
    assert huggingface._tokenizer({"tokenizer": folder, "pad_token": "[SEP]"}).pad_token == "[SEP]"
    monkeypatch.setattr(Tokenizer, "loaded", property(lambda self: self.revision))
    assert huggingface._tokenizer({"tokenizer": "some/words", "revision": "data", "tokenizer_revision": "v1"}) == "v1"


def test_the_card_says_how_a_vector_is_made(images):
    network = torch.nn.Module()
    network.pooling, network.scaling = Pooling("mean"), Normalise()
    assert "the mean of the last hidden states over the mask, divided by its length.\n" in card(
        images, "last", network, "BertModel"
    )
