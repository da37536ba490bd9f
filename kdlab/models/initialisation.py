"""A student's initial weights from a teacher: chosen layers, also of a teacher with more dimensions.

The student may have fewer layers, a smaller width, fewer attention heads, narrower heads and narrower feed-forward
layers. Each kind of dimension has a map from the teacher's to the student's (:mod:`kdlab.models.narrowing`), a matrix
``(teacher, student)``. A weight becomes ``rows.T @ weight @ columns``, a bias ``rows.T @ bias``. Equal sizes are copied
bit for bit. In a head whose hidden layer has the width, the rows of ``narrow=projection`` are mixed before the
nonlinearity, so such a head is only a beginning. Causal language models: :mod:`kdlab.models.decoder_initialisation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdlab.errors import did_you_mean

from .causal import CausalModel
from .decoder_initialisation import decoder_needs_batch, inherit_decoder
from .encoder_layers import DIMENSIONS, MODULES, QUERY, layer_modules, layer_path, prefix_of, sizes_of
from .inheritance import NARROW, Inherited, chosen_layers
from .lora import merged, plain_name
from .narrowing import Narrowing, mapped, narrowing_of
from .text import TextEncoder


def needs_batch(student: nn.Module, teacher: nn.Module) -> bool:
    """Whether the student is narrower than the teacher, so that :func:`inherit` needs samples."""
    if isinstance(student, CausalModel) or isinstance(teacher, CausalModel):
        return decoder_needs_batch(student, teacher)
    return sizes_of(_encoder(student, "student")) != sizes_of(_encoder(teacher, "teacher"))


@torch.no_grad()
def inherit(
    student: nn.Module,
    teacher: nn.Module,
    layers: str | Sequence[int] = "spread",
    narrow: str = "importance",
    embeddings: bool = True,
    head: bool = True,
    inputs: Any = None,
) -> Inherited:
    """Fills a student with chosen layers of a teacher, in place.

    Args:
        student, teacher: :class:`kdlab.models.TextEncoder` of any of BERT, RoBERTa and DistilBERT (two of ModernBERT
            must have the same width), or two :class:`kdlab.models.CausalModel` of one architecture.
        layers: see :func:`chosen_layers`.
        narrow: ``importance`` or ``projection``, for a student with fewer dimensions.
        embeddings: take over the embeddings too, with the map of the width. The segments that DistilBERT does not have
            are left out: their first vector is added to the positions.
        head: take over the parameters of the head that have the same names, and fit after narrowing.
        inputs: of a batch, as the teacher reads it; needed for a narrower student.

    Raises:
        ValueError: the networks do not fit.
    """
    if narrow not in NARROW:
        raise ValueError(f"narrow must be one of {', '.join(NARROW)}, got {narrow!r}{did_you_mean(narrow, NARROW)}")
    if isinstance(student, CausalModel) or isinstance(teacher, CausalModel):
        return inherit_decoder(student, teacher, layers, narrow, embeddings, head, inputs)
    mine, theirs = _encoder(student, "student"), _encoder(merged(teacher), "teacher")
    numbers = chosen_layers(layers, mine.config.num_hidden_layers, theirs.config.num_hidden_layers)
    done = Inherited(numbers)
    _check(mine, theirs, embeddings)
    if "modernbert" in (mine.config.model_type, theirs.config.model_type):
        filled = _copied_modernbert(mine, theirs, numbers, embeddings, done)
        maps = Narrowing([dict.fromkeys(("width",))])
    else:
        maps = narrowing_of(mine, theirs, numbers, narrow, inputs)
        done.narrowed = maps.lines
        filled = _layers(mine, theirs, numbers, maps)
        if embeddings:
            filled |= _embeddings(mine, theirs, maps, done)
    if head:
        filled |= _head(mine, theirs, maps, embeddings)
    state = _state(mine)
    for name, value in filled.items():
        state[name].copy_(value)
    tied = {value.data_ptr() for name, value in state.items() if name in filled}
    done.new = [
        name
        for name, value in mine.named_parameters()
        if "lora_" not in name
        and plain_name(name).removeprefix("network.") not in filled
        and value.data_ptr() not in tied
    ]
    return done


def _state(encoder: TextEncoder) -> dict[str, Tensor]:
    """The state of an encoder's network, by the names that it has without adapters."""
    return {plain_name(name): value for name, value in encoder.network.state_dict().items() if "lora_" not in name}


