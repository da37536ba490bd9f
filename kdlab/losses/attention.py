"""Losses on the attention of transformers: module form of :mod:`kdlab.functional.attention`. Taps and ``average`` work
as in :mod:`kdlab.losses.transformer`.

Scores are computed from the taps of queries and keys. A model that exposes its scores ``(B, H, T, T)`` before the
softmax also works: ``student_parts`` (or ``teacher_parts``) then has one entry, and the tap holds the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.attention import HEADS
from kdlab.functional.hidden import pairs
from kdlab.functional.rows import added, one_of
from kdlab.outputs import Outputs

from .base import Probe, positive
from .transformer import ATTENTION, EMBEDDING, LAYER, Sequences, as_many, equal_heads, heads_of, mask_of, path_of


class Scores:
    """The attention scores of a model's layers, from its taps.

    Args:
        argument: the name of the pattern, for error messages.
        pattern: pattern of the taps, with ``{layer}`` and ``{part}``.
        layers: the numbers of the layers.
        parts: the values of ``{part}``: the names of query and key, or one name if the tap holds the scores.
        heads: number of attention heads; None: see :meth:`find_heads`.
    """

    def __init__(self, argument: str, pattern: str, layers: Sequence[int], parts: Sequence[str], heads: int | None):
        if len(parts) not in (1, 2):
            raise ValueError(
                f"{argument.replace('_tap', '_parts')} must be the names of query and key, or one name, got "
                f"{list(parts)}"
            )
        self.layers = [[path_of(argument, pattern, layer=layer, part=part) for part in parts] for layer in layers]
        self.argument = argument.replace("_tap", "_heads")
        self.heads = None if heads is None else int(positive(self.argument, heads))
        self.taps = tuple(tap for layer in self.layers for tap in layer)

    def find_heads(self, network: nn.Module | None) -> None:
        """Takes the number of heads from the network's config if it is not given and scores are computed.

        Raises:
            ValueError: it has none.
        """
        if any(len(layer) == 2 for layer in self.layers):
            self.heads = heads_of(self.argument, self.heads, network)

    def __call__(self, outputs: Outputs) -> list[Tensor]:
        """The scores ``(B, H, T, T)`` of each layer: computed from queries and keys, or the tap itself."""
        read = [[outputs.features[tap] for tap in layer] for layer in self.layers]
        return [
            (
                features[0]
                if len(features) == 1
                else functional.attention_scores(features[0], features[1], heads_of(self.argument, self.heads, None))
            )
            for features in read
        ]


class AttentionLoss(Sequences):
    """Base of the losses that compare attention scores in pairs of layers and sum over the pairs.

    Args:
        student_tap, teacher_tap: patterns of the taps.
        student_layers, teacher_layers: the pairs, the same number on both sides.
        student_parts, teacher_parts: the names of queries and keys (with module paths ``q_lin`` and ``k_lin`` in
            DistilBERT).
        student_heads, teacher_heads: numbers of attention heads; None: those of the networks' configs.
        over_heads: ``each``, ``sum`` or ``mean``; the last two allow different numbers of heads.
        average: see :mod:`kdlab.losses.transformer`.
    """

    def __init__(
        self,
        student_tap: str = ATTENTION,
        teacher_tap: str = ATTENTION,
        student_layers: Sequence[int] = (6,),
        teacher_layers: Sequence[int] = (12,),
        student_parts: Sequence[str] = ("query", "key"),
        teacher_parts: Sequence[str] = ("query", "key"),
        student_heads: int | None = None,
        teacher_heads: int | None = None,
        over_heads: str = "each",
        average: str = "tokens",
    ):
        super().__init__(average)
        as_many(student_layers, teacher_layers)
        self.student_scores = Scores("student_tap", student_tap, student_layers, student_parts, student_heads)
        self.teacher_scores = Scores("teacher_tap", teacher_tap, teacher_layers, teacher_parts, teacher_heads)
        self.student_taps, self.teacher_taps = self.student_scores.taps, self.teacher_scores.taps
        self.over_heads = one_of("over_heads", over_heads, HEADS)

    def prepare(self, probe: Probe) -> None:
        """Finds the numbers of heads, then tries the loss once."""
        self.student_scores.find_heads(probe.student_network)
        if self.teacher_scores.heads is None:  # a cached teacher need not be loaded for a number that is given
            self.teacher_scores.find_heads(probe.teacher_network)
        super().prepare(probe)

    def options(self) -> dict[str, Any]:
        """The function's own parameters."""
        return {}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """The sum over the pairs of layers: a scalar for ``average=tokens``, one value per sample ``(B,)`` for
        ``average=samples``."""
        mask, pairs_of_layers = mask_of(student, batch), []
        for mine, theirs in zip(self.student_scores(student), self.teacher_scores(teacher)):
            values = type(self).function(mine, theirs, self.over_heads, mask=mask, **self.options())
            pairs_of_layers.append(self.averaged(values, self.counting(values, mask)))
        return added(pairs_of_layers, type(self).__name__)

    def counting(self, values: Tensor, mask: Tensor | None) -> Tensor | None:
        """The mask in the shape of ``values``: over pairs of positions if ``values`` has ``(T, T)``, otherwise over
        queries."""
        raise NotImplementedError(f"{type(self).__name__} must define counting(values, mask)")


