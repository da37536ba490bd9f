r"""Memory and operations of a training step of a causal language model, before anything is loaded.

The networks are on torch's ``meta`` device (:func:`kdlab.models.published.planned`): they have shapes and no values. A
step reads B texts of T tokens on each device. V is the vocabulary, N the number of weights that multiply each token.

| function | counts | is |
| --- | --- | --- |
| :func:`weight_bytes` | :math:`\sum` numbers x bytes of their type, of parameters and buffers | exact |
| :func:`gradient_bytes` | the same sum over the parameters that are trained | exact |
| :func:`optimizer_bytes` | the tensors that the optimiser itself keeps after a step | exact |
| :func:`activations` | what autograd keeps for the backward pass, up to the last hidden state | 0.99 to 1.03 of a run |
| :func:`logits_bytes` | logits, their gradients and what the loss terms compute of them | an upper bound |
| :func:`forward_bytes` | the tensors of a forward pass without gradients, at one time | 0.9 to 1.1 of a run |
| :func:`step_flops` | :math:`6 N B T` and what attention adds | exact for matrix products |

What is not counted: the workspace of operations, memory that the allocator holds back, the device's own context (about
half a gigabyte of a GPU), texts that are generated, and what a Trainer's callbacks keep.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from kdlab.chunks import BLOCK
from kdlab.models import CausalModel

from .memory import tensors_at_once

#: tensors of the size rows x vocabulary in float32 that exist at one time, the student's logits among them
DENSE, DENSE_TAUGHT = 4, 13
#: the same where rows get logits a part at a time: of a part, and of the block of it that is compared
OF_PART, OF_PART_TAUGHT, OF_BLOCK, OF_BLOCK_TAUGHT = 1, 2, 3, 8


def weight_bytes(network: nn.Module) -> int:
    """Bytes of a network's parameters and buffers in their types. Tied weights count once.

    >>> weight_bytes(nn.Linear(3, 2))
    32
    """
    return _bytes([*network.parameters(), *network.buffers()])


def gradient_bytes(network: nn.Module) -> int:
    """Bytes of the gradients of the parameters that are trained: each has the type of its parameter."""
    return _bytes(one for one in network.parameters() if one.requires_grad)


def optimizer_bytes(make: Callable[..., torch.optim.Optimizer], network: nn.Module) -> int | None:
    """Bytes of the tensors that an optimiser keeps: it takes one step on the ``meta`` device.

    Args:
        make: called with ``params=``.

    Returns:
        None if it cannot take a step there (fused ones, and those that need a closure).

    >>> optimizer_bytes(torch.optim.AdamW, nn.Linear(3, 2))      # two numbers for each of 8, and two counters of steps
    72
    """
    parameters = [
        nn.Parameter(torch.empty_like(one, device="meta")) for one in network.parameters() if one.requires_grad
    ]
    try:
        made = make(params=parameters)
        for one in parameters:
            one.grad = torch.empty_like(one)
        made.step()
    except Exception:  # an optimiser of the user's own may fail in any way
        return None
    return _bytes(one for state in made.state.values() for one in tree_leaves(state) if isinstance(one, Tensor))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)


@dataclass(frozen=True)
class Activations:
    """What a forward pass keeps for the backward pass, in bytes.

    Args:
        whole: with all values of all layers.
        checkpointed: with gradient checkpointing: the inputs of all layers, and the values of one layer, which are
            computed again. None: the model does not support it.
        copies: weights in half precision, which mixed precision keeps for the backward pass; 0 in other precisions.
    """

    whole: int
    checkpointed: int | None
    copies: int


def activations(model: CausalModel, texts: int, tokens: int, half: torch.dtype | None = None) -> Activations:
    """The bytes of the distinct tensors that autograd keeps of a forward pass up to the last hidden state, found by
    running it on the ``meta`` device. Parameters and buffers are not among them.

    Fused attention keeps queries, keys, values, its output, the log-sum-exp of each row in float32, and the mask of
    each text in the type of the queries: :math:`B T^2` numbers a layer. Texts of one length need no mask. The
    implementation ``eager`` keeps its probabilities, :math:`B T^2` numbers a head.

    Args:
        model: on the ``meta`` device.
        texts: B.
        tokens: T, of a text.
        half: the type of mixed precision, in which matrix products read and write; None: the model's own.
    """
    network = model.network
    before = is_checkpointed(model)
    network.train()
    try:
        _checkpoint(network, False)
        whole, copies = _kept(model, texts, tokens, half)
        checkpointed = None
        if network.supports_gradient_checkpointing:
            _checkpoint(network, True)
            inputs, _ = _kept(model, texts, tokens, half)
            checkpointed = inputs + whole // model.config.num_hidden_layers
    finally:
        _checkpoint(network, before)
    return Activations(whole, checkpointed, copies)


def _checkpoint(network: Any, wanted: bool) -> None:
    """Switches gradient checkpointing on or off."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of names that later versions of transformers change
        if wanted:
            network.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            network.gradient_checkpointing_disable()