def _encoder(network: nn.Module, role: str) -> TextEncoder:
    if not isinstance(network, TextEncoder):
        raise ValueError(
            f"layers are taken over between two text encoders or two causal language models, and the {role} is a "
            f"{type(network).__name__}; choose student=bert or student=encoder, and teacher=encoder or a run of one"
        )
    if network.config.model_type not in (*MODULES, "modernbert"):
        raise ValueError(
            f"the {role} is a model of type {network.config.model_type}; layers are taken over between "
            f"{', '.join(MODULES)}, and between two of modernbert"
        )
    return network


def _check(mine: TextEncoder, theirs: TextEncoder, embeddings: bool) -> None:
    kinds = mine.config.model_type, theirs.config.model_type
    if "modernbert" in kinds and (kinds[0] != kinds[1] or sizes_of(mine) != sizes_of(theirs)):
        raise ValueError(
            f"layers of modernbert fit only a modernbert of the same sizes, got {kinds[0]} {sizes_of(mine)} and "
            f"{kinds[1]} {sizes_of(theirs)}"
        )
    large = sizes_of(theirs)
    for name, size in sizes_of(mine).items():
        if size > large[name]:
            raise ValueError(
                f"the student has {name} {size} and the teacher {large[name]}; a student takes over layers of "
                "a teacher that is at least as wide, with as many heads. The teacher has "
                f"student.width={large['width']} student.heads={large['heads']} student.intermediate={large['neurons']}"
            )
    if embeddings and mine.config.vocab_size != theirs.config.vocab_size:
        raise ValueError(
            f"the student has a vocabulary of {mine.config.vocab_size} tokens and the teacher one of "
            f"{theirs.config.vocab_size}: their embeddings do not fit; student.initial.embeddings=false leaves them new"
        )


# -- parts of the network ----------------------------------------------------------------------------------------------


def _layers(mine: TextEncoder, theirs: TextEncoder, numbers: list[int], maps: Narrowing) -> dict[str, Tensor]:
    state, filled = theirs.network.state_dict(), cast(dict[str, Tensor], {})
    for own, (number, dimensions) in enumerate(zip(numbers, maps.layers), start=1):
        for target, source, (rows, columns) in zip(layer_modules(mine, own), layer_modules(theirs, number), DIMENSIONS):
            if columns is None:
                values = maps.norm(state, source)
            else:
                values = {
                    "weight": mapped(state[f"{source}.weight"], dimensions[rows], dimensions[columns]),
                    "bias": mapped(state[f"{source}.bias"], dimensions[rows]),
                }
            filled |= {f"{target}.{name}": value for name, value in values.items()}
    # scores of heads of another width are divided by another root
    small, large = sizes_of(mine)["width of a head"], sizes_of(theirs)["width of a head"]
    if small != large:
        for own in range(1, len(numbers) + 1):
            for name in ("weight", "bias"):
                filled[f"{layer_modules(mine, own)[QUERY]}.{name}"] *= (small / large) ** 0.5
    return filled


def _offset(encoder: TextEncoder) -> int:
    """The place of the first position's vector."""
    limit = encoder.positions
    return 0 if limit is None else encoder.config.max_position_embeddings - limit


