"""Cutting a network behind one of its modules: what comes after it, as a network of its own."""

from __future__ import annotations

from torch import fx, nn

from kdlab.errors import InputError

from .taps import INPUT


class _Coarse(fx.Tracer):
    """Follows the forward passes of those modules alone that hold the place of the cut; all others are called as they
    are, and so may do in theirs what no trace can follow."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return not self._path.startswith(f"{path}.")


def behind(network: nn.Module, path: str) -> nn.Module:
    """What a network computes from one feature on, as a module from that feature to the network's answer. The network
    stays as it is; the modules behind the cut are shared with it and have the same names.

    Args:
        network: any network that calls the module once, and whose forward pass down to it is traceable
            (:mod:`torch.fx`).
        path: dotted path of the module whose output is the feature; with ``.input`` behind it, what goes into the
            module.

    Raises:
        InputError: it cannot be traced, goes another way in training than in evaluation, calls the module not just
            once, or needs more than that one feature behind it.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    >>> rest = behind(net, "0")
    >>> x = torch.ones(1, 2)
    >>> torch.equal(rest(net[0](x)), net(x)), [name for name, _ in rest.named_parameters()]
    (True, ['2.weight', '2.bias'])
    """
    modules = dict(network.named_modules())
    place = path if path in modules else path.removesuffix(INPUT)
    name = type(network).__name__
    if place not in modules or not place:
        raise InputError(f"{name} has no module '{path}' to be cut behind")
    graph = _graph(network, place)
    called = [node for node in graph.nodes if node.op == "call_module" and node.target == place]
    if len(called) != 1:
        raise InputError(
            f"{name} calls its module '{place}' {len(called)} times, and can be cut only behind one that it calls once"
        )
    feature = called[0] if place == path else called[0].args[0]

    rest, made = fx.Graph(), {}
    made[feature] = rest.placeholder("feature")
    constant: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "output":
            if not _depends(node, made):
                raise InputError(f"{name}: its answer does not depend on '{path}'")
        elif node is feature or node.op == "placeholder":
            continue
        elif node.op == "get_attr" or (node.all_input_nodes and all(one in constant for one in node.all_input_nodes)):
            constant.add(node)  # of no input: copied where it is needed
            continue
        elif not _depends(node, made):
            continue  # before the cut
        _copy(node, rest, made, constant, f"{name}: behind '{path}' it needs more than that one feature")
    rest.lint()
    return fx.GraphModule(network, rest, class_name=f"{name}Branch")


def _depends(node: fx.Node, made: dict) -> bool:
    return any(one in made for one in node.all_input_nodes)


def _copy(node: fx.Node, rest: fx.Graph, made: dict, constant: set, problem: str) -> None:
    for one in node.all_input_nodes:
        if one not in made:
            if one not in constant:
                raise InputError(f"{problem}: {node.name} reads {one.name}, too")
            _copy(one, rest, made, constant, problem)
    made[node] = rest.node_copy(node, lambda one: made[one])


def _graph(network: nn.Module, place: str) -> fx.Graph:
    """The trace of the network; InputError where there is none, or one for training and another for evaluation."""
    name, before, graphs = type(network).__name__, network.training, []
    try:
        for mode in (False, True):
            network.training = mode  # of its own forward pass: what the modules in it do is not looked into
            graphs.append(_Coarse(place).trace(network))
    except Exception as error:  # a forward pass may fail in any way on what is no tensor
        raise InputError(
            f"{name} cannot be cut behind '{place}', since torch.fx cannot follow its forward pass: "
            f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        ) from error
    finally:
        network.training = before
    if str(graphs[0]) != str(graphs[1]):
        raise InputError(
            f"{name} cannot be cut behind '{place}': its forward pass goes another way in training than in evaluation"
        )
    return graphs[0]
