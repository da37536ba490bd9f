"""A causal language model's initial weights from a larger one: chosen layers, also narrower
(:mod:`kdlab.models.decoder_narrowing`).

A weight becomes ``rows.T @ weight @ columns``, a bias ``rows.T @ bias``. Equal sizes are copied bit for bit. Both
models have one architecture, of those in :data:`kdlab.models.decoder_layers.MODULES`, and the same settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .causal import CausalModel
from .decoder_layers import (
    ARGUMENTS,
    HEAD,
    LINEAR,
    MODULES,
    NORMS,
    embedding_names,
    final_path,
    is_rotary,
    layer_path,
    parameters_of,
    sizes_of,
    state_of,
)
from .decoder_narrowing import DecoderNarrowing, NarrowNorm, decoder_narrowing
from .inheritance import Inherited, chosen_layers
from .lora import merged, plain_name
from .narrowing import mapped

#: settings of a config with which equal weights are another function
_SETTINGS = (
    *("rope_parameters", "rms_norm_eps", "layer_norm_epsilon", "hidden_act", "activation_function"),
    *("attention_bias", "mlp_bias", "use_sliding_window", "sliding_window"),
    *("scale_attn_weights", "scale_attn_by_inverse_layer_idx"),
)


def decoder_needs_batch(student: nn.Module, teacher: nn.Module) -> bool:
    """Whether the student is narrower than the teacher."""
    return sizes_of(_decoder(student, "student")) != sizes_of(_decoder(teacher, "teacher"))


@torch.no_grad()
def inherit_decoder(
    student: nn.Module,
    teacher: nn.Module,
    layers: str | Sequence[int],
    narrow: str,
    embeddings: bool,
    head: bool,
    inputs: Any,
) -> Inherited:
    """Fills a causal language model with chosen layers of another, in place, as
    :func:`kdlab.models.initialisation.inherit` with two of :class:`CausalModel`. The norm after the last layer is
    always taken over.

    Raises:
        ValueError: the models do not fit.
    """
    mine, theirs = _decoder(student, "student"), _decoder(merged(teacher), "teacher")
    numbers = chosen_layers(layers, mine.config.num_hidden_layers, theirs.config.num_hidden_layers)
    _check_settings(mine, theirs)
    _check_sizes(mine, theirs)
    _check_words(mine, theirs, embeddings, head)
    done = Inherited(numbers, lines=_other_kinds(mine, theirs, numbers))
    tied = bool(mine.config.tie_word_embeddings)
    # a layer norm's shift would need a bias of the head, which has none
    maps = decoder_narrowing(mine, theirs, numbers, narrow, inputs, head and not tied and is_rotary(theirs))
    done.narrowed = maps.lines
    if maps.width is not None and narrow == "projection" and tied and is_rotary(theirs):
        done.lines.append(
            "the head has the matrix of the embeddings, so the last norm is only fitted; with student.tied=false the "
            "projection takes its scale into the head"
        )
    filled = _Filled(mine)
    _layers(filled, theirs, numbers, maps)
    state = state_of(theirs)
    for which in ("weight", "bias"):
        if (name := f"{final_path(theirs)}.{which}") in state:
            norm = maps.norms.get(final_path(theirs))
            filled.put(f"{final_path(mine)}.{which}", _of_norm(norm, which, state[name]))
    if embeddings:
        _embeddings(filled, theirs, state, maps.width, done)
    if head and not tied:
        weight = _reading(state[f"{HEAD}.weight"], maps.norms.get(final_path(theirs)))
        filled.put(f"{HEAD}.weight", mapped(weight, None, maps.width), rows=True)
    done.new = filled.left()
    return done


class _Filled:
    """The parameters of a student that are filled."""

    def __init__(self, model: CausalModel):
        self.model, self.state = model, state_of(model)
        self.names: set[str] = set()

    def put(self, name: str, value: Tensor, view: Tensor | None = None, rows: bool = False) -> None:
        """Fill a parameter.

        Args:
            view: of it; None: the whole.
            rows: fill so many rows as both have. Those beyond the tokens of the tokenizer mean nothing.
        """
        place = self.state[name] if view is None else view
        count = min(len(place), len(value)) if rows else len(place)
        place[:count].copy_(value[:count] if rows else value)
        self.names.add(name)

    def left(self) -> list[str]:
        """The names of the model's parameters that are not filled."""
        places = {self.state[name].data_ptr() for name in self.names}
        return [
            name
            for name, value in self.model.named_parameters()
            if "lora_" not in name
            and plain_name(name).removeprefix("network.") not in self.names
            and value.data_ptr() not in places
        ]


