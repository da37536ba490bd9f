"""Masks are a function of (seed, epoch, view, index), in BERT's proportions."""

import pytest
import torch

from kdlab.data.text.masking import MaskTokens

IDS = torch.arange(100, 100 + 64 * 40).view(64, 40)
MASKABLE = torch.ones(64, 40, dtype=torch.bool)
MASKABLE[:, 0] = MASKABLE[:, 30:] = False  # a special token, and padding: 29 can be masked
INDEX = torch.arange(64) * 3


def masked(ids=IDS, maskable=MASKABLE, index=INDEX, seed=1, epoch=0, view=0, **options):
    return MaskTokens(**options)(ids, maskable, index, mask_token=4, vocabulary=5000, seed=seed, epoch=epoch, view=view)


def test_the_same_number_of_tokens_of_a_text_is_chosen_in_each_epoch():
    for epoch in range(3):
        inputs, labels = masked(epoch=epoch)
        chosen = labels != -100
        assert chosen.sum(1).tolist() == [4] * 64  # 0.15 x 29
        assert not chosen[~MASKABLE].any() and torch.equal(labels[chosen], IDS[chosen])
        assert torch.equal(inputs[~chosen], IDS[~chosen])


def test_masks_depend_on_epoch_view_seed_and_sample_alone():
    whole = masked()
    part = masked(IDS[5:9, :35], MASKABLE[5:9, :35], INDEX[5:9])  # another batch, with less padding
    assert all(torch.equal(one[5:9, :35], other) for one, other in zip(whole, part))
    for other in (masked(epoch=1), masked(view=1), masked(seed=2), masked(index=INDEX + 1)):
        assert (other[1] != whole[1]).float().mean() > 0.1


def test_proportions():
    """Of 64 x 50 epochs x 4 chosen tokens, 80 % are masked and 10 % are random, each within four standard errors."""
    total = hidden = same = 0
    for epoch in range(50):
        inputs, labels = masked(epoch=epoch)
        chosen = labels != -100
        total += int(chosen.sum())
        hidden += int((inputs[chosen] == 4).sum())
        same += int((inputs[chosen] == IDS[chosen]).sum())
    assert abs(hidden / total - 0.8) < 4 * (0.8 * 0.2 / total) ** 0.5
    assert abs(same / total - 0.1) < 4 * (0.1 * 0.9 / total) ** 0.5 + 1e-3
    inputs, labels = masked(masked=0.0, random=0.0)
    assert torch.equal(inputs, IDS) and (labels != -100).sum() == 256


def test_what_is_refused():
    with pytest.raises(ValueError, match="probability must lie between 0 and 1, got 1"):
        MaskTokens(1)
    with pytest.raises(ValueError, match="sum is at most 1, got 0.8 and 0.3"):
        MaskTokens(0.15, 0.8, 0.3)
