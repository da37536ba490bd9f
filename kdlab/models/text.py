"""Text encoders of Hugging Face, pretrained or new, with heads and taps."""

from __future__ import annotations

import inspect
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from kdlab.errors import did_you_mean

from .architectures import ARCHITECTURES, layer_taps
from .hub import head_names, load_model, names_of_classes, quiet, read_config, unfilled
from .lora import add_lora
from .pretrained import note_weights
from .transformer import ATTENTIONS, Transformer, check_choices, check_options, check_sizes

#: head -> the class of transformers that adds it to the encoder
HEADS = {
    "classification": "AutoModelForSequenceClassification",
    "tokens": "AutoModelForTokenClassification",
    "masked_lm": "AutoModelForMaskedLM",
    "embedding": "AutoModel",
}
#: the architectures of new, random encoders
NEW = ("bert", "distilbert", "roberta", "modernbert")
POOLINGS = ("mean", "cls")


class TextEncoder(Transformer):
    """A transformer encoder with a head: pretrained (``pretrained=…``), or new and random (``architecture=…`` with its
    sizes).

    | ``head`` | output |
    | --- | --- |
    | ``classification`` | logits of a text ``(B, classes)``; with ``classes=1`` a predicted value |
    | ``tokens`` | logits of each token ``(B, T, classes)`` |
    | ``masked_lm`` | logits of each token ``(B, T, vocabulary)`` |
    | ``embedding`` | a vector for each text ``(B, D)`` |

    Taps (the attribute ``taps``; layers are counted from 1):

    | tap | shape | is |
    | --- | --- | --- |
    | ``hidden0`` | ``(B, T, D)`` | the output of the embeddings |
    | ``hidden1`` … | ``(B, T, D)`` | the output of a layer; the last one after the final norm, if there is one |
    | ``attention1`` … | ``(B, heads, T, T)`` | attention probabilities; in training after their dropout |
    | ``query1``, ``key1``, ``value1`` … | ``(B, T, D)`` | a layer's projections (ModernBERT: before rotary positions) |
    | ``pooled`` | ``(B, D)`` | classification: after the head's hidden layer; embedding: the mean, or the first token |
    | ``embedding`` | ``(B, D)`` or ``(B, T, D)`` | the input of the head's last linear layer; embedding: the output |

    BERT, RoBERTa (also XLM-R, CamemBERT), DistilBERT and ModernBERT have them all, without ``pooled`` for other heads.
    For other architectures use module paths (``network.…``). If a loss asks for attention probabilities, the attention
    is computed by the implementation ``eager``, the only one that returns them.

    Args:
        pretrained: hub name ("bert-base-uncased") or folder.
        architecture: bert, distilbert, roberta or modernbert: a new encoder with random weights.
        head: see above.
        classes: number of classes, for the heads ``classification`` and ``tokens``; None: as many as the pretrained
            head has. A pretrained head of another number of classes is replaced by an untrained one. For the head
            ``embedding``, the width of the vectors: where the encoder has another width, a new linear layer maps its
            vectors to it, and is kept with the network. None: the encoder's width.
        vocabulary: number of tokens of the tokenizer; for a new encoder.
        layers, width, heads: sizes of a new encoder; ``heads`` must divide ``width``.
        intermediate: width within the feed-forward layers of a new encoder; None: four times ``width``.
        positions: the largest number of tokens of a new encoder.
        options: further fields of the config of transformers for a new encoder, for example {"hidden_act": "relu"}.
        pooling: ``mean`` over the tokens that the mask selects, or ``cls``, the first token; for the head
            ``embedding``.
        normalise: divide the vectors of the head ``embedding`` by their length.
        padding: id of the tokenizer's padding token; None: that of the pretrained model, or 0 for a new one.
        attention: ``sdpa`` or ``eager``, the implementations of transformers.
        revision: branch, tag or commit of the hub; give a commit for a run that others can repeat.
        allow_pickle: also load weights that are stored as pickles (pytorch_model.bin).
        trust_remote_code: run Python code that the pretrained model brings with it.
        lora: train low-rank adapters and the head alone: {"rank": 8, "alpha": 16, "targets": ["query", "value"]}
            (:func:`kdlab.models.lora.add_lora`). None: all parameters are trained.

    The attribute ``pretrained_weights`` of a pretrained encoder holds the number of ``classes`` of the weights, and the
    parameters that they leave ``unfilled``: none, or the head. ``class_names`` are the names of the classes in the
    model's own order, or None.

    Raises:
        ValueError: the model cannot be loaded, is no text encoder, or a size is missing or does not fit.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        architecture: str | None = None,
        head: str = "classification",
        classes: int | None = None,
        vocabulary: int | None = None,
        layers: int | None = None,
        width: int | None = None,
        heads: int | None = None,
        intermediate: int | None = None,
        positions: int = 512,
        options: dict[str, Any] | None = None,
        pooling: str = "mean",
        normalise: bool = False,
        padding: int | None = None,
        attention: str = "sdpa",
        revision: str | None = None,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
        lora: dict[str, Any] | None = None,
    ):
        super().__init__()
        import transformers

        check_choices(head=(head, HEADS), pooling=(pooling, POOLINGS), attention=(attention, ATTENTIONS))
        if (pretrained is None) == (architecture is None):
            raise ValueError(
                "give either pretrained (a hub name or folder) or architecture (a new encoder with random weights)"
            )
        self.head = head
        kind = getattr(transformers, HEADS[head])
        if pretrained is not None:
            sizes = {"layers": layers, "width": width, "heads": heads, "intermediate": intermediate, "options": options}
            if given := [name for name, value in sizes.items() if value is not None]:
                raise ValueError(
                    f"{given[0]}: a pretrained encoder has its own sizes; leave it out, or describe a new encoder by "
                    "architecture and let it begin with layers of a pretrained one (initial=teacher_layers)"
                )
            config = read_config(pretrained, revision, trust_remote_code)
            _check_kind(pretrained, config, kind, head)
            self.network = self._pretrained(
                kind, pretrained, config, classes, revision, trust_remote_code, allow_pickle, attention
            )
        else:
            fields = {"layers": layers, "width": width, "heads": heads, "vocabulary": vocabulary}
            if head in ("classification", "tokens"):
                fields["classes"] = classes
            if absent := [name for name, value in fields.items() if value is None]:
                hint = "; it is the number of tokens of the data's tokenizer, for example vocabulary=30522"
                raise ValueError(
                    f"{absent[0]}: a new encoder needs {', '.join(fields)}{hint if absent[0] == 'vocabulary' else ''}"
                )
            self.network = _new(
                kind, cast(str, architecture), fields, intermediate, positions, padding or 0, options, attention
            )
        if lora is not None:
            paths = {*head_names(self.network), *(name for name in self.network.state_dict() if "pooler." in name)}
            add_lora(self.network, self.config.model_type, lora, paths if head != "embedding" else set())
        if padding is None:
            padding = getattr(self.config, "pad_token_id", None)
        self.prepare(padding)
        if head == "embedding":
            own = self.config.hidden_size
            self.pooling, self.scaling = Pooling(pooling), Normalise() if normalise else nn.Identity()
            self.projection = nn.Identity() if classes in (None, own) else nn.Linear(own, cast(int, classes))
        self.taps = self._taps()

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes in the order of the head; None where the model has none."""
        return names_of_classes(self.config)

    def _pretrained(
        self,
        kind: Any,
        pretrained: str,
        config: Any,
        classes: int | None,
        revision: str | None,
        trust_remote_code: bool,
        allow_pickle: bool,
        attention: str,
    ) -> Any:
        """The network with its weights; notes what they do not fill."""
        known = config.num_labels
        options: dict[str, Any] = {"attn_implementation": attention}
        if self.head in ("classification", "tokens") and classes not in (None, known):
            options |= {"num_labels": classes, "ignore_mismatched_sizes": True}
        if self.head == "embedding" and "add_pooling_layer" in _arguments(kind, config):
            options["add_pooling_layer"] = False  # its output is not read
        network, found = load_model(kind, pretrained, revision, trust_remote_code, allow_pickle, **options)
        new, mismatched = unfilled(network, found)
        # models that learned masked tokens only have no pooler, which belongs to the head of a classifier
        pooler = {name for name in network.state_dict() if ".pooler." in f".{name}"}
        head = {*head_names(network), *pooler} if self.head != "embedding" else set()
        note_weights(
            self,
            pretrained,
            known if self.head in ("classification", "tokens") and (mismatched or not new) else None,
            [f"network.{name}" for name in new],
            [f"network.{name}" for name in head],
        )
        return network

    def _taps(self) -> dict[str, str]:
        if self.head == "embedding":
            return {**layer_taps(self.config, "network."), "pooled": "pooling", "embedding": "scaling"}
        taps = layer_taps(self.config, f"{self.network.base_model_prefix}.", self.head)
        return {name: f"network.{path}" for name, path in taps.items()}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **others: Any,
    ) -> Tensor:
        """The output of the head, see the class.

        An input that the model's ``forward`` does not name is ignored. ``token_type_ids`` are ignored, too, where the
        model has fewer than two types (DistilBERT, RoBERTa, ModernBERT).

        Args:
            input_ids: tokens ``(B, T)``.
            attention_mask: 1 for tokens, 0 for padding ``(B, T)``; None: there is no padding.
            token_type_ids: number of the segment of each token ``(B, T)``.

        Raises:
            ValueError: there are more tokens than the model has positions. In the first call also: a token is outside
                the vocabulary, or padding has another token than the model expects.
        """
        self.check_tokens(input_ids, attention_mask, self.config.vocab_size)
        given = {name: value for name, value in others.items() if name in self._inputs}
        if token_type_ids is not None and "token_type_ids" in self._inputs:
            given["token_type_ids"] = token_type_ids
        kind = ARCHITECTURES.get(self.config.model_type)
        if kind is not None and kind.positions_follow_padding and attention_mask is not None:
            # transformers finds padding by its token, kdlab by the mask; they agree where the tokenizer is the model's
            counts = attention_mask.long()
            given.setdefault("position_ids", counts.cumsum(1) * counts + self.config.pad_token_id)
        answer = self.network(input_ids=input_ids, attention_mask=attention_mask, **given)
        if self.head == "embedding":
            return self.scaling(self.projection(self.pooling(answer.last_hidden_state, attention_mask)))
        return answer.logits


