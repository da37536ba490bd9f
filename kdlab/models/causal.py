"""Causal language models of Hugging Face, pretrained or new, with taps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdlab.errors import did_you_mean
from kdlab.outputs import LazyLogits

from .architectures import ARCHITECTURES, layer_taps
from .generation import left_padded
from .head import LanguageHead, scaled_logits
from .hub import load_model, quiet, read_config, unfilled
from .inheritance import chosen_layers
from .lora import add_lora
from .pretrained import note_weights
from .quantised import check_bits, quantised
from .transformer import ATTENTIONS, Transformer, check_choices, check_options, check_sizes

#: the architectures of new, random models
NEW = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gpt2")


class CausalModel(Transformer):
    """A causal language model: pretrained (``pretrained=…``), or new and random (``architecture=…`` with its sizes).

    Its output is the logits of the next token ``(B, T, vocabulary)``. Tokens see themselves, the tokens before them,
    and no padding. A model may have more columns than its tokenizer has tokens; those are left out, so no probability
    goes to them.

    Taps (the attribute ``taps``; layers are counted from 1):

    | tap | shape | is |
    | --- | --- | --- |
    | ``hidden0`` | ``(B, T, D)`` | the input of the first layer |
    | ``hidden1`` … | ``(B, T, D)`` | the output of a layer; the last one after the final norm |
    | ``attention1`` … | ``(B, heads, T, T)`` | attention probabilities; in training after their dropout |
    | ``query1``, ``key1``, ``value1`` … | ``(B, T, …)`` | a layer's projections, before rotary positions |

    Keys and values are narrower than queries where several heads share them. For architectures that are not in
    :mod:`kdlab.models.architectures` use module paths (``network.…``).

    Args:
        pretrained: hub name ("HuggingFaceTB/SmolLM2-135M"), folder, or a GGUF file (:mod:`kdlab.models.gguf`; its
            weights are put into float32).
        architecture: llama, mistral, qwen2, qwen3, gemma2 or gpt2: a new model with random weights.
        keep_layers: of a pretrained model, keep so many layers, spread from the first to the last, or those with these
            numbers, counted from 1. None: all.
        vocabulary: number of tokens of the tokenizer; None: all columns of a pretrained model.
        layers, width, heads: sizes of a new model; ``heads`` must divide ``width``.
        key_value_heads: heads of keys and values of a new model; None: ``heads``. It must divide ``heads``.
        head_width: width of a head of a new model; None: ``width / heads``. GPT-2 has no other.
        intermediate: width within the feed-forward layers of a new model; None: four times ``width``.
        positions: the largest number of tokens of a new model.
        tied: whether the head of a new model has the weights of the embeddings.
        options: further fields of the config of transformers for a new model, for example {"rms_norm_eps": 1e-5}.
        attention: ``sdpa`` or ``eager``, the implementations of transformers; None: its own choice.
        revision: branch, tag or commit of the hub; give a commit for a run that others can repeat.
        allow_pickle: also load weights that are stored as pickles (pytorch_model.bin).
        trust_remote_code: run Python code that the pretrained model brings with it.
        gradient_checkpointing: compute each layer again in the backward pass, in place of keeping its values: less
            memory, more time.
        lora: train low-rank adapters alone: {"rank": 8, "alpha": 16, "targets": ["query", "value"]}
            (:func:`kdlab.models.lora.add_lora`). None: all parameters are trained.
        bits: 8 or 4: a pretrained model with weights of so many bits, which cannot be trained
            (:func:`kdlab.models.quantised.quantised`). None: float32.

    Raises:
        ValueError: the model cannot be loaded, is no causal language model, or a size is missing or does not fit.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        architecture: str | None = None,
        keep_layers: int | Sequence[int] | None = None,
        vocabulary: int | None = None,
        layers: int | None = None,
        width: int | None = None,
        heads: int | None = None,
        key_value_heads: int | None = None,
        head_width: int | None = None,
        intermediate: int | None = None,
        positions: int = 512,
        tied: bool = True,
        options: dict[str, Any] | None = None,
        attention: str | None = None,
        revision: str | None = None,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
        gradient_checkpointing: bool = False,
        lora: dict[str, Any] | None = None,
        bits: int | None = None,
    ):
        super().__init__()
        if attention is not None:
            check_choices(attention=(attention, ATTENTIONS))
        if (pretrained is None) == (architecture is None):
            raise ValueError(
                "give either pretrained (a hub name, a folder or a .gguf file) or architecture (a new model with "
                "random weights)"
            )
        check_bits(bits, pretrained, {"lora": lora, "gradient_checkpointing": gradient_checkpointing})
        #: of the weights of linear layers, if they are rounded
        self.bits = bits
        sizes = {"layers": layers, "width": width, "heads": heads, "intermediate": intermediate, "options": options}
        sizes["head_width"] = head_width
        if pretrained is not None:
            if given := [name for name, value in sizes.items() if value is not None]:
                raise ValueError(
                    f"{given[0]}: a pretrained model has its own sizes; leave it out, or describe a new model by "
                    "architecture"
                )
            self.network = self._pretrained(pretrained, revision, trust_remote_code, allow_pickle, attention, bits)
            if keep_layers is not None:
                _keep_layers(self.network, keep_layers)
        else:
            if keep_layers is not None:
                raise ValueError("keep_layers is for a pretrained model; a new one has as many layers as layers says")
            self.network = _new(
                cast(str, architecture),
                {"layers": layers, "width": width, "heads": heads, "vocabulary": vocabulary},
                {
                    "num_key_value_heads": key_value_heads or heads,
                    "head_dim": head_width,
                    "intermediate_size": intermediate,
                    "max_position_embeddings": positions,
                    "tie_word_embeddings": tied,
                },
                options,
                attention,
            )
        columns = self.config.vocab_size
        if vocabulary is not None and vocabulary > columns:
            raise ValueError(
                f"vocabulary={vocabulary}: the model has only {columns} tokens, so the tokenizer is another than the "
                "model's"
            )
        self.vocabulary = columns if vocabulary is None else vocabulary
        if lora is not None:
            add_lora(self.network, self.config.model_type, lora, set())
        if gradient_checkpointing:
            self.network.gradient_checkpointing_enable({"use_reentrant": False})
        self.prepare(None)
        prefix = f"{self.network.base_model_prefix}."
        taps = layer_taps(self.config, prefix)
        self.taps = {name: f"network.{path}" for name, path in taps.items()}
        self._lazy, self._can_be_lazy = False, self._head_is_known()
        self._separates = self._texts_are_apart()

    def _pretrained(
        self,
        pretrained: str,
        revision: str | None,
        trust_remote_code: bool,
        allow_pickle: bool,
        attention: str | None,
        bits: int | None,
    ) -> Any:
        """The network with its weights."""
        from transformers import AutoModelForCausalLM

        config = read_config(pretrained, revision, trust_remote_code)
        if not getattr(config, "auto_map", None) and (
            type(config) not in AutoModelForCausalLM._model_mapping
            or config.is_encoder_decoder
            or getattr(config, "is_decoder", None) is False
            and type(config) in _encoders()
        ):
            names = ", ".join(getattr(config, "architectures", None) or [config.model_type])
            raise ValueError(
                f"'{pretrained}' is a model of type {config.model_type} ({names}), which is no causal language model "
                f"such as {', '.join(NEW)}; text encoders are loaded with student=encoder (or teacher=encoder)"
            )
        if not hasattr(config, "num_attention_heads"):
            raise ValueError(
                f"'{pretrained}' is a model of type {config.model_type}, which has no attention; that is not supported"
            )
        network, found = load_model(
            AutoModelForCausalLM,
            pretrained,
            revision,
            trust_remote_code,
            allow_pickle,
            attn_implementation=attention,
            **({} if bits is None else quantised(bits)),
        )
        new, _ = unfilled(network, found)
        note_weights(self, pretrained, None, [f"network.{name}" for name in new], [])
        return network

    @property
    def head(self) -> nn.Module:
        """The linear layer from the last hidden state to logits."""
        return self.network.get_output_embeddings()

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits ``(…, vocabulary)`` of last hidden states ``(…, D)``, scaled and capped as the model's own."""
        return scaled_logits(self.head(hidden)[..., : self.vocabulary], **self.scaling)

    @property
    def scaling(self) -> dict[str, float]:
        """What is done with the head's outputs: arguments of :func:`kdlab.models.head.scaled_logits`."""
        names = {
            "factor": "logit_scale",
            "divisor": "logits_scaling",
            "cap": "final_logit_softcapping",
        }
        return {name: float(value) for name, key in names.items() if (value := getattr(self.config, key, None))}

    def head_alone(self) -> LanguageHead | None:
        """The head as a network of its own, with the same weights; None where it is more than a linear layer."""
        head = self.head
        if not self._can_be_lazy or type(head) is not nn.Linear:
            return None
        return LanguageHead(head.weight, head.bias, self.vocabulary, **self.scaling)

    def _head_is_linear(self) -> bool:
        """Whether :meth:`logits` is the head alone, and the head a plain linear layer over the whole vocabulary."""
        further = ("logit_scale", "logits_scaling", "final_logit_softcapping")
        plain = type(self.head) is nn.Linear and self.head.out_features == self.vocabulary
        return plain and not any(getattr(self.config, name, None) for name in further)

    @torch.no_grad()
    def _head_is_known(self) -> bool:
        """Whether :meth:`logits` of the hidden states are the logits that the model itself computes."""
        if self.head is None or next(self.network.parameters()).is_meta:
            return self.head is not None
        training = self.network.training
        self.network.eval()
        ids = torch.arange(2, device=next(self.network.parameters()).device)[None] % self.config.vocab_size
        own = self.network(input_ids=ids, use_cache=False).logits[..., : self.vocabulary]
        hidden = self.network.base_model(input_ids=ids, use_cache=False).last_hidden_state
        self.network.train(training)
        return bool(torch.allclose(self.logits(hidden), own, rtol=1e-4, atol=1e-5))

    @torch.no_grad()
    def _texts_are_apart(self) -> bool:
        """Whether tokens of a row see those of their own text alone, if the places of texts are given. It is tried with
        architectures that are not in :mod:`kdlab.models.architectures`: another first text must change nothing."""
        if "position_ids" not in self._inputs:
            return False
        if self.config.model_type in ARCHITECTURES or next(self.network.parameters()).is_meta:
            return True
        training = self.network.training
        self.network.eval()
        device = next(self.network.parameters()).device
        ids = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]], device=device) % self.config.vocab_size
        places = torch.tensor([[0, 1, 0, 1]] * 2, device=device)
        logits = self.network(input_ids=ids, position_ids=places, use_cache=False).logits[:, 2:]
        self.network.train(training)
        return bool((logits[0] - logits[1]).abs().max() <= 1e-4 * logits.abs().max())

    @contextmanager
    def lazily(self) -> Iterator[None]:
        """Within this context, the model answers with :class:`kdlab.outputs.LazyLogits`: the last hidden states, and
        the head that maps them to logits. So logits are computed only of the positions that count. A model whose head
        is more than that answers with logits, as always."""
        self._lazy = self._can_be_lazy
        try:
            yield
        finally:
            self._lazy = False

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **others: Any,
    ) -> Any:
        """Logits of the next token, see the class. An input that the model's ``forward`` does not name is ignored.

        Args:
            input_ids: tokens ``(B, T)``.
            attention_mask: 1 for tokens, 0 for padding ``(B, T)``; None: there is no padding.
            position_ids: the place of each token in its text ``(B, T)``; None: as the tokens are counted. Where the
                places begin again at 0, another text begins in the same row, and its tokens do not see those before.

        Raises:
            ValueError: there are more tokens than the model has positions, or texts are packed and the model does not
                keep them apart. In the first call also: a token is outside
                the vocabulary.
        """
        self.check_tokens(input_ids, attention_mask, self.vocabulary)
        if position_ids is not None and not self._separates:
            raise ValueError(
                f"packed rows: in a model of type {self.config.model_type}, tokens see other texts of their row; "
                "data.packed=false"
            )
        given = {name: value for name, value in others.items() if name in self._inputs and name != "token_type_ids"}
        given["use_cache"] = False
        if position_ids is not None:
            given["position_ids"] = position_ids
        if self._lazy:
            answer = self.network.base_model(input_ids=input_ids, attention_mask=attention_mask, **given)
            return LazyLogits(
                answer.last_hidden_state, self.logits, tuple(self.head.parameters()), linear=self._head_is_linear()
            )
        return self.network(input_ids=input_ids, attention_mask=attention_mask, **given).logits[..., : self.vocabulary]

    def cached(self, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """For :func:`kdlab.models.generation.generate`: the logits of the token after each prompt ``(B, vocabulary)``,
        and a function that takes those tokens ``(B, 1)`` and returns the logits of the next ones. Keys and values of
        what was read are kept.

        Args:
            prompts: ``(B, P)``, filled up on the right.
            lengths: tokens of each prompt ``(B,)``.
        """
        ids, mask, places = left_padded(prompts, lengths)
        self.check_tokens(ids, None, self.vocabulary)
        kept: Any = None
        name = "cache" if "cache" in self._inputs else "past_key_values"  # its older name in transformers

        def read(ids: Tensor, places: Tensor) -> Tensor:
            nonlocal kept
            found = self.network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=places,
                use_cache=True,
                **{name: kept},
                **({"logits_to_keep": 1} if "logits_to_keep" in self._inputs else {}),
            )
            kept = getattr(found, name)
            return found.logits[:, -1, : self.vocabulary]

        def following(tokens: Tensor) -> Tensor:
            nonlocal mask, places
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            places = places[:, -1:] + 1
            return read(tokens, places)

        return read(ids, places), following