class AttentionMSE(AttentionLoss):
    """:func:`kdlab.functional.attention_mse`."""

    function = staticmethod(functional.attention_mse)

    def counting(self, values: Tensor, mask: Tensor | None) -> Tensor | None:
        """The pairs whose query and key both count: ``(B, T, T)``, or ``(B, H, T, T)`` if each head has its own values.
        None without a mask."""
        if mask is None:
            return None
        return pairs(mask) if values.dim() == 3 else pairs(mask)[:, None].expand_as(values)


class AttentionCE(AttentionLoss):
    """:func:`kdlab.functional.attention_ce`.

    Args:
        entropy, renormalise: see the function.
        The other arguments are those of AttentionMSE.
    """

    function = staticmethod(functional.attention_ce)

    def __init__(
        self,
        student_tap: str = ATTENTION,
        teacher_tap: str = ATTENTION,
        student_layers: Sequence[int] = (6,),
        teacher_layers: Sequence[int] = (12,),
        student_parts: Sequence[str] = ("query", "key"),
        teacher_parts: Sequence[str] = ("query", "key"),
        student_heads: int | None = None,
        teacher_heads: int | None = None,
        over_heads: str = "each",
        entropy: bool = False,
        renormalise: bool = True,
        average: str = "tokens",
    ):
        super().__init__(
            student_tap,
            teacher_tap,
            student_layers,
            teacher_layers,
            student_parts,
            teacher_parts,
            student_heads,
            teacher_heads,
            over_heads,
            average,
        )
        self.entropy, self.renormalise = entropy, renormalise

    def options(self) -> dict[str, Any]:
        """``entropy`` and ``renormalise``."""
        return {"entropy": self.entropy, "renormalise": self.renormalise}

    def counting(self, values: Tensor, mask: Tensor | None) -> Tensor | None:
        """The queries that count: ``(B, T)``, or ``(B, H, T)`` if each head has its own values. None without a mask."""
        if mask is None:
            return None
        return mask if values.dim() == 2 else mask[:, None].expand_as(values)