class Pooling(nn.Module):
    """One vector ``(B, D)`` of hidden states ``(B, T, D)``.

    Args:
        kind: ``mean`` over the positions that the mask selects, or ``cls``, the first position.

    >>> import torch
    >>> states = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> Pooling("mean")(states, torch.tensor([[1, 1, 0]])), Pooling("cls")(states)
    (tensor([[2.]]), tensor([[1.]]))
    """

    def __init__(self, kind: str = "mean"):
        super().__init__()
        self.kind = kind

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """The pooled vectors; without a mask, all positions count."""
        if self.kind == "cls":
            return states[:, 0]
        if mask is None:
            return states.mean(1)
        weights = mask.to(states.dtype)[..., None]
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


class Normalise(nn.Module):
    """Vectors divided by their Euclidean length."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors of length 1 ``(B, D)``."""
        return F.normalize(vectors, dim=-1)


def _arguments(kind: Any, config: Any) -> set[str]:
    """The arguments of the class that ``kind`` chooses for a config; empty if that is the model's own code."""
    mapping = kind._model_mapping
    return set(inspect.signature(mapping[type(config)].__init__).parameters) if type(config) in mapping else set()


def _check_kind(model: str, config: Any, kind: Any, head: str) -> None:
    """Raises ValueError for a model that is no text encoder, or has no class with the head."""
    from transformers import AutoModelForMaskedLM

    if getattr(config, "auto_map", None):
        return
    names = ", ".join(getattr(config, "architectures", None) or [config.model_type])
    if type(config) not in AutoModelForMaskedLM._model_mapping or config.is_encoder_decoder:
        raise ValueError(
            f"'{model}' is a model of type {config.model_type} ({names}), which is no text encoder such as "
            f"{', '.join(NEW)}; image classifiers are loaded with student=huggingface (or teacher=huggingface)"
        )
    if type(config) not in kind._model_mapping:
        raise ValueError(f"head={head}: transformers has none for models of type {config.model_type} ('{model}')")