# -- parts of the model ------------------------------------------------------------------------------------------------


def _layers(filled: _Filled, theirs: CausalModel, numbers: list[int], maps: DecoderNarrowing) -> None:
    mine, state = filled.model, state_of(theirs)
    kind, dimensions = mine.config.model_type, [{**one, "width": maps.width} for one in maps.layers]
    for own, (number, of) in enumerate(zip(numbers, dimensions), start=1):
        norms = {part: maps.norms.get(layer_path(theirs, number, part)) for part in NORMS}
        for part in MODULES[kind]:
            source = {which: value for which, (_, value) in parameters_of(theirs, state, number, part).items()}
            if part in LINEAR:
                rows, columns, reads = LINEAR[part]
                norm = norms[reads] if reads else None
                found = {"weight": mapped(_reading(source["weight"], norm), of[rows], of[columns])}
                if "bias" in source:
                    found["bias"] = mapped(_biased(source["bias"], source["weight"], norm), of[rows])
                if part == "query":
                    found = {which: value * _of_scores(mine, theirs, own, number) for which, value in found.items()}
            else:  # the norms of a head's queries and keys stay as they are
                found = {which: _of_norm(norms.get(part), which, value) for which, value in source.items()}
            for which, (name, view) in parameters_of(mine, filled.state, own, part).items():
                filled.put(name, found[which], view)


def _of_scores(mine: CausalModel, theirs: CausalModel, own: int, number: int) -> float:
    """The factor of queries: scores of heads of another width are divided by another root, and some models divide them
    by the number of the layer."""
    config, factor = mine.config, 1.0
    small, large = (sizes_of(one)["width of a head"] for one in (mine, theirs))
    if small != large and getattr(config, "scale_attn_weights", True):
        factor *= (small / large) ** 0.5
    return factor * own / number if getattr(config, "scale_attn_by_inverse_layer_idx", False) else factor


def _of_norm(norm: NarrowNorm | None, which: str, value: Tensor) -> Tensor:
    """Scale (``weight``) or shift (``bias``) of a norm."""
    if norm is None:
        return value
    fitted = norm.scale if which == "weight" else norm.shift
    return value if fitted is None else fitted.to(value)


def _reading(weight: Tensor, norm: NarrowNorm | None) -> Tensor:
    """The matrix ``(rows, D)`` of a layer that reads a norm, with the scale that goes into it."""
    if norm is None or norm.absorbed is None:
        return weight
    return (weight.double() * norm.absorbed[0].to(weight.device)).to(weight.dtype)


def _biased(bias: Tensor, weight: Tensor, norm: NarrowNorm | None) -> Tensor:
    """The bias of a layer that reads a norm, with the shift that goes into it."""
    if norm is None or norm.absorbed is None or (shift := norm.absorbed[1]) is None:
        return bias
    return (bias.double() + weight.double() @ shift.to(weight.device)).to(bias.dtype)


def _embeddings(
    filled: _Filled, theirs: CausalModel, state: dict[str, Tensor], width: Tensor | None, done: Inherited
) -> None:
    (words, places), (their_words, their_places) = embedding_names(filled.model), embedding_names(theirs)
    filled.put(words, mapped(state[their_words], None, width), rows=True)
    if places is None or their_places is None:
        return
    filled.put(places, mapped(state[their_places], None, width), rows=True)
    count = len(state[their_places])
    if count < len(filled.state[places]):
        done.lines.append(f"the teacher has {count} positions; those after them are new and random")


# -- what does not fit -------------------------------------------------------------------------------------------------


def _decoder(network: nn.Module, role: str) -> CausalModel:
    if not isinstance(network, CausalModel):
        raise ValueError(
            f"layers are taken over between two causal language models or two text encoders, and the {role} is a "
            f"{type(network).__name__}; choose student=llama, and teacher=causal or a run of one"
        )
    kind = network.config.model_type
    if kind not in MODULES:
        raise ValueError(
            f"the {role} is a model of type {kind}; layers are taken over between causal language models of type "
            f"{', '.join(MODULES)}. A pretrained model can keep some of its layers: student=causal "
            "student.keep_layers=…"
        )
    state = state_of(network)
    weight = parameters_of(network, state, 1, "query")["weight"][1]
    if not weight.is_floating_point():
        raise ValueError(
            f"the weights of the {role} are quantised ({str(weight.dtype).removeprefix('torch.')}); layers are taken "
            "over from a model that is loaded in full"
        )
    return network


