r"""Maps from a teacher's dimensions to those of a narrower student.

Each kind of dimension has a map, a matrix ``(teacher, student)``:

| dimension | ``narrow=importance`` | ``narrow=projection`` |
| --- | --- | --- |
| width | the most active ones | the principal components of the hidden states |
| heads, dimensions of a head, neurons | the most active ones of each layer | the same |

The activity of a dimension is the mean of its absolute activation over tokens, as in Muralidharan et al. (2024),
"Compact Language Models via Pruning and Knowledge Distillation" (Minitron), https://arxiv.org/abs/2407.14679. That of
the width is summed over the hidden states of the embeddings and of the chosen layers.

**Layer norms.** A norm over :math:`d` of :math:`D` dimensions has another mean and another deviation. So scale and
shift of each of the student's dimensions are fitted to the teacher's output, by least squares over tokens:

.. math:: \gamma'_j \,\mathrm{norm}(x W)_j + \beta'_j \approx \big((\gamma \,\mathrm{norm}(x) + \beta)\, W\big)_j

With ``importance`` it is exact where the dimensions that are left out are always 0 and the others have the mean 0: then
:math:`\gamma' = \gamma \sqrt{D / d}`. A norm of principal components is never exact, since it mixes dimensions.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from .calling import call
from .encoder_layers import DOWN, NORMS, OUT, layer_modules, prefix_of, sizes_of
from .taps import Taps
from .text import TextEncoder

Maps = dict[str, Tensor | None]


@dataclass(frozen=True)
class Narrowing:
    """How a teacher's parameters become those of a student.

    Args:
        layers: for each layer of the student, the map of each kind of dimension; None: the sizes are equal.
        lines: what is narrowed, as text: ``width 384 to 256 (importance)``.
        norms: scale and shift of each norm, by its path in the teacher; empty where the width stays as it is.
    """

    layers: list[Maps]
    lines: list[str] = field(default_factory=list)
    norms: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def width(self) -> Tensor | None:
        """The map of the width."""
        return self.layers[0]["width"]

    def norm(self, state: dict[str, Tensor], path: str) -> dict[str, Tensor]:
        """Scale and shift of a layer norm.

        Args:
            state: of the teacher.
            path: of the norm.
        """
        names = [part for part in ("weight", "bias") if f"{path}.{part}" in state]
        if path not in self.norms:
            return {part: state[f"{path}.{part}"] for part in names}
        fitted = dict(zip(("weight", "bias"), self.norms[path]))
        return {part: fitted[part].to(state[f"{path}.{part}"]) for part in names}


def narrowing_of(mine: TextEncoder, theirs: TextEncoder, numbers: list[int], narrow: str, inputs: Any) -> Narrowing:
    """The maps for a student that takes over the given layers of a teacher.

    Args:
        numbers: the teacher's layers, counted from 1.
        narrow: ``importance`` or ``projection``.
        inputs: of a batch, as the teacher reads it, on which activations are measured.

    Raises:
        ValueError: the student is narrower, and there are no inputs.
    """
    small, large = sizes_of(mine), sizes_of(theirs)
    if small == large:
        return Narrowing([dict.fromkeys(("width", "scores", "values", "neurons")) for _ in numbers])
    if inputs is None:
        raise ValueError("a narrower student needs inputs, on which the teacher's activations are measured")
    tokens = _activations(theirs, numbers, inputs)
    lines = [
        f"{name} {large[name]} to {small[name]} ({narrow if name == 'width' else 'importance'})"
        for name in small
        if small[name] != large[name]
    ]
    width, norms = None, {}
    if small["width"] != large["width"]:
        states = [tokens["hidden0"], *(tokens[f"hidden{number}"] for number in dict.fromkeys(numbers))]
        if narrow == "projection":
            width = _components(torch.cat(states), small["width"])
        else:
            activity = torch.stack([x.abs().mean(0) for x in states]).sum(0)
            width = selection(largest(activity, small["width"]), large["width"])
        norms = {
            path: fitted(tokens[f"norm {path}"], cast(nn.LayerNorm, theirs.network.get_submodule(path)), width)
            for path in _norms(theirs, numbers)
        }
    layers = [{"width": width, **_maps_of_layer(tokens, number, small, large)} for number in numbers]
    return Narrowing(layers, lines, norms)


def _maps_of_layer(tokens: dict[str, Tensor], number: int, small: dict[str, int], large: dict[str, int]) -> Maps:
    """The maps of heads, of dimensions within them, and of neurons."""
    query, key, out, down = (tokens[f"{name}{number}"].abs().mean(0) for name in ("query", "key", "out", "down"))
    found = maps_of_heads(query, key, out, small, large)
    same = small["neurons"] == large["neurons"]
    return {**found, "neurons": None if same else selection(largest(down, small["neurons"]), large["neurons"])}


def _norms(theirs: TextEncoder, numbers: list[int]) -> list[str]:
    """The paths of the layer norms of embeddings, of layers and of the head, below ``network``."""
    base, size = prefix_of(theirs), (theirs.config.hidden_size,)
    head = [
        path
        for path, module in theirs.network.named_modules()
        if base and not path.startswith(base) and isinstance(module, nn.LayerNorm) and module.normalized_shape == size
    ]
    layers = [layer_modules(theirs, number)[place] for number in dict.fromkeys(numbers) for place in NORMS]
    return [f"{base}embeddings.LayerNorm", *layers, *head]


def _activations(theirs: TextEncoder, numbers: list[int], inputs: Any) -> dict[str, Tensor]:
    """Of all tokens that are no padding, on the CPU: hidden states, queries, keys, contexts (the input of the
    attention's output layer), neurons (that of the feed-forward's), and the inputs of norms."""
    aliases = {f"norm {path}": f"network.{path}.input" for path in _norms(theirs, numbers)}
    for number in numbers:
        modules = layer_modules(theirs, number)
        aliases[f"out{number}"] = f"network.{modules[OUT]}.input"
        aliases[f"down{number}"] = f"network.{modules[DOWN]}.input"
    names = ["hidden0", *(f"{name}{number}" for number in numbers for name in ("hidden", "query", "key"))]
    before = theirs.training
    theirs.eval()
    with Taps(theirs, [*names, *aliases], aliases) as features:
        call(theirs, inputs)
    theirs.train(before)
    seen = {name: value.cpu() for name, value in features.items()}
    mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
    counts = torch.ones(seen["hidden0"].shape[:2]) if mask is None else mask.cpu()
    return {name: value[counts != 0].double() for name, value in seen.items()}


@torch.no_grad()
def fitted(x: Tensor, norm: nn.LayerNorm, width: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift ``(d,)`` of a norm over fewer dimensions, see the module.

    Args:
        x: the inputs of the teacher's norm, of tokens ``(N, D)``.
        norm: a layer norm of D dimensions.
        width: the map ``(D, d)``.

    >>> x = torch.tensor([[1.0, -1.0, 0.0, 0.0], [-3.0, 3.0, 0.0, 0.0]]).double()
    >>> fitted(x, nn.LayerNorm(4), torch.eye(4).double()[:, :2])[0]  # the square root of 4 / 2
    tensor([1.4142, 1.4142], dtype=torch.float64)
    """
    norm = copy.deepcopy(norm).to("cpu", torch.float64)
    wanted = norm(x) @ width
    mine = nn.functional.layer_norm(x @ width, width.shape[1:], eps=norm.eps)
    centred = mine - mine.mean(0)
    variance = centred.square().mean(0)
    fit = (centred * (wanted - wanted.mean(0))).mean(0) / variance
    scale = torch.where(variance > 1e-9, fit, norm.weight @ width.square())  # of one token, nothing can be fitted
    return scale, wanted.mean(0) - scale * mine.mean(0)


