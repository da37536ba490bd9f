"""Networks cut behind a module: every network of the zoo, and what cannot be cut."""

import copy

import pytest
import torch
from torch import nn

from kdlab.config.compose import compose
from kdlab.config.paths import conf_dir
from kdlab.errors import InputError
from kdlab.models.cut import behind
from kdlab.models.taps import Taps
from kdlab.runs.checkpoints import student_network
from kdlab.strategies.one import _default_split

# a name, or a tokenizer
NEEDS_MORE = {
    *("network", "timm", "torchvision", "huggingface"),
    *("encoder", "bert", "bert_wide", "causal", "llama", "llama_wide"),
}
ZOO = sorted({path.stem for path in (conf_dir() / "student").glob("*.yaml")} - NEEDS_MORE)
COLOUR = ("vgg", "mobilenet", "shufflenet", "resnet50")


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_is_cut_at_its_default(name):
    """The rest gives the network's own answer, in evaluation and in training mode, and has no weight of what comes
    before."""
    config = compose(
        [f"student={name}", "strategy=supervised", f"data={'cifar100' if name.startswith(COLOUR) else 'digits'}"]
    )
    network = student_network(config)
    split = _default_split(network, {})
    rest = behind(copy.deepcopy(network), split)
    x = torch.randn(4, *config["data"]["shape"])
    for mode in (False, True):
        network.train(mode)
        rest.train(mode)
        torch.manual_seed(0)
        with torch.no_grad(), Taps(network, [split]) as features:
            expected = network(x)
        if mode and any(isinstance(module, nn.Dropout) and module.p > 0 for module in network.modules()):
            continue  # other random numbers: see the test of dropout
        with torch.no_grad():
            torch.testing.assert_close(rest(features[split]), expected)
    names = {name for name, _ in network.named_parameters()}
    behind_it = {name for name, _ in rest.named_parameters()}
    assert behind_it < names and not any(name.startswith((f"{split}.", "stage1.", "stem.")) for name in behind_it)


class Residual(nn.Module):
    """Its answer may need the input, too."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first, self.dropout, self.last = nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)

    def forward(self, x):
        y = self.first(x)
        if self.how == "adds its input":
            y = y + x
        if self.how == "calls twice":
            y = self.first(y)
        if self.how == "asks its numbers" and y.sum() > 0:
            y = -y
        if self.how == "asks its mode" and self.training:
            y = 2 * y
        y = self.dropout(y)
        return x if self.how == "forgets it" else self.last(y.flatten(1))


@pytest.mark.parametrize(
    "how, words",
    [
        ("adds its input", "needs more than this one feature: .* reads x, too"),
        ("calls twice", "calls its module 'first' 2 times"),
        ("asks its numbers", "torch.fx cannot trace its forward pass"),
        ("asks its mode", "differs between training and evaluation"),
        ("forgets it", "its output does not depend on 'first'"),
    ],
)
def test_what_cannot_be_cut(how, words):
    network = Residual(how)
    with pytest.raises(InputError, match=words):
        behind(network, "first")
    assert network.training and network.first.training, "it is left as it was"


def test_a_name_that_is_none():
    with pytest.raises(InputError, match="no module 'second'"):
        behind(Residual(""), "second")


def test_behind_the_input_of_a_module():
    """``last.input`` is what goes into it."""
    network = Residual("").eval()
    rest, x = behind(network, "last.input"), torch.randn(3, 4)
    torch.testing.assert_close(rest(network.first(x)), network(x))
    assert [name for name, _ in rest.named_parameters()] == ["last.weight", "last.bias"]


def test_dropout_is_that_of_the_mode():
    rest, x = behind(Residual(""), "first"), torch.ones(50, 4)
    assert not torch.equal(rest(x), rest(x))
    rest.eval()
    assert torch.equal(rest(x), rest(x))


def test_constants_of_the_network_go_with_it():
    class Shifted(Residual):
        def __init__(self):
            super().__init__("")
            self.shift = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return self.last(self.first(x)) + self.shift.exp()

    network, x = Shifted(), torch.randn(3, 4)
    rest = behind(network, "first")
    torch.testing.assert_close(rest(network.first(x)), network(x))
    assert "shift" in dict(rest.named_parameters())