def _keep_layers(network: Any, layers: int | Sequence[int]) -> None:
    """Leave out all other layers of a model, in place.

    Raises:
        ValueError: the numbers do not fit the model, or its layers are not known.
    """
    kind = ARCHITECTURES.get(network.config.model_type)
    if kind is None:
        known = ", ".join(name for name, one in ARCHITECTURES.items() if not one.heads)
        raise ValueError(f"keep_layers: the layers of {network.config.model_type} are not known (known: {known})")
    number = network.config.num_hidden_layers
    if isinstance(layers, int):
        if isinstance(layers, bool) or not 1 <= layers <= number:
            raise ValueError(f"keep_layers must be from 1 to {number}, the model's layers, got {layers}")
        layers = chosen_layers("spread", layers, number)
    else:
        layers = chosen_layers(layers, len(layers), number)
    parent, _, name = kind.layer.removesuffix(".{i}").rpartition(".")
    owner = network.base_model.get_submodule(parent)
    kept = nn.ModuleList(getattr(owner, name)[one - 1] for one in layers)
    if len({id(one) for one in kept}) < len(kept):
        raise ValueError(f"keep_layers must differ, got {list(layers)}")
    for place, layer in enumerate(kept):
        for module in layer.modules():  # the place of its keys and values in generation
            if hasattr(module, "layer_idx"):
                cast(Any, module).layer_idx = place
    setattr(owner, name, kept)
    config = network.config
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[one - 1] for one in layers]
    config.num_hidden_layers = len(kept)


