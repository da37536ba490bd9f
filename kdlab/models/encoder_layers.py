"""The parts of a text encoder's layer: linear layers and norms, in one order for all architectures, and their sizes."""

from __future__ import annotations

from .text import TextEncoder

#: a layer's linear layers and norms in a common order, by architecture. Their dimensions: :data:`DIMENSIONS`
_BERT = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
MODULES = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert"), _BERT),
    "distilbert": (
        "attention.q_lin",
        "attention.k_lin",
        "attention.v_lin",
        "attention.out_lin",
        "sa_layer_norm",
        "ffn.lin1",
        "ffn.lin2",
        "output_layer_norm",
    ),
}
#: rows and columns of each of these; a norm has one dimension
DIMENSIONS = (
    ("scores", "width"),
    ("scores", "width"),
    ("values", "width"),
    ("width", "values"),
    ("width", None),
    ("neurons", "width"),
    ("width", "neurons"),
    ("width", None),
)
QUERY, OUT, DOWN, NORMS = 0, 3, 6, (4, 7)  # places of some of them


def sizes_of(encoder: TextEncoder) -> dict[str, int]:
    """Width, heads, width of a head, and neurons of the feed-forward layers."""
    config = encoder.config
    inner = getattr(config, "intermediate_size", None) or config.hidden_dim
    width, heads = config.hidden_size, config.num_attention_heads
    return {"width": width, "heads": heads, "width of a head": width // heads, "neurons": inner}


def prefix_of(encoder: TextEncoder) -> str:
    """The path of the encoder below ``network``, with a dot at its end; empty if it is the network."""
    return "" if encoder.head == "embedding" else f"{encoder.network.base_model_prefix}."


def layer_path(encoder: TextEncoder, number: int) -> str:
    """The path of a layer, counted from 1, below ``network``."""
    kind = {"distilbert": "transformer.layer", "modernbert": "layers"}.get(encoder.config.model_type, "encoder.layer")
    return f"{prefix_of(encoder)}{kind}.{number - 1}"


def layer_modules(encoder: TextEncoder, number: int) -> list[str]:
    """The paths of a layer's :data:`MODULES` below ``network``."""
    return [f"{layer_path(encoder, number)}.{path}" for path in MODULES[encoder.config.model_type]]
