r"""Maps from the dimensions of a causal language model to those of a narrower student.

As for encoders (:mod:`kdlab.models.narrowing`), each kind of dimension has a map, a matrix ``(teacher, student)``:

| dimension | ``narrow=importance`` | ``narrow=projection`` |
| --- | --- | --- |
| width | the most active ones of the norms' outputs | the principal components of the norms' inputs |
| heads, neurons | the most active ones of each layer | the same |

The activity of a dimension is the mean of its absolute activation over tokens, that of the width added up over all
norms: Muralidharan et al. (2024), "Compact Language Models via Pruning and Knowledge Distillation" (Minitron),
https://arxiv.org/abs/2407.14679, section 2.2. All layers add to one stream, so the width has one map.

Queries that share keys and values are a group. Groups are chosen first, then so many heads within each. Where positions
are rotations, the two halves of a head turn together, at frequencies that depend on its width. So heads stay whole.

**Norms.** A norm over :math:`d` of :math:`D` dimensions has another root mean square. With ``importance``, the scale
(and the shift of a layer norm) of each dimension is fitted to the teacher's output by least squares over tokens:

.. math:: \gamma'_j \,\mathrm{norm}(x W)_j \approx (\gamma \,\mathrm{norm}(x))_j

It is :math:`\gamma \sqrt{D / d}` where the other dimensions are always 0. Of a layer norm, the mean output of the
dimensions that are left out goes into the biases of the layers that read it.

With ``projection``, a scale of each dimension would not survive the rotation. It is multiplied into the layers that
read the norm, whose matrices :math:`A` become :math:`A \,\mathrm{diag}(\gamma) W`, and one number is left of the norm:
a rotation changes no root mean square (Ashkboos et al. 2024, "SliceGPT", https://arxiv.org/abs/2401.15024,
section 3.1). A layer norm also subtracts the mean. So its components are those of centred inputs, one fewer than the
student has dimensions, in a basis whose vectors have the mean 0. A head that shares the matrix of the
embeddings cannot take the scale of the last norm, which is then fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .calling import call
from .causal import CausalModel
from .decoder_layers import NORMS, final_path, is_rotary, layer_path, sizes_of
from .narrowing import Maps, largest, maps_of_heads, principal, selection
from .taps import Taps

_ROWS = 4  # texts that are read at a time: values of all layers are kept for no more
_NONE = ("queries", "keys", "values", "contexts", "neurons")


@dataclass(frozen=True)
class NarrowNorm:
    """A norm of a narrower student.

    Args:
        scale: ``(d,)``.
        shift: ``(d,)``; None: it has none.
        absorbed: what goes into the layers that read the norm: a factor of each of their columns ``(D,)``, and values
            that they read in addition ``(D,)``, which go into their biases; None: nothing.
    """

    scale: Tensor
    shift: Tensor | None = None
    absorbed: tuple[Tensor, Tensor | None] | None = None


@dataclass(frozen=True)
class DecoderNarrowing:
    """How a teacher's parameters become those of a student.

    Args:
        width: the map of the width; None: the widths are equal.
        layers: for each layer of the student, the maps of its other dimensions.
        norms: by their paths in the teacher; empty where the width stays as it is.
        lines: what is narrowed, as text.
    """

    width: Tensor | None
    layers: list[Maps]
    norms: dict[str, NarrowNorm] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def decoder_narrowing(
    mine: CausalModel, theirs: CausalModel, numbers: list[int], narrow: str, inputs: Any, head_absorbs: bool
) -> DecoderNarrowing:
    """The maps for a student that takes over the given layers of a teacher.

    Args:
        numbers: the teacher's layers, counted from 1.
        narrow: ``importance`` or ``projection``.
        inputs: of a batch, as the teacher reads it, on which activations are measured.
        head_absorbs: whether the head can take the scale of the last norm.

    Raises:
        ValueError: the student is narrower, and there are no inputs.
    """
    small, large = sizes_of(mine), sizes_of(theirs)
    if small == large:
        return DecoderNarrowing(None, [dict.fromkeys(_NONE) for _ in numbers])
    if inputs is None:
        raise ValueError("a narrower student needs inputs, on which the teacher's activations are measured")
    lines = [
        f"{name} {large[name]} to {small[name]} ({narrow if name == 'width' else 'importance'})"
        for name in small
        if small[name] != large[name]
    ]
    norms = {} if small["width"] == large["width"] else _norms(theirs, numbers)
    seen = _Activity(theirs, numbers, norms, narrow, inputs)
    layers = [_maps_of_layer(seen.activity, number, small, large, is_rotary(theirs)) for number in numbers]
    if not norms:
        return DecoderNarrowing(None, layers, {}, lines)
    width = seen.width(small["width"])
    absorbing = set(norms) if narrow == "projection" else set()
    if not head_absorbs:
        absorbing.discard(final_path(theirs))
    return DecoderNarrowing(width, layers, _narrow_norms(theirs, norms, width, absorbing, inputs), lines)


def _norms(theirs: CausalModel, numbers: list[int]) -> dict[str, Any]:
    """The norms that read the stream, by their paths below ``network``."""
    paths = [layer_path(theirs, number, part) for number in dict.fromkeys(numbers) for part in NORMS]
    return {path: theirs.network.get_submodule(path) for path in (*paths, final_path(theirs))}


def _seen(theirs: CausalModel, paths: Mapping[str, str], inputs: Any) -> Iterator[dict[str, Tensor]]:
    """For a few texts at a time, values ``(N, …)`` of all tokens that are no padding, on the CPU in double precision.

    Args:
        paths: name -> path, as :class:`Taps` reads it.
    """
    taps, before = Taps(theirs, paths, paths), theirs.training
    theirs.eval()
    try:
        for start in range(0, len(inputs["input_ids"]), _ROWS):
            part = {name: value[start : start + _ROWS] for name, value in inputs.items()}
            with theirs.lazily(), taps as features:  # without logits, which nobody reads
                call(theirs, part)
            mask = part.get("attention_mask")
            counts = torch.ones_like(part["input_ids"]) if mask is None else mask
            yield {name: value[counts != 0].cpu().double() for name, value in features.items()}
    finally:
        theirs.train(before)


class _Activity:
    """What is measured of a teacher: the mean absolute activation of each dimension, and what the map of the width is
    made of.

    Attributes:
        activity: ``out1``, ``down1``, … and with learned positions ``query1``, ``key1``: mean absolute values.
    """

    def __init__(self, theirs: CausalModel, numbers: list[int], norms: Mapping[str, Any], narrow: str, inputs: Any):
        self._narrow = narrow
        self._centred = any(isinstance(norm, nn.LayerNorm) for norm in norms.values())
        paths: dict[str, str] = {}
        for number in dict.fromkeys(numbers):
            paths[f"out{number}"] = f"network.{layer_path(theirs, number, 'out')}.input"
            paths[f"down{number}"] = f"network.{layer_path(theirs, number, 'down')}.input"
            if not is_rotary(theirs):
                paths |= {f"{part}{number}": theirs.taps[f"{part}{number}"] for part in ("query", "key")}
        sums: dict[str, Tensor] = {}
        tokens, total = 0, torch.zeros(())
        for features in _seen(theirs, {**paths, **{path: f"network.{path}.input" for path in norms}}, inputs):
            tokens += len(features[next(iter(paths))])
            for name in paths:
                sums[name] = sums.get(name, 0) + features[name].abs().sum(0)
            for path, norm in norms.items():
                x = normalised(norm, features[path])
                total = total + (x.T @ x if narrow == "projection" else (_scale(norm) * x).abs().sum(0))
        self.activity = {name: value / tokens for name, value in sums.items()}
        self._total = total

    def width(self, count: int) -> Tensor:
        """The map of the width ``(D, count)``."""
        if self._narrow == "importance":
            return selection(largest(self._total, count), len(self._total))
        if self._centred:  # the direction of the mean comes last
            mean = self._total.trace() / len(self._total)
            return principal(self._total - mean, count - 1) @ helmert(count)
        return principal(self._total, count)


def helmert(count: int) -> Tensor:
    """Orthonormal rows ``(count - 1, count)`` whose mean is 0.

    >>> helmert(3)
    tensor([[ 0.7071, -0.7071,  0.0000],
            [ 0.4082,  0.4082, -0.8165]], dtype=torch.float64)
    """
    numbers = torch.arange(1, count).double()
    rows = torch.ones(count - 1, count).double().tril() - torch.diag(numbers, 1)[:-1]
    return rows / (numbers * (numbers + 1)).sqrt()[:, None]


def _maps_of_layer(
    activity: dict[str, Tensor], number: int, small: dict[str, int], large: dict[str, int], rotary: bool
) -> Maps:
    """The maps of heads and neurons."""
    out, down = activity[f"out{number}"], activity[f"down{number}"]
    if rotary:
        queries, keys = _whole_heads(out, small, large)
        found = {"queries": queries, "keys": keys, "values": keys, "contexts": queries}
    else:
        heads = maps_of_heads(activity[f"query{number}"], activity[f"key{number}"], out, small, large)
        found = dict.fromkeys(("queries", "keys"), heads["scores"])
        found |= dict.fromkeys(("values", "contexts"), heads["values"])
    same = small["neurons"] == large["neurons"]
    return {**found, "neurons": None if same else selection(largest(down, small["neurons"]), large["neurons"])}


def _whole_heads(out: Tensor, small: dict[str, int], large: dict[str, int]) -> tuple[Tensor | None, Tensor | None]:
    """The maps of queries and of keys, of heads that are kept as they are: the most active groups, and the most active
    heads in each."""
    names = ("heads", "heads of keys and values")
    if all(small[name] == large[name] for name in names):
        return None, None
    width, groups = large["width of a head"], large[names[1]]
    activity = out.view(groups, large["heads"] // groups, width).sum(-1)
    kept, each = largest(activity.sum(1), small[names[1]]), small["heads"] // small[names[1]]
    heads = torch.cat([group * activity.shape[1] + largest(activity[group], each) for group in kept.tolist()])

    def dimensions(places: Tensor) -> Tensor:
        return (places[:, None] * width + torch.arange(width)).flatten()

    return selection(dimensions(heads), len(out)), selection(dimensions(kept), groups * width)


def normalised(norm: Any, x: Tensor) -> Tensor:
    """The outputs of a norm before scale and shift ``(N, D)``; x may have another number of dimensions.

    >>> normalised(nn.RMSNorm(2, eps=0.0), torch.tensor([[3.0, 4.0]]))
    tensor([[0.8485, 1.1314]])
    """
    if isinstance(norm, nn.LayerNorm):
        return nn.functional.layer_norm(x, x.shape[-1:], eps=norm.eps)
    eps = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def _scale(norm: Any) -> Tensor:
    return norm.weight.detach().cpu().double()


def _shift(norm: Any) -> Tensor | None:
    bias = getattr(norm, "bias", None)
    return None if bias is None else bias.detach().cpu().double()


def _of_teacher(norm: Any, x: Tensor) -> Tensor:
    """The teacher's outputs of values that are normalised already."""
    shift = _shift(norm)
    return _scale(norm) * x if shift is None else _scale(norm) * x + shift