def _new(
    kind: Any,
    architecture: str,
    sizes: dict[str, int | None],
    intermediate: int | None,
    positions: int,
    padding: int,
    options: dict[str, Any] | None,
    attention: str,
) -> Any:
    """A new encoder with random weights."""
    from transformers import AutoConfig

    if architecture not in NEW:
        raise ValueError(
            f"architecture must be one of {', '.join(NEW)}, got {architecture!r}{did_you_mean(architecture, NEW)}"
        )
    check_sizes(sizes)
    width, heads, vocabulary = cast(int, sizes["width"]), cast(int, sizes["heads"]), cast(int, sizes["vocabulary"])
    if architecture == "modernbert" and width // heads % 2:
        raise ValueError(f"modernbert needs an even width of a head, got width / heads = {width // heads}")
    if not 0 <= padding < vocabulary:
        raise ValueError(f"padding must be a token of the vocabulary of {vocabulary}, got {padding}")
    fields: dict[str, Any] = {
        "num_hidden_layers": sizes["layers"],
        "hidden_size": width,
        "num_attention_heads": heads,
        "hidden_dim" if architecture == "distilbert" else "intermediate_size": intermediate or 4 * width,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "pad_token_id": padding,
        "num_labels": sizes.get("classes", 2),
    }
    if architecture == "roberta":
        fields |= {"max_position_embeddings": positions + padding + 1, "type_vocab_size": 1}
    usual = AutoConfig.for_model(architecture)
    check_options(usual, options, fields)
    with quiet():
        special = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
        absent = {name: None for name in special if (getattr(usual, name, None) or 0) >= vocabulary}
        config = AutoConfig.for_model(architecture, **{**absent, **fields, **(options or {})})
        extra = {"add_pooling_layer": False} if _arguments(kind, config) >= {"add_pooling_layer"} else {}
        return kind.from_config(config, attn_implementation=attention, **extra)
