"""Classifiers of timm by their names."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from torch import nn

from kdlab.errors import WeightsMissing, did_you_mean

from .pretrained import note_weights, refuse_own
from .writes import Writes

#: names of modules before the first stage
STEM = re.compile(r"(.*\.)?(act1|bn1|norm0|stem|conv_stem)(\.|$)")
#: prefixes of models on a hub or in a folder
ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")


def timm_model(
    model: str, classes: int, channels: int = 3, pretrained: bool = False, options: dict[str, Any] | None = None
) -> nn.Module:
    """A classifier of timm, with taps. The module and the names in its state dict are timm's.

    Args:
        model: timm's name, with or without the tag of its weights: "resnet18", "resnet18.a1_in1k", "hf-hub:owner/name".
        classes: number of classes. The pretrained head is kept if it has this number of classes; otherwise it is
            replaced by an untrained one.
        channels: channels of the input; timm adapts the first convolution, also with pretrained weights.
        pretrained: use timm's weights. They are downloaded if they are not in the cache of the Hugging Face hub.
        options: further arguments of ``timm.create_model``, for example {"img_size": 32} of a vit or {"drop_path_rate":
            0.1}.

    With weights, the attribute ``pretrained_weights`` holds their number of ``classes`` and the parameters that they
    leave ``unfilled``: none, or the head.

    Taps (the attribute ``taps``): ``stage1`` … are the modules that timm names for feature extraction
    (``feature_info``: one for each size of the map, one per block for transformers), except that a stem is called
    ``stem``. ``embedding`` is the input of the classifier. Other modules are taps by their paths.

    Raises:
        ValueError: timm is missing, has no such model or weights, or cannot download them; the weights leave parameters
            unfilled besides the head; an option is one of the arguments above.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ValueError(f"model '{model}' needs timm; install it with: pip install timm") from error

    if not model.startswith(ELSEWHERE) and not timm.is_model(model):
        known = timm.list_models()
        raise ValueError(f"model '{model}': timm has no model of that name{did_you_mean(model.split('.')[0], known)}")
    refuse_own(
        options, {"model_name": "model", "num_classes": "classes", "in_chans": "channels", "pretrained": "pretrained"}
    )
    writes = Writes() if pretrained else None
    try:
        with writes or contextlib.nullcontext():
            network: Any = timm.create_model(
                model, pretrained=pretrained, num_classes=classes, in_chans=channels, **(options or {})
            )
    except (OSError, RuntimeError) as error:  # no connection; no such tag, no weights, weights of another shape
        if not pretrained and not model.startswith(ELSEWHERE):
            raise
        raise WeightsMissing(
            f"the weights of timm's '{model}' are not available ({str(error).splitlines()[0]}); see "
            "timm.list_pretrained(), download them into the cache of the Hugging Face hub (HF_HOME) on a machine with "
            "a connection",
            "timm",
            model,
        ) from error
    network.taps = _taps(network)
    if writes is not None:
        number = (getattr(network, "pretrained_cfg", None) or {}).get("num_classes") or None
        note_weights(network, model, number, writes.not_copied(network), _heads(network))
    return network


def _heads(network: nn.Module) -> tuple[str, ...]:
    """The paths of the classifier; a distilled transformer has two."""
    heads = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or ()
    return (heads,) if isinstance(heads, str) else tuple(heads)


def _taps(network: nn.Module) -> dict[str, str]:
    modules = {name for name, _ in network.named_modules()}
    paths = [entry["module"] for entry in getattr(network, "feature_info", None) or ()]
    stages = list(dict.fromkeys(path for path in paths if path in modules))
    taps = {}
    if stages and STEM.match(stages[0]):
        taps["stem"] = stages.pop(0)
    taps.update({f"stage{number}": path for number, path in enumerate(stages, start=1)})
    heads = _heads(network)
    if len(heads) == 1 and heads[0] in modules:
        taps["embedding"] = f"{heads[0]}.input"
    return taps
