"""Rows that stay on disk: the same numbers as in memory."""

import numpy as np
import pytest
import torch

from kdlab.data.text.packing import packed
from kdlab.data.text.tokens import Ragged
from kdlab.data.text.views import Labels, Mapped, View

LENGTHS = torch.tensor([3, 1, 7, 2, 5, 4, 9, 1])
ENDS = LENGTHS.cumsum(0)
IDS = torch.arange(int(ENDS[-1]), dtype=torch.int32) * 37 % 101
COUNTS = (torch.arange(len(IDS)) % 3 > 0).to(torch.int8)
LABELS = Ragged(torch.where(COUNTS > 0, IDS.long(), -100), ENDS)


@pytest.fixture
def both(tmp_path):
    """Rows in memory and in a file."""
    IDS.numpy().tofile(tmp_path / "ids")
    return Ragged(IDS, ENDS), Mapped(np.memmap(tmp_path / "ids", "<i4", "r"), ENDS)


def same(one, other):
    assert isinstance(other, View) and len(one) == len(other) and one.dtype == other.dtype
    assert torch.equal(one.lengths, other.lengths) and torch.equal(one.ends, other.ends)
    assert torch.equal(one.values, other.values) and one.values.dtype == other.values.dtype
    rows = torch.tensor([len(one) - 1, 0, len(one) // 2, 0])
    for width in (0, 2, 12):
        assert torch.equal(one.padded(rows, width, -7), other.padded(rows, width, -7))
    none = torch.tensor([], dtype=torch.int64)
    assert other.padded(none, 3, 0).shape == (0, 3) and len(other.take(none).values) == 0


def test_rows_are_taken_and_joined(both):
    memory, disk = both
    same(memory, disk)
    some, others = torch.tensor([6, 2, 2, 0]), torch.tensor([1, 3, 0])
    same(memory.take(some), disk.take(some))
    same(memory.take(some).take(others), disk.take(some).take(others))
    mixed = [one.take(some).joined(one.take(others)) for one in both]
    same(*mixed)
    same(*(one.take(torch.tensor([6, 0, 4, 3])) for one in mixed))
    same(*(one.joined(one.take(some)) for one in mixed))
    with pytest.raises(TypeError, match="can only be joined with a view"):
        disk.joined(memory)


@pytest.mark.parametrize("length", [1, 4, 8, 16, 32, 50])
def test_packed_rows(both, length):
    memory, disk = both
    labels = Labels(disk, Mapped(COUNTS.numpy(), ENDS))
    same(LABELS, labels)
    some = torch.tensor([6, 2, 3, 0, 7])
    for rows in (torch.arange(8), some):
        one = packed(memory.take(rows), LABELS.take(rows), length)
        other = packed(disk.take(rows), labels.take(rows), length)
        same(one.ids, other.ids), same(one.labels, other.labels), same(one.places, other.places)


def test_a_view_is_not_shown(both):
    assert repr(both[1]) == "Mapped(8 rows)"
