import sys
import urllib.error

import pytest
import torch

from kdlab.config.build import build
from kdlab.errors import InputError
from kdlab.models import torchvision_model
from kdlab.models.taps import Taps, own_taps

library = pytest.importorskip("torchvision.models")


def features(network, shape):
    torch.manual_seed(0)
    with torch.no_grad(), Taps(network.eval(), own_taps(network)) as found:
        logits = network(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    return {name: tuple(feature.shape[1:]) for name, feature in found.items()}


@pytest.mark.parametrize(
    "model, stages, embedding",
    [
        ("resnet18", [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)], 512),
        ("resnext50_32x4d", [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)], 2048),
        ("regnet_x_400mf", [(32, 16, 16), (64, 8, 8), (160, 4, 4), (400, 2, 2)], 400),
        ("densenet121", [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (1024, 2, 2)], 1024),
        ("mobilenet_v2", [(16, 32, 32), (24, 16, 16), (32, 8, 8), (96, 4, 4), (320, 2, 2)], 1280),
        ("mobilenet_v3_small", [(16, 32, 32), (16, 16, 16), (24, 8, 8), (48, 4, 4), (96, 2, 2)], 1024),
        ("efficientnet_b0", [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)], 1280),
        ("convnext_tiny", [(96, 16, 16), (192, 8, 8), (384, 4, 4), (768, 2, 2)], 768),
        ("swin_t", [(16, 16, 96), (8, 8, 192), (4, 4, 384), (2, 2, 768)], 768),
    ],
)
def test_the_stages_of_the_families(model, stages, embedding):
    found = features(torchvision_model(model, classes=7), (3, 64, 64))
    assert found == {
        **{f"stage{number}": shape for number, shape in enumerate(stages, start=1)},
        "embedding": (embedding,),
    }


@pytest.mark.parametrize("model, convolutions", [("vgg11", 8), ("vgg13_bn", 10)])
def test_the_stages_of_a_vgg_end_before_the_poolings(model, convolutions):
    with torch.device("meta"):
        network = torchvision_model(model, classes=7)
    assert sum(isinstance(module, torch.nn.Conv2d) for module in network.modules()) == convolutions
    poolings = [number for number, layer in enumerate(network.features) if isinstance(layer, torch.nn.MaxPool2d)]
    assert [own_taps(network)[f"stage{number}"] for number in range(1, 6)] == [
        f"features.{number - 1}" for number in poolings
    ]
    assert own_taps(network)["embedding"] == "classifier.6.input" and len(own_taps(network)) == 6


def test_the_blocks_of_a_vit_and_an_option_of_the_model():
    found = features(torchvision_model("vit_b_32", classes=7, options={"image_size": 32}), (3, 32, 32))
    assert found.pop("embedding") == (768,)
    assert found == {f"stage{number}": (2, 768) for number in range(1, 13)}


@pytest.mark.parametrize("model", ["squeezenet1_1", "mnasnet0_5", "shufflenet_v2_x0_5", "googlenet"])
def test_a_model_without_known_stages_answers_with_logits_while_it_trains(model):
    network = torchvision_model(model, classes=7).train()
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 7)
    assert set(own_taps(network)) <= {"embedding"}


def test_it_is_the_librarys_own_module():
    network, own = torchvision_model("resnet18", classes=7), library.resnet18(num_classes=7)
    assert type(network) is type(own) and list(network.state_dict()) == list(own.state_dict())


def test_a_grey_image_is_answered_like_three_equal_channels():
    torch.manual_seed(0)
    colour = torchvision_model("resnet18", classes=7).eval()
    torch.manual_seed(0)
    grey = torchvision_model("resnet18", classes=7, channels=1).eval()
    x = torch.randn(2, 1, 32, 32)
    assert torch.allclose(grey(x), colour(x.expand(-1, 3, -1, -1)), atol=1e-5)
    assert grey.conv1.weight.requires_grad and grey.conv1.weight.is_leaf


@pytest.fixture
def weights(monkeypatch):
    """The file of weights that torchvision would fetch: a ResNet-18 of 1000 classes."""
    torch.manual_seed(1)
    state = library.resnet18().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *arguments, **options: state)
    return state


@pytest.mark.parametrize(
    "said", [{"pretrained": True}, {"weights": "IMAGENET1K_V1"}, {"weights": "ResNet18_Weights.IMAGENET1K_V1"}]
)
def test_pretrained_weights_of_as_many_classes_keep_their_head(weights, said):
    network = torchvision_model("resnet18", classes=1000, **said)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_pretrained_weights_of_other_classes_get_a_new_head(weights):
    network = torchvision_model("resnet18", classes=7, channels=1, pretrained=True)
    state = network.state_dict()
    assert state["fc.weight"].shape == (7, 512) and network.fc.out_features == 7
    assert torch.equal(state["conv1.weight"], weights["conv1.weight"].sum(1, keepdim=True))
    assert all(
        torch.equal(value, weights[name]) for name, value in state.items() if not name.startswith(("fc.", "conv1."))
    )
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("failure", [urllib.error.URLError("no connection"), RuntimeError("invalid hash value")])
def test_weights_that_cannot_be_fetched(monkeypatch, failure):
    def fetch(*arguments, **options):
        raise failure

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    with pytest.raises(
        ValueError, match="resnet18 cannot be downloaded from https://.*(no connection|hash).*pretrained=false"
    ):
        torchvision_model("resnet18", classes=7, pretrained=True)


def test_each_network_without_weights_gets_its_own_cure(monkeypatch):
    def fetch(*arguments, **options):
        raise urllib.error.URLError("no connection")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    node = {"_target_": "kdlab.models.torchvision_model", "model": "resnet18", "classes": 7}
    for key, asked, ending in (
        ("student", {"pretrained": True}, "on a machine with a connection, or set student.pretrained=false"),
        ("student", {"weights": "IMAGENET1K_V1"}, "on a machine with a connection, or set student.weights=null"),
        (
            "teacher",
            {"pretrained": True},
            "or train this network on your data, in place of teacher=torchvision teacher.model=resnet18:\n"
            "  teacher=trained teacher.student=torchvision 'teacher.overrides=[\"student.model=resnet18\"]'",
        ),
        ("teacher.members.first", {"pretrained": True}, "(TORCH_HOME) on a machine with a connection"),
    ):
        with pytest.raises(InputError) as error:
            build({**node, **asked}, key)
        assert str(error.value).startswith(f"{key}: the weights ResNet18") and str(error.value).endswith(ending)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"model": "resnet81"}, "did you mean 'resnet18'"),
        ({"model": "fasterrcnn_resnet50_fpn"}, "no classifier of that name"),
        ({"model": "resnet18", "channels": 4}, "channels must be 3 or 1.*got 4"),
        ({"model": "resnet50", "weights": "IMAGENET1K_V3"}, "has IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT; did you mean"),
    ],
)
def test_bad_arguments(given, words):
    with pytest.raises(ValueError, match=words):
        torchvision_model(classes=7, **given)


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ValueError, match=r"needs torchvision.*pip install torchvision"):
        torchvision_model("resnet18", classes=7)
