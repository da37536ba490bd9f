"""Classifiers of torchvision under their names."""

from __future__ import annotations

from torch import nn

from kdlab.errors import did_you_mean

from .pretrained import note_weights, refuse_own

#: class of the network -> its stages where they are modules of a name
STAGES = {
    "ResNet": ("layer1", "layer2", "layer3", "layer4"),
    "RegNet": ("trunk_output.block1", "trunk_output.block2", "trunk_output.block3", "trunk_output.block4"),
    "DenseNet": ("features.denseblock1", "features.denseblock2", "features.denseblock3", "features.denseblock4"),
    "ConvNeXt": ("features.1", "features.3", "features.5", "features.7"),
    "SwinTransformer": ("features.1", "features.3", "features.5", "features.7"),
}
#: classes whose ``features`` are a row of layers: a stage ends where the map is halved, and the last before the last
#: layer (a pooling or a head)
ROWS = ("VGG", "MobileNetV2", "MobileNetV3", "EfficientNet")
WITH_AUXILIARY = ("googlenet", "inception_v3")


def torchvision_model(
    model: str,
    classes: int,
    channels: int = 3,
    pretrained: bool = False,
    weights: str | None = None,
    options: dict | None = None,
) -> nn.Module:
    """A classifier of torchvision: its own module, its own names in the state dict, with taps.

    Args:
        model: torchvision's name, for example "resnet18" or "convnext_tiny".
        classes: number of classes. Pretrained weights keep their head if they have as many classes; otherwise a new one
            is put on, untrained.
        channels: channels of the input, 3 or 1. For grey images the filters of the first convolution are added up over
            their three channels, so that it answers to a grey image as the colour one answers to three equal channels.
        pretrained: take torchvision's best weights of this model; they are fetched where they are not in torch's cache.
        weights: take these weights, by torchvision's name: "IMAGENET1K_V1".
        options: further arguments of the model, for example {"image_size": 32} of a vit or {"dropout": 0.1} of an
            efficientnet.

    Taps (the attribute ``taps``): ``stage1`` … are the stages of the ResNets (ResNeXt, wide ResNet), RegNet, DenseNet,
    ConvNeXt and Swin (whose maps are (H, W, C)), the blocks of ViT, and the last layers before the map is halved of
    VGG, MobileNet and EfficientNet; ``embedding`` is what goes into the classifier. Other modules are taps by their
    paths. With weights the attribute ``normalisation`` holds the mean and std of the inputs that they were trained on,
    and ``pretrained_weights`` how many ``classes`` they know and what they leave ``unfilled``: nothing, or the head.

    Raises:
        ValueError: torchvision is missing, has no such model or weights, cannot fetch them, or the images have another
            number of channels; an option is one of those above.
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
            f"channels must be 3 or 1 for a network of torchvision, got {channels}; timm's read any number (timm_model)"
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
    # the auxiliary classifiers would make the network answer with a tuple while it trains
    options = {**({"aux_logits": False} if model in WITH_AUXILIARY else {}), **(options or {})}
    chosen = _weights(library, model, pretrained, weights)
    if chosen is None:
        network = library.get_model(model, num_classes=classes, **options)
    else:
        network = _trained(library, model, chosen, options)
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


def _weights(library, model: str, pretrained: bool, weights: str | None):
    if not pretrained and weights is None:
        return None
    offered = library.get_model_weights(model)
    name = (weights or "DEFAULT").rpartition(".")[2]  # ResNet18_Weights.IMAGENET1K_V1 is said as well
    if name not in offered.__members__:
        raise ValueError(
            f"weights '{weights}': torchvision's {model} has "
            f"{', '.join(offered.__members__)}{did_you_mean(name, offered.__members__)}"
        )
    return offered[name]


def _trained(library, model: str, weights, options: dict) -> nn.Module:
    try:
        return library.get_model(model, weights=weights, progress=False, **options)
    except (OSError, RuntimeError) as error:  # no connection; a file that is not what it should be
        if "loading state_dict" in str(error):
            wrong = " ".join(str(error).splitlines()[1:2]).strip()
            raise ValueError(
                f"the weights {weights} of torchvision's {model} do not fit a network with these options "
                f"({wrong}); leave them out, or say pretrained=false"
            ) from error
        raise ValueError(
            f"the weights {weights} of torchvision's {model} cannot be fetched from {weights.url} ({error}); "
            "fetch them into torch's cache (TORCH_HOME) where there is a connection, or say pretrained=false"
        ) from error


def _put_on_head_of(network: nn.Module, fresh: nn.Module) -> list[str]:
    """Give the network those modules of a fresh one whose shapes depend on the number of classes: its head. Returns
    their paths."""
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
    # an adaptation of three channels to the weights of googlenet and inception_v3
    if getattr(network, "transform_input", False):
        network.transform_input = False


def _taps(network: nn.Module) -> dict[str, str]:
    kind = type(network).__name__
    if kind == "VisionTransformer":
        stages = [f"encoder.layers.{name}" for name, _ in network.encoder.layers.named_children()]
    elif kind in ROWS:
        layers = list(network.features)[:-1]
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