def _embeddings(mine: TextEncoder, theirs: TextEncoder, maps: Narrowing, done: Inherited) -> dict[str, Tensor]:
    state, own, width = theirs.network.state_dict(), _state(mine), maps.width
    source, target = f"{prefix_of(theirs)}embeddings", f"{prefix_of(mine)}embeddings"
    words = state[f"{source}.word_embeddings.weight"]
    filled = {f"{target}.word_embeddings.weight": mapped(words, None, width)}
    types, positions = (
        state.get(f"{source}.token_type_embeddings.weight"),
        state[f"{source}.position_embeddings.weight"],
    )
    name = f"{target}.token_type_embeddings.weight"
    if types is not None:
        if name in own and own[name].shape[0] == types.shape[0]:
            filled[name] = mapped(types, None, width)
        else:
            positions = positions + types[0]
            done.lines.append("the student has no segments, so the vector of the first is added to its positions")
            if name in own:
                filled[name] = torch.zeros_like(own[name])
    elif name in own:
        filled[name] = torch.zeros_like(own[name])
    name = f"{target}.position_embeddings.weight"
    result, start, first = own[name].clone(), _offset(mine), _offset(theirs)
    count = min(len(result) - start, len(positions) - first)
    result[start : start + count] = mapped(positions[first : first + count], None, width)
    if start and first:  # the vector of padding
        result[start - 1 : start] = mapped(positions[first - 1 : first], None, width)
    filled[name] = result
    if count < len(result) - start:
        done.lines.append(f"the teacher has {count} positions; those after them are new and random")
    norm = maps.norm(state, f"{source}.LayerNorm")
    return {**filled, **{f"{target}.LayerNorm.{key}": value for key, value in norm.items()}}


def _head(mine: TextEncoder, theirs: TextEncoder, maps: Narrowing, embeddings: bool) -> dict[str, Tensor]:
    """The head's parameters of the same names. Their dimensions of the teacher's width are mapped, so a head of other
    classes does not fit. A matrix that is the embeddings', too, is left out with them."""
    if mine.head != theirs.head or mine.config.model_type != theirs.config.model_type:
        return {}
    state, own, width = theirs.network.state_dict(), _state(mine), maps.width
    size = theirs.config.hidden_size
    encoder = _inside(theirs)
    within = {value.data_ptr() for name, value in own.items() if name.startswith(_inside(mine))}
    filled = {}
    for name, value in state.items():
        if name.startswith(encoder) or name not in own or not value.is_floating_point():
            continue
        if not embeddings and own[name].data_ptr() in within:
            continue
        path, _, part = name.rpartition(".")
        if "norm" in path.lower() and (width is None or path in maps.norms):
            value = maps.norm(state, path)[part]
        else:
            rows = width if value.shape[0] == size and own[name].shape[0] == mine.config.hidden_size else None
            columns = width if value.dim() == 2 and value.shape[1] == size else None
            value = mapped(value, rows, columns)
        if value.shape == own[name].shape:
            filled[name] = value
    pairs = {name.rpartition(".")[0] for name in own} - {name.rpartition(".")[0] for name in filled}
    return {name: value for name, value in filled.items() if name.rpartition(".")[0] not in pairs}


def _inside(encoder: TextEncoder) -> tuple[str, ...]:
    """The beginnings of the names of parameters that belong to no head."""
    parts = ("embeddings", "encoder", "transformer", "layers", "final_norm")
    return tuple(f"{prefix_of(encoder)}{part}." for part in parts)


def _copied_modernbert(
    mine: TextEncoder, theirs: TextEncoder, numbers: list[int], embeddings: bool, done: Inherited
) -> dict[str, Tensor]:
    state, own, filled = theirs.network.state_dict(), _state(mine), cast(dict[str, Tensor], {})
    for place, number in enumerate(numbers, start=1):
        source, target = f"{layer_path(theirs, number)}.", f"{layer_path(mine, place)}."
        values = {name.removeprefix(source): value for name, value in state.items() if name.startswith(source)}
        filled |= {target + name: value for name, value in values.items() if target + name in own}
        kinds = mine.config.layer_types[place - 1], theirs.config.layer_types[number - 1]
        if kinds[0] != kinds[1]:
            done.lines.append(
                f"layer {place} of the student has {kinds[0]}, and the teacher's layer {number} {kinds[1]}"
            )
        if (place == 1) != (number == 1):
            done.lines.append(
                f"layer {place} of the student and the teacher's layer {number} differ in their first norm"
            )
    for part in ("embeddings.", "final_norm.") if embeddings else ("final_norm.",):
        name = prefix_of(theirs) + part
        filled |= {
            prefix_of(mine) + key.removeprefix(prefix_of(theirs)): value
            for key, value in state.items()
            if key.startswith(name)
        }
    return filled
