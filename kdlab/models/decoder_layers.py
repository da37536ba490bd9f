"""The parts of a causal language model's layer: norms and linear layers in the same words for all architectures, and
their sizes.

| part | rows | columns | reads |
| --- | --- | --- | --- |
| ``query`` | ``queries`` | ``width`` | the norm ``before`` |
| ``key``, ``value`` | ``keys``, ``values`` | ``width`` | the norm ``before`` |
| ``out`` | ``width`` | ``contexts`` | what the heads have read, one after the other |
| ``gate``, ``up`` | ``neurons`` | ``width`` | the norm ``between`` |
| ``down`` | ``width`` | ``neurons`` | the neurons |
"""

from __future__ import annotations

from torch import Tensor

from .architectures import ARCHITECTURES, PARTS
from .causal import CausalModel
from .lora import plain_name

_LLAMA = {
    "before": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "query norm": "self_attn.q_norm",
    "key norm": "self_attn.k_norm",
    "out": "self_attn.o_proj",
    "between": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_GPT2 = {
    "before": "ln_1",
    **dict.fromkeys(PARTS, "attn.c_attn"),  # thirds of one layer
    "out": "attn.c_proj",
    "between": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
#: the paths of a layer's parts, by architecture
MODULES = {**dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA), "gpt2": _GPT2}
_WORDS = {**dict.fromkeys(MODULES, "embed_tokens"), "gpt2": "wte"}
#: a linear layer's rows and columns, and the norm that it reads
LINEAR: dict[str, tuple[str, str, str | None]] = {
    "query": ("queries", "width", "before"),
    "key": ("keys", "width", "before"),
    "value": ("values", "width", "before"),
    "out": ("width", "contexts", None),
    "gate": ("neurons", "width", "between"),
    "up": ("neurons", "width", "between"),
    "down": ("width", "neurons", None),
}
NORMS = ("before", "between")
#: a size -> the argument of :class:`CausalModel` that sets it
ARGUMENTS = {
    "width": "width",
    "heads": "heads",
    "heads of keys and values": "key_value_heads",
    "width of a head": "head_width",
    "neurons": "intermediate",
}
HEAD = "lm_head"


def sizes_of(model: CausalModel) -> dict[str, int]:
    """Width, heads, heads of keys and values, width of a head, and neurons of the feed-forward layers."""
    config = model.config
    width, heads = config.hidden_size, config.num_attention_heads
    found = (
        width,
        heads,
        getattr(config, "num_key_value_heads", None) or heads,
        getattr(config, "head_dim", None) or width // heads,
        getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width,
    )
    return dict(zip(ARGUMENTS, found))


def is_rotary(model: CausalModel) -> bool:
    """Whether positions are rotations of queries and keys."""
    return ARCHITECTURES[model.config.model_type].rotary


def layer_path(model: CausalModel, number: int, part: str) -> str:
    """The path of a part of a layer, counted from 1, below ``network``."""
    kind = model.config.model_type
    layer = ARCHITECTURES[kind].layer.format(i=number - 1)
    return f"{model.network.base_model_prefix}.{layer}.{MODULES[kind][part]}"


def final_path(model: CausalModel) -> str:
    """The path of the norm after the last layer, below ``network``."""
    return f"{model.network.base_model_prefix}.{ARCHITECTURES[model.config.model_type].final}"


def embedding_names(model: CausalModel) -> tuple[str, str | None]:
    """The names of the embeddings of tokens, and of positions where they have some."""
    prefix, kind = model.network.base_model_prefix, model.config.model_type
    return f"{prefix}.{_WORDS[kind]}.weight", None if is_rotary(model) else f"{prefix}.wpe.weight"


def state_of(model: CausalModel) -> dict[str, Tensor]:
    """The parameters and buffers of a model's network, by the names that they have without adapters."""
    return {plain_name(name): value for name, value in model.network.state_dict().items() if "lora_" not in name}


def parameters_of(
    model: CausalModel, state: dict[str, Tensor], number: int, part: str
) -> dict[str, tuple[str, Tensor]]:
    """``weight`` (rows, columns) and ``bias`` of a part of a layer, those that it has: the name in the state, and a
    view of the values."""
    path = layer_path(model, number, part)
    found: dict[str, tuple[str, Tensor]] = {}
    for which in ("weight", "bias"):
        name = f"{path}.{which}"
        if name not in state:
            continue
        value = state[name]
        if model.config.model_type == "gpt2" and part in LINEAR:
            value = value.T if which == "weight" else value
            value = value.chunk(len(PARTS))[PARTS.index(part)] if part in PARTS else value
        found[which] = name, value
    return found
