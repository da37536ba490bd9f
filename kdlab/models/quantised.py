"""Weights of 8 or 4 bits, by bitsandbytes, for networks that are not trained."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from torch import Tensor, nn

from .gguf import is_gguf

BITS = (8, 4)
_PACKAGES = ("bitsandbytes", "accelerate")


def quantised(bits: int) -> dict[str, Any]:
    """Options of ``from_pretrained`` for weights of so many bits. The weights of linear layers are rounded when they
    are loaded, but for the head. Norms, embeddings and the head stay in float32.

    With 8 bits, weights are whole numbers with a scale for each row, and inputs are rounded with one for each token.
    Columns in which an input is greater than 6 are multiplied in half precision: Dettmers et al. (2022), "LLM.int8()",
    https://arxiv.org/abs/2208.07339. With 4 bits, weights are NormalFloat with a scale for each 64 of them, and are put
    back into float32 for each product: Dettmers et al. (2023), "QLoRA", https://arxiv.org/abs/2305.14314, section 3.

    Raises:
        ValueError: ``bits`` is neither 8 nor 4, a package is missing, or it does not support the devices here.
    """
    if bits not in BITS or isinstance(bits, bool):
        raise ValueError(f"bits must be 8 or 4, or null (float32), got {bits!r}")
    for package in _PACKAGES:
        if not _is_installed(package):
            raise ValueError(
                f"bits={bits} needs the package {package}, which is not installed: pip install 'kdlab[bits]'"
            )
    logging.getLogger("bitsandbytes.autograd").setLevel(logging.ERROR)  # a line for every product with 8 bits
    import torch
    from transformers import BitsAndBytesConfig
    from transformers.integrations.bitsandbytes import validate_bnb_backend_availability

    try:
        supported = validate_bnb_backend_availability()
    except Exception as error:  # a version that cannot be used here fails in any way
        raise ValueError(f"bits={bits}: the installed bitsandbytes does not work here ({error})") from error
    if not supported:
        raise ValueError(
            f"bits={bits}: the installed bitsandbytes supports none of the devices here; pip install -U bitsandbytes"
        )
    made = (
        BitsAndBytesConfig(load_in_8bit=True)
        if bits == 8
        else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    )
    return {"quantization_config": made, "device_map": {"": "cpu"}}


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def check_bits(bits: int | None, pretrained: str | None, trained: dict[str, Any]) -> None:
    """Raises ValueError where a network cannot have weights of so many bits.

    Args:
        pretrained: the model; None: a new one.
        trained: options that are for networks that are trained, by name.
    """
    if bits is None:
        return
    if pretrained is None:
        raise ValueError(f"bits={bits} is for a pretrained model; a new one has to be trained, in float32")
    if is_gguf(pretrained):
        raise ValueError(
            f"bits={bits}: the weights of a GGUF file have their own bits, and are read into float32; name the folder "
            "or the hub name of the original model"
        )
    if given := [name for name, value in trained.items() if value]:
        raise ValueError(f"bits={bits} and {given[0]}: rounded weights cannot be trained; leave out one of the two")


def parameter_count(network: nn.Module) -> int:
    """The number of a network's parameters. Those of 4 bits are two in a byte, and count as two.

    >>> parameter_count(nn.Linear(3, 2))
    8
    """
    return sum(_size(value) for value in network.parameters())


def _size(value: Tensor) -> int:
    state = getattr(value, "quant_state", None)
    return value.numel() if state is None else int(state.shape.numel())


def is_quantised(network: nn.Module | None) -> bool:
    """Whether a network's weights have few bits."""
    return getattr(network, "bits", None) is not None