def _check_settings(mine: CausalModel, theirs: CausalModel) -> None:
    """Raises ValueError where equal weights would be another function."""
    kinds = mine.config.model_type, theirs.config.model_type
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the student is a model of type {kinds[0]} and the teacher of type {kinds[1]}; layers are taken over "
            f"between models of one type: student.architecture={kinds[1]}"
        )
    other = {
        name: getattr(theirs.config, name, None)
        for name in _SETTINGS
        if getattr(theirs.config, name, None) != getattr(mine.config, name, None)
    }
    if not other:
        return
    own = ", ".join(f"{name}={_text(getattr(mine.config, name, None))}" for name in other)
    cure = (
        "take a new student, which can have them: student=llama"
        if hasattr(mine, "pretrained_weights")
        else f"'+student.options={_text(other)}'"
    )
    raise ValueError(
        f"the teacher computes with {', '.join(f'{name}={_text(value)}' for name, value in other.items())}, and the "
        f"student with {own}, so the same weights would be another function; {cure}"
    )


def _text(value: Any) -> str:
    """A setting, as it is typed."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _check_sizes(mine: CausalModel, theirs: CausalModel) -> None:
    small, large = sizes_of(mine), sizes_of(theirs)
    for name, size in small.items():
        if size > large[name] and not (is_rotary(mine) and name == "width of a head"):
            has = " ".join(f"student.{ARGUMENTS[one]}={large[one]}" for one in _arguments(theirs))
            raise ValueError(
                f"the student has {name} {size} and the teacher {large[name]}; a student takes over layers of a "
                f"teacher that is at least as wide, with as many heads. The teacher has {has}"
            )
    if is_rotary(mine) and small["width of a head"] != large["width of a head"]:
        raise ValueError(
            f"a head has width {small['width of a head']} in the student and {large['width of a head']} in the "
            "teacher; rotary positions turn its halves at frequencies that depend on its width, so heads are taken "
            f"over whole: student.head_width={large['width of a head']}"
        )
    each = [one["heads"] // one["heads of keys and values"] for one in (small, large)]
    if each[0] > each[1]:
        heads, most = small["heads"], large["heads of keys and values"]
        fit = [number for number in range(1, most + 1) if heads % number == 0 and heads // number <= each[1]]
        cure = f"student.key_value_heads={fit[0]}" if fit else f"student.heads={each[1]} student.key_value_heads=1"
        raise ValueError(
            f"{each[0]} heads of the student share keys and values and {each[1]} of the teacher; a group is taken over "
            f"with as many heads or fewer: {cure}"
        )


def _arguments(model: CausalModel) -> list[str]:
    """The sizes that a new student of this architecture can be given."""
    return list(ARGUMENTS) if is_rotary(model) else ["width", "heads", "neurons"]


def _check_words(mine: CausalModel, theirs: CausalModel, embeddings: bool, head: bool) -> None:
    tied = [bool(one.config.tie_word_embeddings) for one in (mine, theirs)]
    if (embeddings or (head and not tied[0])) and mine.vocabulary != theirs.vocabulary:
        raise ValueError(
            f"the student has a vocabulary of {mine.vocabulary} tokens and the teacher one of {theirs.vocabulary}: "
            "their embeddings do not fit; student.initial.embeddings=false student.initial.head=false leaves them new"
        )
    if embeddings and head and tied[0] and not tied[1]:
        raise ValueError(
            "the teacher's head has a matrix of its own, and the student's has that of the embeddings; "
            "student.tied=false, or student.initial.head=false keeps the embeddings for both"
        )


def _other_kinds(mine: CausalModel, theirs: CausalModel, numbers: list[int]) -> list[str]:
    """Notes on layers whose attention is of another kind than in the teacher."""
    kinds: list[Any] = [getattr(one.config, "layer_types", None) for one in (mine, theirs)]
    if None in kinds:
        return []
    return [
        f"layer {own} of the student has {kinds[0][own - 1]}, and the teacher's layer {number} {kinds[1][number - 1]}"
        for own, number in enumerate(numbers, start=1)
        if kinds[0][own - 1] != kinds[1][number - 1]
    ]