def _encoders() -> Any:
    from transformers import AutoModelForMaskedLM

    return AutoModelForMaskedLM._model_mapping


def _new(
    architecture: str,
    sizes: dict[str, int | None],
    further: dict[str, Any],
    options: dict[str, Any] | None,
    attention: str | None,
) -> Any:
    """A new model with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if architecture not in NEW:
        raise ValueError(
            f"architecture must be one of {', '.join(NEW)}, got {architecture!r}{did_you_mean(architecture, NEW)}"
        )
    if absent := [name for name, value in sizes.items() if value is None]:
        hint = "; it is the number of tokens of the data's tokenizer, for example vocabulary=49152"
        raise ValueError(
            f"{absent[0]}: a new model needs {', '.join(sizes)}{hint if absent[0] == 'vocabulary' else ''}"
        )
    check_sizes(sizes)
    width, heads = cast(int, sizes["width"]), cast(int, sizes["heads"])
    if heads % further["num_key_value_heads"]:
        raise ValueError(
            f"key_value_heads must divide heads, got key_value_heads={further['num_key_value_heads']} and heads={heads}"
        )
    given = further.pop("head_dim")
    head_width = width // heads if given is None else given
    if not isinstance(head_width, int) or isinstance(head_width, bool) or head_width < 1:
        raise ValueError(f"head_width must be a whole number of at least 1, got {given!r}")
    if architecture != "gpt2" and head_width % 2:
        got = "width / heads" if given is None else "head_width"
        raise ValueError(f"{architecture} needs an even width of a head, got {got} = {head_width}")
    fields: dict[str, Any] = {
        "num_hidden_layers": sizes["layers"],
        "hidden_size": width,
        "num_attention_heads": heads,
        "vocab_size": sizes["vocabulary"],
        **further,
        "intermediate_size": further["intermediate_size"] or 4 * width,
    }
    usual = AutoConfig.for_model(architecture)
    if architecture == "gpt2":
        if further["num_key_value_heads"] != heads:
            raise ValueError("key_value_heads: every head of gpt2 has keys and values of its own; leave it out")
        if head_width != width // heads:
            raise ValueError(f"head_width: a head of gpt2 has width / heads = {width // heads}; leave it out")
        del fields["num_key_value_heads"]
        fields["n_inner"] = fields.pop("intermediate_size")
    if hasattr(usual, "head_dim") or given is not None and architecture != "gpt2":
        fields["head_dim"] = head_width
    check_options(usual, options, fields)
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    # those of the config's defaults are of another tokenizer: one of them would be taken for the end of an answer
    absent_tokens = dict.fromkeys(special)
    with quiet():
        config = AutoConfig.for_model(architecture, **{**absent_tokens, **fields, **(options or {})})
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention)
