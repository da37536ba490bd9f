"""PS-KD, CS-KD and DLB, beyond the contract."""

import pytest
import torch

from kdlab import functional


def logits(rows=4, classes=5, seed=0):
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ps_kd_alpha():
    assert [functional.ps_kd_alpha(epoch, 4, 0.8) for epoch in range(4)] == [0.2, 0.4, pytest.approx(0.6), 0.8]
    for epoch in (-1, 4):
        with pytest.raises(ValueError, match=f"got {epoch}"):
            functional.ps_kd_alpha(epoch, 4)


def test_ps_kd_ends():
    """With alpha 0, or nothing seen, it is the cross-entropy; with 1 it is that of the former prediction."""
    student, previous, target = logits(), logits(seed=1).softmax(-1), torch.arange(4)
    ce = functional.cross_entropy(student, target)
    torch.testing.assert_close(functional.ps_kd(student, previous, target, 0.0), ce)
    torch.testing.assert_close(functional.ps_kd(student, previous, target, 0.7, seen=torch.zeros(4)), ce)
    torch.testing.assert_close(functional.ps_kd(student, previous, target, 1.0), -(previous * student.log_softmax(-1)).sum(-1))
    mixed = functional.ps_kd(student, previous, target, 0.7, seen=torch.tensor([1, 0, 1, 0]))
    torch.testing.assert_close(mixed[1::2], ce[1::2])


def test_ps_kd_rows_without_a_label_or_a_possible_class():
    """Ignored rows count as 0, as in the cross-entropy; a class that the student excludes and the target too adds nothing."""
    student, previous, target = logits(), logits(seed=1).softmax(-1), torch.tensor([0, -100, 2, 3])
    assert functional.ps_kd(student, previous, target, 0.5)[1] == 0
    student[:, 4], previous = float("-inf"), previous.clone()
    previous[:, 4] = 0.0
    assert functional.ps_kd(student.requires_grad_(), previous, target, 0.5).isfinite().all()


def test_what_is_remembered_is_a_constant_unless_asked():
    student, other, target = logits(), logits(seed=1).requires_grad_(), torch.arange(4)
    calls = {
        "cs_kd": lambda **o: functional.cs_kd(student, other, target, **o).total(),
        "cs_kd_kl": lambda **o: functional.cs_kd_kl(student, other, **o).sum(),
        "ps_kd": lambda **o: functional.ps_kd(student, other.softmax(-1), target, 0.5, **o).sum(),
        "dlb": lambda **o: functional.dlb(student, target, student, target, other, **o).total(),
    }
    for name, call in calls.items():
        assert not call().requires_grad and call(detach=False).requires_grad, name


def test_dlb_is_a_mean_over_all_rows_of_both_batches():
    """Also where the last batch of an epoch was shorter."""
    student, previous, recorded = logits(4), logits(2, seed=1), logits(2, seed=2)
    target, previous_target = torch.arange(4), torch.tensor([1, 0])
    terms = functional.dlb(student, target, previous, previous_target, recorded, temperature=2.0, weight=0.3)
    ce = functional.cross_entropy(torch.cat([student, previous]), torch.cat([target, previous_target])).mean()
    torch.testing.assert_close(terms.total(), ce + 0.3 * functional.hinton_kd(previous, recorded, 2.0).mean())
    torch.testing.assert_close(functional.dlb(student, target).total(), functional.cross_entropy(student, target).mean())
    with pytest.raises(ValueError, match="recorded"):
        functional.dlb(student, target, previous, previous_target)