def _narrow_norms(
    theirs: CausalModel, norms: Mapping[str, Any], width: Tensor, absorbing: set[str], inputs: Any
) -> dict[str, NarrowNorm]:
    """The student's norms.

    Args:
        absorbing: the paths of norms whose scale goes into the layers that read them.
    """
    fits, sums = {path: _Fit() for path in norms}, dict.fromkeys(norms, torch.zeros(len(width)).double())
    for features in _seen(theirs, {path: f"network.{path}.input" for path in norms}, inputs):
        for path, norm in norms.items():
            whole, narrow = normalised(norm, features[path]), normalised(norm, features[path] @ width)
            wanted = whole if path in absorbing else _of_teacher(norm, whole)
            fits[path].add(narrow, wanted @ width)
            sums[path] = sums[path] + wanted.sum(0)
    found: dict[str, NarrowNorm] = {}
    count = width.shape[1]
    for path, norm in norms.items():
        scale, shift = _scale(norm), _shift(norm)
        if path in absorbing:
            one = torch.full((count,), fits[path].of_all())
            found[path] = NarrowNorm(one, None if shift is None else torch.zeros(count), (scale, shift))
            continue
        usual = (len(width) / count) ** 0.5 * (scale @ width.square())
        if shift is None:
            found[path] = NarrowNorm(fits[path].slope(usual))
            continue
        mean = sums[path] / fits[path].count
        left_out = mean - width @ (width.T @ mean)  # its mean goes into the bias of what reads it
        found[path] = NarrowNorm(*fits[path].line(usual), (torch.ones_like(scale), left_out))
    return found


class _Fit:
    """Sums over tokens for least squares of each dimension: what is wanted, by the student's normalised values."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, x: Tensor, wanted: Tensor) -> None:
        """Adds tokens ``(N, d)``."""
        self.count += len(x)
        for name, value in (("x", x), ("y", wanted), ("xx", x * x), ("xy", x * wanted)):
            self.sums[name] = self.sums.get(name, 0) + value.sum(0)

    def of_all(self) -> float:
        """One factor for all dimensions."""
        return float(self.sums["xy"].sum() / self.sums["xx"].sum())

    def slope(self, usual: Tensor) -> Tensor:
        """A factor for each dimension; ``usual`` where its values are always 0."""
        square = self.sums["xx"]
        return torch.where(square > 1e-9 * self.count, self.sums["xy"] / square, usual)

    def line(self, usual: Tensor) -> tuple[Tensor, Tensor]:
        """A factor and a shift for each dimension; the factor ``usual`` where its values do not vary."""
        x, y = (self.sums[name] / self.count for name in ("x", "y"))
        variance = self.sums["xx"] / self.count - x * x
        factor = torch.where(variance > 1e-9, (self.sums["xy"] / self.count - x * y) / variance, usual)
        return factor, y - factor * x