class TinyBERT(Sequences):
    """:func:`kdlab.functional.tinybert`, one value per sample. All hidden states share one linear projection, which is
    trained with the student.

    Args:
        student_tap, teacher_tap: patterns of the taps of queries and keys.
        student_hidden, teacher_hidden: patterns of the outputs of a layer.
        student_embedding, teacher_embedding: taps of the output of the embeddings, which is compared like a layer.
        student_layers, teacher_layers: how many layers the networks have.
        layer_map: for each student layer, the number of the teacher's layer. Default: the last layer of each block of
            ``teacher_layers / student_layers``.
        student_parts, teacher_parts: the names of queries and keys.
        heads: number of attention heads, the same on both sides; None: that of the networks' configs.
        attention_weight, hidden_weight: the weights of the two parts.
        count_padding: True keeps padded positions in the means, as the authors' code does. As keys, their scores are 0
            on both sides.
        first_layer: the number of the first layer in the patterns: 1 for taps such as ``hidden1``, 0 for module paths
            of Hugging Face.
    """

    function = staticmethod(functional.tinybert)
    #: built by :meth:`prepare`
    projection: nn.Linear

    def __init__(
        self,
        student_tap: str = ATTENTION,
        teacher_tap: str = ATTENTION,
        student_hidden: str = LAYER,
        teacher_hidden: str = LAYER,
        student_embedding: str = EMBEDDING,
        teacher_embedding: str = EMBEDDING,
        student_layers: int = 4,
        teacher_layers: int = 12,
        layer_map: Sequence[int] | None = None,
        student_parts: Sequence[str] = ("query", "key"),
        teacher_parts: Sequence[str] = ("query", "key"),
        heads: int | None = None,
        attention_weight: float = 1.0,
        hidden_weight: float = 1.0,
        count_padding: bool = False,
        first_layer: int = 1,
    ):
        super().__init__()
        self.per = "sample"
        if layer_map is None:
            if teacher_layers % student_layers:
                raise ValueError(
                    f"teacher_layers must be a multiple of student_layers, got {teacher_layers} and {student_layers}; "
                    "or give a layer_map"
                )
            block = teacher_layers // student_layers
            layer_map = range(first_layer + block - 1, first_layer + teacher_layers, block)
        if len(layer_map) != student_layers:
            raise ValueError(
                f"layer_map must name a layer of the teacher for each of the {student_layers} student_layers, got "
                f"{list(layer_map)}"
            )
        if first_layer not in (0, 1):
            raise ValueError(f"first_layer must be 1 (taps such as hidden1) or 0 (module paths), got {first_layer!r}")
        mine = range(first_layer, first_layer + student_layers)
        if heads is not None:
            positive("heads", heads)
        self.student_scores = Scores("student_tap", student_tap, mine, student_parts, heads)
        self.teacher_scores = Scores("teacher_tap", teacher_tap, layer_map, teacher_parts, heads)
        self.student_hidden = [
            student_embedding,
            *(path_of("student_hidden", student_hidden, layer=layer) for layer in mine),
        ]
        self.teacher_hidden = [
            teacher_embedding,
            *(path_of("teacher_hidden", teacher_hidden, layer=layer) for layer in layer_map),
        ]
        self.student_taps = (*self.student_scores.taps, *self.student_hidden)
        self.teacher_taps = (*self.teacher_scores.taps, *self.teacher_hidden)
        self.attention_weight, self.hidden_weight = float(attention_weight), float(hidden_weight)
        self.count_padding = count_padding

    def prepare(self, probe: Probe) -> None:
        """Finds the number of heads and builds the projection from the student's width to the teacher's, then tries the
        loss once."""
        if any(len(layer) == 2 for layer in [*self.student_scores.layers, *self.teacher_scores.layers]):
            self.student_scores.heads = self.teacher_scores.heads = equal_heads(self.student_scores.heads, probe)
        mine = probe.student.features[self.student_hidden[0]]
        theirs = probe.teacher_outputs.features[self.teacher_hidden[0]]
        self.projection = nn.Linear(mine.shape[-1], theirs.shape[-1])
        super().prepare(probe)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """One value per sample, ``(B,)``: the squared errors of attention scores and hidden states, each with its
        weight, summed over the pairs of layers."""
        mask = mask_of(student, batch)
        student_scores, teacher_scores = self.student_scores(student), self.teacher_scores(teacher)
        if self.count_padding and mask is not None:
            padding = (mask == 0)[:, None, None, :]
            student_scores = [x.masked_fill(padding, 0.0) for x in student_scores]
            teacher_scores = [x.masked_fill(padding, 0.0) for x in teacher_scores]
            mask = None
        mine = [self.projection(student.features[tap]) for tap in self.student_hidden]
        return functional.tinybert(
            student_scores,
            teacher_scores,
            mine,
            [teacher.features[tap] for tap in self.teacher_hidden],
            self.attention_weight,
            self.hidden_weight,
            mask=mask,
        )


