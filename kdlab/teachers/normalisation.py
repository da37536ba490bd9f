"""The normalisation of the inputs of another library's pretrained network, according to that library."""

from __future__ import annotations

import pkgutil

from torch import nn

from kdlab.models import HuggingFaceClassifier
from kdlab.normalisation import Normalisation


def known_normalisation(node: dict, network: nn.Module, channels: int) -> Normalisation | None:
    """The known normalisation of a network's inputs; None if it is unknown, or if the network is not pretrained.

    Args:
        node: the network's config.
        network: the network built from it.
        channels: channels of the inputs. Grey inputs get the mean over the three channels of coloured ones, as timm
            sums the first layer's weights.
    """
    found: Normalisation | None
    own, pretrained = getattr(network, "normalisation", None), getattr(network, "pretrained_cfg", None)
    if isinstance(network, HuggingFaceClassifier):
        found = _huggingface(node["model"], node.get("revision"))
    # torchvision by name, or a user's network with this attribute
    elif isinstance(own, dict):
        found = Normalisation.of(**own)
    elif node.get("pretrained") and isinstance(pretrained, dict):  # timm
        found = Normalisation.of(pretrained["mean"], pretrained["std"]) if "mean" in pretrained else None
    elif str(node.get("_target_")).startswith("torchvision.models.") and isinstance(node.get("weights"), str):
        found = _torchvision(node["_target_"], node["weights"])
    else:
        return None
    if found is not None and channels == 1:
        return Normalisation.of(sum(found.mean) / len(found.mean), sum(found.std) / len(found.std))
    return found


def _huggingface(model: str, revision: str | None) -> Normalisation | None:
    r"""From the preprocessor's config: :math:`(255\,r\,u - m) / s` with its ``rescale_factor`` r, usually 1/255."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        said, _ = ImageProcessingMixin.get_image_processor_dict(model, revision=revision)
    except (OSError, ValueError):  # there is none, or it is not available
        return None
    scale = 255 * said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 255
    mean, std = said.get("image_mean"), said.get("image_std")
    if not said.get("do_normalize", True):
        mean, std = 0.0, 1.0
    if mean is None or std is None:
        return None
    mean, std = ([value] if isinstance(value, (int, float)) else value for value in (mean, std))
    # 255 x (1/255) is not exactly 1 on every machine
    scale = round(scale, 12)
    return Normalisation.of([value / scale for value in mean], [value / scale for value in std])


def _torchvision(target: str, weights: str) -> Normalisation | None:
    """From the transforms that belong to the weights: ``DEFAULT``, ``IMAGENET1K_V1``, ``ResNet18_Weights.DEFAULT``."""
    from torchvision.models import get_model_weights

    try:
        transforms = get_model_weights(pkgutil.resolve_name(target))[weights.rpartition(".")[2]].transforms()
        return Normalisation.of(transforms.mean, transforms.std)
    except (KeyError, ValueError, AttributeError):  # weights or a builder without transforms
        return None
