import copy
import gc
import weakref
from collections import OrderedDict

import pytest
import torch
from torch import nn

from kdlab.errors import InputError
from kdlab.models.taps import Taps


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 4)

    def forward(self, x):
        return self.second(self.first(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = Inner(), nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.body(x))


def hooks(network):
    return sum(len(module._forward_hooks) for module in network.modules())


def test_by_alias_by_path_and_nested():
    net, x = Net(), torch.randn(6, 2)
    with Taps(net, ["inner", "body", "body.first", "head"], {"inner": "body.second"}) as features:
        out = net(x)
    assert set(features) == {"inner", "body", "body.first", "head"}
    assert torch.equal(features["body.first"], net.body.first(x))
    assert torch.equal(features["inner"], features["body"]) and torch.equal(features["head"], out)


def test_what_goes_into_a_module():
    net, x = Net(), torch.randn(6, 2)
    with Taps(net, ["last", "head.input", "body"], {"last": "head.input"}) as features:
        net(x)
    assert torch.equal(features["last"], features["body"]) and torch.equal(features["head.input"], features["body"])


def test_a_module_of_the_name_input_goes_before_what_goes_into_its_owner():
    net, x = nn.Sequential(OrderedDict(body=nn.Sequential(OrderedDict(input=nn.Linear(2, 3))))), torch.randn(6, 2)
    with Taps(net, ["body.input", "body.input.input"]) as features:
        net(x)
    assert features["body.input"].shape == (6, 3) and features["body.input.input"] is x


def test_the_input_of_a_module_that_is_called_by_name_is_refused():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 3)

        def forward(self, x):
            return self.head(input=x)

    net = Named()
    with pytest.raises(InputError, match="'x': Linear is called with named arguments only"):
        with Taps(net, ["x"], {"x": "head.input"}):
            net(torch.randn(6, 2))


def test_the_input_of_a_missing_module_is_missing():
    with pytest.raises(InputError, match=r"no module 'haed'; did you mean 'head'"):
        Taps(Net(), ["haed.input"])


def test_the_features_carry_gradient():
    net = Net()
    with Taps(net, ["body"]) as features:
        net(torch.randn(6, 2))
    features["body"].sum().backward()
    assert net.body.first.weight.grad is not None and net.head.weight.grad is None


def test_only_what_was_asked_for_is_captured():
    net = Net()
    with Taps(net, []) as features:
        assert hooks(net) == 0
        net(torch.randn(6, 2))
    assert features == {}
    with Taps(net, ["body", "body"]):
        assert hooks(net) == 1


def test_an_alias_goes_before_a_path():
    net, x = Net(), torch.randn(6, 2)
    with Taps(net, ["body"], {"body": "body.first"}) as features:
        net(x)
    assert features["body"].shape == (6, 3)


def test_a_missing_tap_says_what_there_is():
    with pytest.raises(InputError) as error:
        Taps(Net(), ["body.frist"])
    message = str(error.value)
    assert (
        "'body.frist'" in message and "Net" in message and "did you mean 'body.first'?" in message and "head" in message
    )


def test_a_missing_tap_suggests_an_alias():
    with pytest.raises(InputError, match="did you mean 'embedding'"):
        Taps(Net(), ["embeding"], {"embedding": "body"})


def test_an_alias_of_a_missing_path_names_both():
    with pytest.raises(InputError, match=r"tap 'x'.*'body\.third'"):
        Taps(Net(), ["x"], {"x": "body.third"})


def test_the_network_as_a_whole_is_no_tap_and_a_network_without_modules_says_so():
    with pytest.raises(InputError, match="''"):
        Taps(Net(), [""])
    with pytest.raises(InputError, match="no submodule"):
        Taps(nn.Identity(), ["x"])


def test_nothing_is_held_behind_the_block():
    net = Net()
    taps = Taps(net, ["body"])
    with taps as features:
        net(torch.randn(6, 2))
    assert hooks(net) == 0
    feature = weakref.ref(features["body"])
    del features
    gc.collect()
    assert feature() is None
    net(torch.randn(6, 2))
    with taps as features:
        assert features == {}


def test_hooks_are_gone_after_an_exception():
    net = Net()
    with pytest.raises(RuntimeError):
        with Taps(net, ["body.first"]):
            net(torch.randn(6, 3))
    assert hooks(net) == 0


def test_the_features_of_one_pass_survive_the_next():
    net = Net()
    taps, kept = Taps(net, ["body"]), []
    for value in (1.0, 2.0):
        with taps as features:
            net(torch.full((1, 2), value))
        kept.append(features)
    assert not torch.equal(kept[0]["body"], kept[1]["body"])


def test_the_network_can_be_copied_and_saved_afterwards():
    net, x = Net(), torch.randn(6, 2)
    keys = list(net.state_dict())
    with Taps(net, ["body"]):
        net(x)
    twin = copy.deepcopy(net)
    assert hooks(twin) == 0 and list(net.state_dict()) == keys and torch.equal(twin(x), net(x))


def test_a_copy_of_an_owner_captures_its_own_network():
    class Owner(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net()
            self.taps = Taps(self.net, ["body"])

        def forward(self, x):
            with self.taps as features:
                self.net(x)
            return features

    owner = Owner()
    twin, x = copy.deepcopy(owner), torch.randn(6, 2)
    nn.init.zeros_(twin.net.body.second.weight)
    nn.init.ones_(twin.net.body.second.bias)
    assert torch.equal(twin(x)["body"], torch.ones(6, 4))
    assert not torch.equal(owner(x)["body"], torch.ones(6, 4))


@pytest.mark.parametrize("answer", [lambda x: (x, x + 1), lambda x: [x, x + 1]])
def test_the_first_of_several_outputs_is_the_feature(answer):
    class Several(nn.Module):
        def forward(self, x):
            return answer(x)

    net, x = nn.Sequential(OrderedDict(several=Several())), torch.randn(6, 2)
    with Taps(net, ["several"]) as features:
        net(x)
    assert features["several"] is x
