"""Cutting a network after one of its modules: the part after the cut as a separate network."""

from __future__ import annotations

from collections.abc import Container

from torch import fx, nn

from kdlab.errors import InputError

from .taps import INPUT


class _Coarse(fx.Tracer):
    """Traces only the modules that contain the cut. All other modules are called unchanged, so their forward passes
    need not be traceable."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return not self._path.startswith(f"{path}.")


def behind(network: nn.Module, path: str) -> nn.Module:
    """The part of a network after one feature: a module that maps the feature to the network's output. The network is
    not changed. The modules after the cut are shared with it and have the same names.

    Args:
        network: any network that calls the module once. The modules that contain it must be traceable
            (:mod:`torch.fx`).
        path: dotted path of the module whose output is the feature; with the suffix ``.input``, the module's input.

    Raises:
        InputError: it cannot be traced, takes another path in training than in evaluation, does not call the module
            exactly once, or needs more than this feature after the cut.

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
        raise InputError(f"{name} has no module '{path}' to cut after")
    graph = _graph(network, place)
    called = [node for node in graph.nodes if node.op == "call_module" and node.target == place]
    if len(called) != 1:
        raise InputError(
            f"{name} calls its module '{place}' {len(called)} times; only a module that is called once can be cut after"
        )
    feature = called[0] if place == path else called[0].args[0]

    rest, made = fx.Graph(), {}
    made[feature] = rest.placeholder("feature")
    constant: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "output":
            if not _depends(node, made):
                raise InputError(f"{name}: its output does not depend on '{path}'")
        elif node is feature or node.op == "placeholder":
            continue
        elif node.op == "get_attr" or (node.all_input_nodes and all(one in constant for one in node.all_input_nodes)):
            constant.add(node)  # depends on no input: copied when it is needed
            continue
        elif not _depends(node, made):
            continue  # before the cut
        _copy(node, rest, made, constant, f"{name}: after '{path}' it needs more than this one feature")
    rest.lint()
    return fx.GraphModule(network, rest, class_name=f"{name}Branch")


def _depends(node: fx.Node, made: Container[fx.Node]) -> bool:
    return any(one in made for one in node.all_input_nodes)


def _copy(node: fx.Node, rest: fx.Graph, made: dict[fx.Node, fx.Node], constant: set[fx.Node], problem: str) -> None:
    for one in node.all_input_nodes:
        if one not in made:
            if one not in constant:
                raise InputError(f"{problem}: {node.name} reads {one.name}, too")
            _copy(one, rest, made, constant, problem)
    made[node] = rest.node_copy(node, lambda one: made[one])


def _graph(network: nn.Module, place: str) -> fx.Graph:
    """The trace of the network. Raises InputError if it cannot be traced, or if training and evaluation differ."""
    name, before, graphs = type(network).__name__, network.training, []
    try:
        for mode in (False, True):
            network.training = mode  # for its own forward pass only; its modules are not traced
            graphs.append(_Coarse(place).trace(network))
    except Exception as error:  # a forward pass may fail in any way on a proxy in place of a tensor
        raise InputError(
            f"{name} cannot be cut after '{place}', since torch.fx cannot trace its forward pass: "
            f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        ) from error
    finally:
        network.training = before
    if str(graphs[0]) != str(graphs[1]):
        raise InputError(
            f"{name} cannot be cut after '{place}': its forward pass differs between training and evaluation"
        )
    return graphs[0]
