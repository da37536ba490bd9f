r"""The similarity of the features of a student and of its teacher: linear centred kernel alignment. Kornblith et al.
(2019), "Similarity of Neural Network Representations Revisited", https://arxiv.org/abs/1905.00414
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from kdlab.metrics import CKA
from kdlab.models.taps import own_taps, stage_taps

EMBEDDING = "embedding"
_ROWS = 250  # the Gram matrices of a batch have the square of this number of entries


def comparable_taps(network: nn.Module, aliases: Mapping[str, str] | None = None) -> list[str]:
    """The taps ``stage1``, ``stage2``, … and ``embedding`` that a network has.

    >>> from kdlab.models import MLP
    >>> comparable_taps(MLP(classes=2, shape=(4,), hidden=(3, 3))), comparable_taps(nn.Linear(2, 2))
    (['stage1', 'stage2', 'embedding'], [])
    """
    known = {*(aliases or {}), *own_taps(network), *(name for name, _ in network.named_children())}
    return [*stage_taps(network, aliases), *([EMBEDDING] if EMBEDDING in known else [])]


def averaged_over_positions(feature: Tensor) -> Tensor:
    """``(B, D)``: a map ``(B, C, H, W)`` averaged over height and width, tokens ``(B, T, D)`` over the tokens, vectors
    unchanged.

    >>> import torch
    >>> [tuple(averaged_over_positions(torch.ones(shape)).shape) for shape in ((2, 3, 4, 4), (2, 5, 3), (2, 3))]
    [(2, 3), (2, 3), (2, 3)]
    """
    if feature.dim() == 3:
        return feature.mean(1)
    return feature.flatten(2).mean(2) if feature.dim() > 3 else feature.flatten(1)


def alignment(pairs: Iterable[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]) -> dict[str, dict[str, float]]:
    r"""The alignment of each of the student's features (rows) with each of the teacher's (columns). It is 1 if one
    feature is the other, rotated and scaled, about 0 if they have nothing in common, and NaN if a feature does not
    vary.

    Maps and tokens are averaged over positions first. So networks of different resolution can be compared, and a
    feature has as many dimensions as channels. The estimate is :class:`kdlab.metrics.CKA`, from batches of 250 samples:
    with :math:`n` samples of :math:`p` dimensions the plain one,
    :math:`\lVert Y^\top X \rVert_F^2 / (\lVert X^\top X \rVert_F \lVert Y^\top Y \rVert_F)`, grows with :math:`p / n`
    even for unrelated features, and so would favour wide layers and small validation splits.

    Args:
        pairs: for each batch the features of both, tap -> ``(B, ...)``.

    >>> import torch
    >>> x = torch.arange(12.0).reshape(6, 2).sin()
    >>> found = alignment([({"a": x}, {"b": -3 * x, "c": x[:, :1]})])
    >>> {tap: {name: round(value, 3) for name, value in row.items()} for tap, row in found.items()}
    {'a': {'b': 1.0, 'c': 0.733}}
    """
    found: dict[tuple[str, str], CKA] = {}
    for student, teacher in pairs:
        mine, theirs = (
            {
                tap: [_from_the_first(part) for part in averaged_over_positions(value).split(_ROWS)]
                for tap, value in side.items()
            }
            for side in (student, teacher)
        )
        for tap, parts in mine.items():
            for other, their_parts in theirs.items():
                metric = found.setdefault((tap, other), CKA().to(parts[0].device))
                for part, their_part in zip(parts, their_parts):
                    metric.update(part, their_part)
    result: dict[str, dict[str, float]] = {}
    for (tap, other), metric in found.items():
        result.setdefault(tap, {})[other] = metric.compute().item()
    return result


def _from_the_first(rows: Tensor) -> Tensor:
    """Differences from the first sample. Alignment does not depend on the origin, and a constant feature becomes
    exactly 0, without rounding."""
    return rows.double() - rows[:1].double()
