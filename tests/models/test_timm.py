import sys

import pytest
import torch

from kdlab.models import timm_model
from kdlab.models.taps import Taps, own_taps

timm = pytest.importorskip("timm")


def features(network, shape):
    torch.manual_seed(0)
    with torch.no_grad(), Taps(network.eval(), own_taps(network)) as found:
        logits = network(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    return {name: tuple(feature.shape[1:]) for name, feature in found.items()}


@pytest.mark.parametrize(
    "model, stem, stages, embedding",
    [
        ("resnet18", (64, 32, 32), [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)], 512),
        ("regnetx_002", (32, 32, 32), [(24, 16, 16), (56, 8, 8), (152, 4, 4), (368, 2, 2)], 368),
        ("mobilenetv3_small_050", (16, 32, 32), [(8, 16, 16), (16, 8, 8), (24, 4, 4), (288, 2, 2)], 1024),
        ("densenet121", (64, 32, 32), [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (1024, 2, 2)], 1024),
        ("efficientnet_b0", None, [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)], 1280),
        ("convnext_atto", None, [(40, 16, 16), (80, 8, 8), (160, 4, 4), (320, 2, 2)], 320),
    ],
)
def test_the_stages_of_the_families(model, stem, stages, embedding):
    found = features(timm_model(model, classes=7), (3, 64, 64))
    assert found.pop("stem", None) == stem
    assert found == {
        **{f"stage{number}": shape for number, shape in enumerate(stages, start=1)},
        "embedding": (embedding,),
    }


def test_the_blocks_of_a_vit_and_an_option_of_the_model():
    found = features(timm_model("vit_tiny_patch16_224", classes=7, options={"img_size": 32}), (3, 32, 32))
    assert found.pop("embedding") == (192,)
    assert found == {f"stage{number}": (5, 192) for number in range(1, 13)}


def test_a_model_with_two_classifiers_has_no_embedding():
    assert "embedding" not in own_taps(timm_model("levit_128s", classes=7))


def test_it_is_the_librarys_own_module_and_reads_grey_images():
    network, own = (
        timm_model("resnet18", classes=7, channels=1),
        timm.create_model("resnet18", num_classes=7, in_chans=1),
    )
    assert type(network) is type(own) and list(network.state_dict()) == list(own.state_dict())
    assert network.eval()(torch.randn(2, 1, 28, 28)).shape == (2, 7)


@pytest.mark.parametrize("classes", [11, 7])
def test_pretrained_weights_keep_their_head_if_they_have_as_many_classes(tmp_path, classes):
    torch.manual_seed(1)
    weights = timm.create_model("resnet18", num_classes=11).state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    network = timm_model(
        "resnet18",
        classes,
        pretrained=True,
        options={"pretrained_cfg_overlay": {"file": str(tmp_path / "resnet18.pth"), "num_classes": 11}},
    )
    state = network.state_dict()
    assert torch.equal(state["layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"])
    assert state["fc.weight"].shape == (classes, 512)
    assert (classes == 11) == (
        state["fc.weight"].shape == weights["fc.weight"].shape and torch.equal(state["fc.weight"], weights["fc.weight"])
    )


def test_weights_that_cannot_be_fetched(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetch(*arguments, **options):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fetch)
    with pytest.raises(ValueError, match="'resnet18' are not available .no connection.*pretrained=false"):
        timm_model("resnet18", classes=7, pretrained=True)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"model": "resnet81"}, "did you mean 'resnet"),
        ({"model": "resnet18.nobodys", "pretrained": True}, "Invalid pretrained tag"),
    ],
)
def test_bad_arguments(given, words):
    with pytest.raises(ValueError, match=words):
        timm_model(classes=7, **given)


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"needs timm.*pip install timm"):
        timm_model("resnet18", classes=7)