class MiniLM(Sequences):
    """:func:`kdlab.functional.minilm`, one value per sample.

    Args:
        student_tap, teacher_tap: patterns of the taps of queries, keys and values.
        student_layer, teacher_layer: the layers that are compared; the last ones in the paper.
        student_parts, teacher_parts: the names of query, key and value.
        heads: number of attention heads of both networks; None: that of their configs.
    """

    function: ClassVar[Callable[..., Tensor]] = staticmethod(functional.minilm)

    def __init__(
        self,
        student_tap: str = ATTENTION,
        teacher_tap: str = ATTENTION,
        student_layer: int = 6,
        teacher_layer: int = 12,
        student_parts: Sequence[str] = ("query", "key", "value"),
        teacher_parts: Sequence[str] = ("query", "key", "value"),
        heads: int | None = None,
    ):
        super().__init__()
        self.per = "sample"
        for name, parts in (("student_parts", student_parts), ("teacher_parts", teacher_parts)):
            if len(parts) != 3:
                raise ValueError(f"{name} must be the names of query, key and value, got {list(parts)}")
        self.student_taps = tuple(
            path_of("student_tap", student_tap, layer=student_layer, part=part) for part in student_parts
        )
        self.teacher_taps = tuple(
            path_of("teacher_tap", teacher_tap, layer=teacher_layer, part=part) for part in teacher_parts
        )
        self.heads = None if heads is None else int(positive("heads", heads))

    def prepare(self, probe: Probe) -> None:
        """Finds the number of heads, then tries the loss once."""
        self.heads = equal_heads(self.heads, probe)
        super().prepare(probe)

    def options(self) -> dict[str, Any]:
        """The function's own parameters."""
        return {"heads": heads_of("heads", self.heads, None)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """One value per sample, ``(B,)``: the sum of the KL divergences of the relations that are compared."""
        features = [
            outputs.features[tap]
            for outputs, taps in ((student, self.student_taps), (teacher, self.teacher_taps))
            for tap in taps
        ]
        return type(self).function(*features, mask=mask_of(student, batch), **self.options())


class MiniLMv2(MiniLM):
    """:func:`kdlab.functional.minilmv2`, one value per sample.

    Args:
        teacher_layer: the last one, or for large teachers an upper-middle one.
        heads: number of relation heads. It must divide the widths of both networks.
        relations: weight per relation, which is named by two of the letters q, k, v. Default: qq, kk and vv with weight
            1.
        The other arguments are those of MiniLM.
    """

    function = staticmethod(functional.minilmv2)

    def __init__(
        self,
        student_tap: str = ATTENTION,
        teacher_tap: str = ATTENTION,
        student_layer: int = 6,
        teacher_layer: int = 12,
        student_parts: Sequence[str] = ("query", "key", "value"),
        teacher_parts: Sequence[str] = ("query", "key", "value"),
        heads: int = 48,
        relations: Mapping[str, float] | None = None,
    ):
        super().__init__(student_tap, teacher_tap, student_layer, teacher_layer, student_parts, teacher_parts, heads)
        self.relations = (
            {"qq": 1.0, "kk": 1.0, "vv": 1.0}
            if relations is None
            else {name: float(weight) for name, weight in relations.items()}
        )
        if not self.relations:
            raise ValueError("relations must name one or more relations, for example {qq: 1, kk: 1, vv: 1}")

    def options(self) -> dict[str, Any]:
        """``heads`` and ``relations``, the weights by relation."""
        return {"heads": self.heads, "relations": self.relations}
