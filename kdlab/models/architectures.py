"""Where encoders and causal language models of Hugging Face keep their layers: module paths by architecture.

| kind (``model_type``) | layers | queries, keys, values |
| --- | --- | --- |
| bert, roberta, xlm-roberta, camembert | ``encoder.layer.0`` … | three linear layers |
| distilbert | ``transformer.layer.0`` … | three linear layers |
| modernbert | ``layers.0`` … | thirds of one linear layer |
| llama, mistral, qwen2, qwen3, smollm3, olmo2 | ``layers.0`` … | three linear layers |
| gemma, gemma2, gemma3_text, granite, cohere | ``layers.0`` … | three linear layers |
| olmo, olmo3, phi, stablelm, starcoder2 | ``layers.0`` … | three linear layers |
| phi3 | ``layers.0`` … | parts of one linear layer |
| gpt2 | ``h.0`` … | thirds of one linear layer |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

PARTS = ("query", "key", "value")


@dataclass(frozen=True)
class Architecture:
    """Paths below the encoder, with ``{i}`` for the number of the layer from 0.

    Args:
        embeddings: the module whose output is the first hidden state.
        layer: a layer.
        attention: the module within a layer whose output is a tuple with the attention probabilities at place 1.
        parts: the linear layers of query, key and value within a layer. One path: a linear layer with the three, one
            after the other.
        final: the module after the last layer, whose output is the last hidden state; None: the layer itself.
        heads: head -> {``pooled``: path, ``embedding``: path}, from the whole model on.
        positions_follow_padding: positions are counted from the padding token's id on, and padding has none.
        rotary: positions are rotations of queries and keys, after the linear layers.
    """

    embeddings: str
    layer: str
    attention: str
    parts: tuple[str, ...]
    heads: dict[str, dict[str, str]]
    final: str | None = None
    positions_follow_padding: bool = False
    rotary: bool = False


_BERT = Architecture(
    embeddings="embeddings",
    layer="encoder.layer.{i}",
    attention="attention.self",
    parts=tuple(f"attention.self.{part}" for part in PARTS),
    heads={
        "classification": {"pooled": "bert.pooler", "embedding": "classifier.input"},
        "tokens": {"embedding": "classifier.input"},
        "masked_lm": {"embedding": "cls.predictions.decoder.input"},
    },
)
_ROBERTA = Architecture(
    embeddings="embeddings",
    layer="encoder.layer.{i}",
    attention="attention.self",
    parts=tuple(f"attention.self.{part}" for part in PARTS),
    heads={
        # dropout is called before and after the hidden layer of the head, and a tap keeps the last call
        "classification": {"pooled": "classifier.dropout.input", "embedding": "classifier.out_proj.input"},
        "tokens": {"embedding": "classifier.input"},
        "masked_lm": {"embedding": "lm_head.decoder.input"},
    },
    positions_follow_padding=True,
)
_DISTILBERT = Architecture(
    embeddings="embeddings",
    layer="transformer.layer.{i}",
    attention="attention",
    parts=tuple(f"attention.{part}_lin" for part in "qkv"),
    heads={
        "classification": {"pooled": "dropout.input", "embedding": "classifier.input"},
        "tokens": {"embedding": "classifier.input"},
        "masked_lm": {"embedding": "vocab_projector.input"},
    },
)
_MODERNBERT = Architecture(
    embeddings="embeddings",
    layer="layers.{i}",
    attention="attn",
    parts=("attn.Wqkv",),
    heads={
        "classification": {"pooled": "head", "embedding": "classifier.input"},
        "tokens": {"embedding": "classifier.input"},
        "masked_lm": {"embedding": "decoder.input"},
    },
    final="final_norm",
    rotary=True,
)
_LLAMA = Architecture(
    embeddings="layers.0.input",  # some models scale the embeddings after their module
    layer="layers.{i}",
    attention="self_attn",
    parts=tuple(f"self_attn.{part}_proj" for part in "qkv"),
    heads={},
    final="norm",
    rotary=True,
)
_PHI = replace(_LLAMA, final="final_layernorm")
_PHI3 = replace(_LLAMA, parts=("self_attn.qkv_proj",))
_GPT2 = Architecture(
    embeddings="h.0.input",
    layer="h.{i}",
    attention="attn",
    parts=("attn.c_attn",),
    heads={},
    final="ln_f",
)
ARCHITECTURES: dict[str, Architecture] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": _DISTILBERT,
    "modernbert": _MODERNBERT,
    **dict.fromkeys(
        (
            "llama",
            "mistral",
            "qwen2",
            "qwen3",
            "smollm3",
            "gemma",
            "gemma2",
            "gemma3_text",
            "granite",
            "cohere",
            "olmo",
            "olmo2",
            "olmo3",
            "stablelm",
            "starcoder2",
        ),
        _LLAMA,
    ),
    "phi": _PHI,
    "phi3": _PHI3,
    "gpt2": _GPT2,
}


def layer_taps(config: Any, prefix: str = "", head: str | None = None) -> dict[str, str]:
    """The taps of a model by the same names for all architectures: tap name -> path, as
    :class:`kdlab.models.taps.Taps` reads it.

    Args:
        config: of the model, by transformers.
        prefix: the path of the layers' module with a dot at its end; empty if the model is that module.
        head: of an encoder, for ``pooled`` and ``embedding``: ``classification``, ``tokens`` or ``masked_lm``; None:
            neither.

    >>> from transformers import BertConfig
    >>> taps = layer_taps(BertConfig(num_hidden_layers=2), "bert.", "classification")
    >>> taps["hidden0"], taps["hidden2"], taps["attention1"]
    ('bert.embeddings', 'bert.encoder.layer.1', 'bert.encoder.layer.0.attention.self[1]')
    """
    kind = ARCHITECTURES.get(config.model_type)
    if kind is None:
        return {}
    taps = {"hidden0": f"{prefix}{kind.embeddings}"}
    ends = [0, *accumulate(_widths(config))]
    for number in range(1, config.num_hidden_layers + 1):
        layer = prefix + kind.layer.format(i=number - 1)
        taps[f"hidden{number}"] = layer
        taps[f"attention{number}"] = f"{layer}.{kind.attention}[1]"
        for place, part in enumerate(PARTS):
            taps[f"{part}{number}"] = (
                f"{layer}.{kind.parts[place]}"
                if len(kind.parts) == len(PARTS)
                else f"{layer}.{kind.parts[0]}[{ends[place]}:{ends[place + 1]}]"
            )
    if kind.final is not None:
        taps[f"hidden{config.num_hidden_layers}"] = f"{prefix}{kind.final}"
    return {**taps, **(kind.heads[head] if head else {})}


def _widths(config: Any) -> tuple[int, int, int]:
    """The widths of queries, keys and values. Several heads of queries may share one of keys and values."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    shared = (getattr(config, "num_key_value_heads", None) or heads) * width
    return heads * width, shared, shared


def attention_heads(network: Any) -> int | None:
    """The number of attention heads, from the config that models of transformers have; None where there is none.

    Args:
        network: such a model, a :class:`kdlab.models.TextEncoder`, or any other network.
    """
    number = getattr(getattr(network, "config", None), "num_attention_heads", None)
    return number if isinstance(number, int) else None