def is_checkpointed(model: CausalModel) -> bool:
    """Whether a model computes its layers again in the backward pass."""
    return any(getattr(one, "gradient_checkpointing", False) for one in model.network.modules())


def _kept(model: CausalModel, texts: int, tokens: int, half: torch.dtype | None) -> tuple[int, int]:
    """The bytes that autograd keeps, and those of weights in half precision."""
    own = {_place(one) for one in (*model.network.parameters(), *model.network.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(value: Tensor) -> None:
        kept.setdefault(_place(value), value.detach())

    # no backward pass will ask for what is kept
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), _Fused(half) as fused:
        keep(_hidden(model, texts, tokens))
    copies = {_place(one): one for one in fused.copies.values()}
    values = [one for place, one in kept.items() if place not in own and place not in copies]
    return _storage_bytes(values), _storage_bytes(list(copies.values()))


def _hidden(model: CausalModel, texts: int, tokens: int) -> Tensor:
    """The last hidden states, on the ``meta`` device. The mask has the form that models take as it is."""
    kind = next(model.network.parameters()).dtype
    ids = torch.zeros(texts, tokens, dtype=torch.long, device="meta")
    mask = torch.zeros(texts, 1, tokens, tokens, dtype=kind, device="meta")
    found: Tensor = model.network.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return found


def _place(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def _storage_bytes(values: Sequence[Tensor]) -> int:
    return sum(one.untyped_storage().nbytes() for one in values)


#: what mixed precision computes in half precision
_HALVED = {
    F.linear,
    F.scaled_dot_product_attention,
    torch.addmm,
    torch.baddbmm,
    torch.bmm,
    torch.matmul,
    torch.mm,
    Tensor.__matmul__,
    Tensor.matmul,
}


class _Fused(TorchFunctionMode):
    """Replaces attention by one that keeps what a fused kernel keeps: on the ``meta`` device torch would take the one
    that keeps all probabilities. With ``half``, it also casts like autocast, which does not know this device.

    Args:
        half: the type of mixed precision; None: nothing is cast.
    """

    def __init__(self, half: torch.dtype | None):
        super().__init__()
        self.half = half
        #: weights in half precision, by the identity of the weight
        self.copies: dict[int, Tensor] = {}

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.half is not None and function in _HALVED:
            args, kwargs = tree_map(self._cast, (args, kwargs))
        if function is F.scaled_dot_product_attention:
            given = {**dict(zip(("query", "key", "value", "attn_mask"), args)), **kwargs}
            return _Attention.apply(given["query"], given["key"], given["value"], given.get("attn_mask"))
        return function(*args, **kwargs)

    def _cast(self, value: object) -> object:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(self.half)
        if id(value) not in self.copies:
            self.copies[id(value)] = value.to(self.half)
        return self.copies[id(value)]


class _Attention(torch.autograd.Function):
    """Attention without values."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        texts, heads, tokens, _ = query.shape
        output = query.new_empty(texts, tokens, heads, value.shape[-1]).transpose(1, 2)  # the layout of the kernels
        sums = query.new_empty(texts, heads, tokens, dtype=torch.float32)
        bias = [] if mask is None else [query.new_empty(mask.shape)]
        ctx.save_for_backward(query, key, value, output, sums, *bias)
        return output

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Any:
        raise NotImplementedError("without values there are no gradients")


def forward_bytes(model: CausalModel, texts: int, tokens: int, half: torch.dtype | None = None) -> int:
    """The most bytes of tensors that exist at one time in a forward pass without gradients, up to the last hidden
    state, without parameters and buffers. Found by running it on the ``meta`` device.

    Args:
        model, texts, tokens, half: as of :func:`activations`.
    """
    model.network.eval()
    with torch.no_grad(), _Fused(half):
        return tensors_at_once([*model.parameters(), *model.buffers()], lambda: _hidden(model, texts, tokens))


def logits_bytes(
    rows: int, vocabulary: int, taught: bool, rows_at_once: int | None = None, device: str = "cuda"
) -> int:
    r"""Bytes of logits, their gradients, and what the loss terms compute of them, in float32: an upper bound for the
    divergences of kdlab and cross-entropy together.

    All rows at once: :math:`4 k R V` with k = 13 (4 where no term learns from a teacher). With ``rows_at_once`` r
    (:mod:`kdlab.chunks`): :math:`4 V (k r + m \min(r, b / V))` with k = 2 and m = 8 (1 and 3), and b logits that are
    compared at a time. Jensen-Shannon takes all of it, forward and reverse KL and total variation 0.6 to 0.8.

    Args:
        rows: R, tokens with a label; at most B x T.
        vocabulary: V.
        taught: whether a term learns from a teacher's logits of all words.
        rows_at_once: ``task.rows_at_once``; None: all.
        device: its type, for b.

    >>> logits_bytes(2048, 49152, True) / logits_bytes(2048, 49152, True, 256) > 8
    True
    """
    if rows_at_once is None:
        return 4 * rows * vocabulary * (DENSE_TAUGHT if taught else DENSE)
    part = min(rows_at_once, rows)
    block = min(part, max(BLOCK.get(device, BLOCK["other"]) // vocabulary, 1))
    whole, compared = (OF_PART_TAUGHT, OF_BLOCK_TAUGHT) if taught else (OF_PART, OF_BLOCK)
    return 4 * vocabulary * (part * whole + block * compared)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a step on one device, two for a multiplication and its addition.

    Args:
        forward, backward: of the student.
        again: what gradient checkpointing computes a second time.
        teacher: its forward pass.
        attention: the part of all these that is the product of queries with keys, and of probabilities with values.
    """

    forward: int
    backward: int
    again: int = 0
    teacher: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.forward + self.backward + self.again + self.teacher


def multiplied(model: CausalModel) -> tuple[int, int]:
    """N, the weights that multiply each token: all but the tables of embeddings, and the head, also where it is such a
    table. And how many of them are trained."""
    tables = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
    weights = [one for one in model.parameters() if one.dim() > 1 and id(one) not in tables]
    if id(model.head.weight) in tables:
        weights.append(model.head.weight)  # type: ignore[arg-type]
    return sum(one.numel() for one in weights), sum(one.numel() for one in weights if one.requires_grad)


def attention_flops(model: CausalModel, texts: int, tokens: int) -> int:
    r"""What attention adds to the products with weights in a forward pass: :math:`4 B T^2` times layers, heads and the
    width of a head. The whole square is counted; kernels that leave out what the causal mask hides do half of it."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 4 * texts * tokens**2 * config.num_hidden_layers * config.num_attention_heads * width


def step_flops(student: CausalModel, teachers: Sequence[CausalModel], texts: int, tokens: int) -> Flops:
    r"""Operations of a step: forward :math:`2 N D + A`, backward :math:`2 (N + N_t) D + 2 A`, a teacher
    :math:`2 N D + A`, with D = B T tokens, :math:`N_t` of the student's weights that are trained, and A of
    :func:`attention_flops`. A student whose weights are all trained takes 6 N D + 3 A. Gradient checkpointing adds a
    forward pass without the head."""
    number, attention = texts * tokens, attention_flops(student, texts, tokens)
    weights, trained = multiplied(student)
    forward = 2 * weights * number + attention
    again = forward - 2 * student.head.weight.numel() * number  # type: ignore[operator, union-attr]
    again = again if is_checkpointed(student) else 0
    theirs = [attention_flops(one, texts, tokens) for one in teachers]
    return Flops(
        forward,
        2 * (weights + trained) * number + 2 * attention,
        again,
        sum(2 * multiplied(one)[0] * number + own for one, own in zip(teachers, theirs)),
        attention * (4 if again else 3) + sum(theirs),
    )
