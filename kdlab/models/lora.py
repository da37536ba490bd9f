"""Low-rank adapters (LoRA) of a transformer's linear layers, by the library peft."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from kdlab.errors import did_you_mean

from .architectures import ARCHITECTURES, PARTS

ARGUMENTS = ("rank", "alpha", "targets", "dropout")


def add_lora(network: nn.Module, kind: str, options: Mapping[str, Any], trained: Collection[str]) -> None:
    """Put adapters into a network, in place. Only they and the named parameters are trained. A layer's output becomes
    ``W x + alpha / rank * B A x``, where ``B`` begins with zeros: Hu et al. (2021), https://arxiv.org/abs/2106.09685,
    section 4.1. Layers of the named parameters get none, also where their names are targets.

    Args:
        kind: the type of the model, by transformers.
        options: ``rank``, ``alpha`` (by default twice the rank), ``targets`` (``query``, ``key``, ``value``, or the
            last part of the path of any linear layers; by default query and value) and ``dropout`` (by default 0).
        trained: the names of parameters that are trained with them: the head.

    Raises:
        ValueError: an option is unknown or out of its range, the network has no such layers, or peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ValueError("lora needs the package peft: pip install 'kdlab[text]'") from error
    for name in options:
        if name not in ARGUMENTS:
            raise ValueError(
                f"lora has no option '{name}'{did_you_mean(name, ARGUMENTS)} (it has {', '.join(ARGUMENTS)})"
            )
    rank, targets = options.get("rank"), list(options.get("targets") or ("query", "value"))
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ValueError(f"lora.rank must be a whole number of at least 1, got {rank!r}")
    alpha, dropout = options.get("alpha", 2 * rank), options.get("dropout", 0.0)
    if not isinstance(alpha, (int, float)) or alpha <= 0:
        raise ValueError(f"lora.alpha must be a number greater than 0, got {alpha!r}")
    linear = [
        path
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear) and f"{path}.weight" not in trained
    ]
    known = {path.rpartition(".")[2] for path in linear}
    named = [_names(kind).get(target, target) for target in targets]
    if wrong := [target for target, name in zip(targets, named) if name not in known]:
        raise ValueError(
            f"lora.targets: this network has no linear layers '{wrong[0]}'{did_you_mean(wrong[0], known)} "
            f"(outside its head it has {', '.join(sorted(known))})"
        )
    settings: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout}  # alpha may be a fraction
    paths = [path for path in linear if path.rpartition(".")[2] in named]
    inject_adapter_in_model(LoraConfig(**settings, target_modules=paths), network)
    for name, value in network.named_parameters():
        value.requires_grad_("lora_" in name or name in trained)


def _names(kind: str) -> dict[str, str]:
    """How a type of model calls the linear layers of queries, keys and values; empty where that is not known.

    >>> _names("distilbert"), _names("modernbert")["key"]
    ({'query': 'q_lin', 'key': 'k_lin', 'value': 'v_lin'}, 'Wqkv')
    """
    known = ARCHITECTURES.get(kind)
    paths = () if known is None else known.parts * (len(PARTS) // len(known.parts))  # one layer may hold all three
    return {part: path.rpartition(".")[2] for part, path in zip(PARTS, paths)}


def has_adapters(network: nn.Module) -> bool:
    """Whether a network has adapters."""
    return any("lora_" in name for name, _ in network.named_parameters())


def plain_name(name: str) -> str:
    """A parameter's name in the network without adapters.

    >>> plain_name("layer.query.base_layer.weight"), plain_name("layer.key.weight")
    ('layer.query.weight', 'layer.key.weight')
    """
    return name.replace(".base_layer.", ".")


def for_adapters(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights of a network without adapters, by the names of the same network with them. The adapters stay as they are:
    they begin without an effect. Other weights are returned unchanged."""
    if any("lora_" in name for name in weights):
        return dict(weights)
    own = network.state_dict()
    names = {plain_name(name): name for name in own}
    adapters = {name: value for name, value in own.items() if "lora_" in name}
    return {**{names.get(name, name): value for name, value in weights.items()}, **adapters}


def merged(network: nn.Module) -> nn.Module:
    """A copy of a network with its adapters added to the weights; the network itself if it has none. Its outputs are
    the same but for rounding.

    >>> merged(nn.Linear(2, 3))
    Linear(in_features=2, out_features=3, bias=True)
    """
    if not has_adapters(network):
        return network
    made = copy.deepcopy(network).eval()
    for path, module in list(made.named_modules()):
        if hasattr(module, "merge") and hasattr(module, "get_base_layer"):
            module.merge()
            parent, _, name = path.rpartition(".")
            setattr(made.get_submodule(parent), name, module.get_base_layer())
    return made.requires_grad_(True)