def maps_of_heads(query: Tensor, key: Tensor, out: Tensor, small: dict[str, int], large: dict[str, int]) -> Maps:
    """The maps of the most active heads: ``scores``, of the dimensions of queries and keys within them, and ``values``.

    Args:
        query, key, out: mean absolute activations of queries, keys and contexts (what the heads have read).
        small, large: sizes of student and teacher.
    """
    shape = large["heads"], large["width of a head"]
    heads = largest(out.view(shape).sum(1), small["heads"])
    found: Maps = {}
    for name, activity in (("scores", query * key), ("values", out)):
        rows = [int(head) * shape[1] + largest(activity.view(shape)[head], small["width of a head"]) for head in heads]
        same = small["heads"] == large["heads"] and small["width of a head"] == large["width of a head"]
        found[name] = None if same else selection(torch.cat(rows), large["width"])
    return found


def largest(activity: Tensor, count: int) -> Tensor:
    """The places of the largest values, in ascending order; of equal values, the first."""
    return activity.argsort(descending=True, stable=True)[:count].sort().values


def selection(places: Tensor, size: int) -> Tensor:
    """The matrix ``(size, len(places))`` that selects places."""
    return nn.functional.one_hot(places, size).T.double()


def _components(states: Tensor, count: int) -> Tensor:
    """The first principal components ``(D, count)`` of rows ``(N, D)``."""
    return principal(states.T.cov(), count)


def principal(moments: Tensor, count: int) -> Tensor:
    """The first eigenvectors ``(D, count)`` of a symmetric matrix; the largest entry of each is positive."""
    vectors = torch.linalg.eigh(moments).eigenvectors.flip(1)[:, :count]
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    return vectors * signs


def mapped(value: Tensor, rows: Tensor | None, columns: Tensor | None = None) -> Tensor:
    """``rows.T @ value @ columns``; None: the dimension stays as it is."""
    if rows is None and columns is None:
        return value
    result = value.double()
    if rows is not None:
        result = rows.T.to(result.device) @ result
    if columns is not None:
        result = result @ columns.to(result.device)
    return result.to(value.dtype)
