"""Classifiers of torchvision by their names."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from kdlab.errors import WeightsMissing, did_you_mean

from .pretrained import note_weights, refuse_own

#: class of the network -> its stages, if they are modules with names
STAGES = {
    "ResNet": ("layer1", "layer2", "layer3", "layer4"),
    "RegNet": ("trunk_output.block1", "trunk_output.block2", "trunk_output.block3", "trunk_output.block4"),
    "DenseNet": ("features.denseblock1", "features.denseblock2", "features.denseblock3", "features.denseblock4"),
    "ConvNeXt": ("features.1", "features.3", "features.5", "features.7"),
    "SwinTransformer": ("features.1", "features.3", "features.5", "features.7"),
}
#: classes whose ``features`` are a sequence of layers: a stage ends before the map is halved, and the last stage before
#: the last layer (a pooling or a head)
ROWS = ("VGG", "MobileNetV2", "MobileNetV3", "EfficientNet")
WITH_AUXILIARY = ("googlenet", "inception_v3")


def torchvision_model(
    model: str,
    classes: int,
    channels: int = 3,
    pretrained: bool = False,
    weights: str | None = None,
    options: dict[str, Any] | None = None,
) -> nn.Module:
    """A classifier of torchvision, with taps. The module and the names in its state dict are torchvision's.

    Args:
        model: torchvision's name, for example "resnet18" or "convnext_tiny".
        classes: number of classes. The pretrained head is kept if it has this number of classes; otherwise it is
            replaced by an untrained one.
        channels: channels of the input, 3 or 1. For grey images the filters of the first convolution are summed over
            their three channels, so that a grey image gives the same output as a colour image with three equal
            channels.
        pretrained: use torchvision's best weights of this model. They are downloaded if they are not in torch's cache.
        weights: use these weights, by torchvision's name: "IMAGENET1K_V1".
        options: further arguments of the model, for example {"image_size": 32} of a vit or {"dropout": 0.1} of an
            efficientnet.

    Taps (the attribute ``taps``): ``stage1`` … are the stages of the ResNets (ResNeXt, wide ResNet), RegNet, DenseNet,
    ConvNeXt and Swin (whose maps are (H, W, C)), the blocks of ViT, and the last layers before the map is halved of
    VGG, MobileNet and EfficientNet; ``embedding`` is the input of the classifier. Other modules are taps by their
    paths. With weights the attribute ``normalisation`` holds the mean and std of their training inputs, and
    ``pretrained_weights`` holds their number of ``classes`` and the parameters that they leave ``unfilled``: none, or
    the head.

    Raises:
        ValueError: torchvision is missing, has no such model or weights, or cannot download them; the images have
            another number of channels; an option is one of the arguments above.
    """
    try:
        import torchvision.models as library
    except ModuleNotFoundError as error:
        raise ValueError(f"model '{model}' needs torchvision; install it with: pip install torchvision") from error

    known = library.list_models(module=library)
    if model not in known:
        raise ValueError(f"model '{model}': torchvision has no classifier of that name{did_you_mean(model, known)}")
    if channels not in (1, 3):
        raise ValueError(
            f"channels must be 3 or 1 for a network of torchvision, got {channels}; timm's accept any (timm_model)"
        )
    refuse_own(
        options,
        {
            "name": "model",
            "num_classes": "classes",
            "weights": "weights",
            "weights_backbone": "weights",
            "progress": "it shows none",
        },
    )
    # with auxiliary classifiers the network would return a tuple in training mode
    options = {**({"aux_logits": False} if model in WITH_AUXILIARY else {}), **(options or {})}
    chosen = _weights(library, model, pretrained, weights)
    if chosen is None:
        network = library.get_model(model, num_classes=classes, **options)
    else:
        network = _trained(library, model, chosen, options, "weights=null" if weights else "pretrained=false")
        known, heads = len(chosen.meta["categories"]), []
        if known != classes:
            heads = _put_on_head_of(network, library.get_model(model, num_classes=classes, **options))
        new = [name for name in network.state_dict() if name.rpartition(".")[0] in heads]
        note_weights(network, model, known, new, heads)
    if channels == 1:
        _read_grey(network)
    network.taps = _taps(network)
    if chosen is not None:
        transforms = chosen.transforms()
        network.normalisation = {"mean": list(transforms.mean), "std": list(transforms.std)}
    return network


def _weights(library: Any, model: str, pretrained: bool, weights: str | None) -> Any:
    if not pretrained and weights is None:
        return None
    offered = library.get_model_weights(model)
    name = (weights or "DEFAULT").rpartition(".")[2]  # ResNet18_Weights.IMAGENET1K_V1 is also accepted
    if name not in offered.__members__:
        raise ValueError(
            f"weights '{weights}': torchvision's {model} has "
            f"{', '.join(offered.__members__)}{did_you_mean(name, offered.__members__)}"
        )
    return offered[name]


def _trained(library: Any, model: str, weights: Any, options: dict[str, Any], argument: str) -> nn.Module:
    network: nn.Module
    try:
        network = library.get_model(model, weights=weights, progress=False, **options)
    except (OSError, RuntimeError) as error:  # no connection, or a damaged file
        if "loading state_dict" in str(error):
            wrong = " ".join(str(error).splitlines()[1:2]).strip()
            raise ValueError(
                f"the weights {weights} of torchvision's {model} do not fit a network with these options "
                f"({wrong}); leave them out, or set pretrained=false"
            ) from error
        raise WeightsMissing(
            f"the weights {weights} of torchvision's {model} cannot be downloaded from {weights.url} ({error}); "
            "download them into torch's cache (TORCH_HOME) on a machine with a connection",
            "torchvision",
            model,
            argument,
        ) from error
    return network


def _put_on_head_of(network: nn.Module, fresh: nn.Module) -> list[str]:
    """Replaces the network's head, the modules whose shapes depend on the number of classes, by that of a fresh
    network. Returns their paths."""
    shapes = {name: value.shape for name, value in fresh.state_dict().items()}
    state = network.state_dict()
    heads = sorted({name.rpartition(".")[0] for name, value in state.items() if value.shape != shapes[name]})
    for path in heads:
        owner, _, attribute = path.rpartition(".")
        setattr(network.get_submodule(owner), attribute, fresh.get_submodule(path))
    return heads


def _read_grey(network: nn.Module) -> None:
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d) and module.in_channels == 3)
    first.weight = nn.Parameter(first.weight.detach().sum(1, keepdim=True))
    first.in_channels = 1
    # an adaptation of three channels for the weights of googlenet and inception_v3
    if getattr(network, "transform_input", False):
        cast(Any, network).transform_input = False


def _taps(network: nn.Module) -> dict[str, str]:
    kind = type(network).__name__
    if kind == "VisionTransformer":
        stages = [f"encoder.layers.{name}" for name, _ in network.get_submodule("encoder.layers").named_children()]
    elif kind in ROWS:
        layers = list(cast(nn.Sequential, network.features))[:-1]
        halving = [
            number
            for number, layer in enumerate(layers)
            if number and any(_halves(module) for module in layer.modules())
        ]
        stages = [f"features.{number - 1}" for number in (*halving, len(layers))]
    else:
        stages = list(STAGES.get(kind, ()))
    taps = {f"stage{number}": path for number, path in enumerate(stages, start=1)}
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if linear:
        taps["embedding"] = f"{linear[-1]}.input"
    return taps


def _halves(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.MaxPool2d)) and module.stride in (2, (2, 2))
