"""DistiLLM-2: its schedule, an alpha of each text, what counts."""

import pytest
import torch

from kdlab import functional

LABELS = torch.tensor([[-100, 1, 2, 0], [-100, -100, 3, -100]])


def logits(seed):
    return 2 * torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = logits(0), logits(1)


def test_the_weight_of_the_rejected_texts_rises_in_the_first_half():
    assert [functional.distillm2_beta(step, 10) for step in (0, 1, 5, 10)] == [1.0, 1.1, 1.5, 1.5]


def test_each_text_is_a_mean_over_its_own_tokens():
    found = functional.text_divergence(STUDENT, TEACHER, LABELS, divergence="forward")
    rows = functional.forward_kl(STUDENT, TEACHER)
    torch.testing.assert_close(found, torch.stack([rows[0, :3].mean(), rows[1, 1]]))


def gaps():
    """How much more likely the teacher holds each text, by the geometric mean over its tokens."""
    mask = functional.token_mask(LABELS)
    teacher, student = (
        functional.sequence_mean(functional.token_log_probability(side[:, :-1], LABELS[:, 1:], mask=mask), mask).exp()
        for side in (TEACHER, STUDENT)
    )
    return teacher - student


def test_alpha_of_a_text_goes_from_the_smallest_where_both_agree_to_the_largest():
    smallest, largest, middle = (
        functional.text_divergence(STUDENT, TEACHER, LABELS, alpha) for alpha in (0.01, 0.4, 0.2)
    )
    near, far = (functional.text_divergence(STUDENT, TEACHER, LABELS, 0.4, anchor) for anchor in (1e9, 1e-9))
    gap = gaps()
    assert (gap > 0).tolist() == [True, False]
    # a gap far below the anchor; a student that is surer
    torch.testing.assert_close(near, torch.stack([smallest[0], largest[1]]))
    torch.testing.assert_close(far, largest)
    between = functional.text_divergence(STUDENT, TEACHER, LABELS, 0.4, (1 - 0.2) / (1 - 0.4) * (gap[0].item() + 1e-5))
    torch.testing.assert_close(between[0], middle[0])


def test_a_detached_alpha_has_the_same_value_and_another_gradient():
    results, anchor = [], 4 / 3 * gaps()[0].item()
    for detached in (True, False):
        student = STUDENT.clone().requires_grad_()
        value = functional.text_divergence(
            student, TEACHER, LABELS, 0.4, anchor, divergence="skew_forward", detach_alpha=detached
        )
        results.append((value, torch.autograd.grad(value.sum(), student)[0]))
    torch.testing.assert_close(results[0][0], results[1][0])
    assert (results[0][1] - results[1][1]).abs().max() > 1e-3


def test_kd_learns_from_the_chosen_texts_alone():
    found = functional.distillm2(STUDENT, TEACHER, TEACHER, STUDENT, LABELS, LABELS, kind="kd", rejected_weight=1.5)
    assert torch.equal(found, functional.text_divergence(STUDENT, TEACHER, LABELS, divergence="forward"))


@pytest.mark.parametrize("name, value", [("kind", "v3"), ("rejected_weight", 2.5)])
def test_bad_arguments_name_themselves(name, value):
    with pytest.raises(ValueError, match=name):
        functional.distillm2(STUDENT, TEACHER, STUDENT, TEACHER, LABELS, LABELS, **{name: value})
    with pytest.raises(ValueError, match="divergence"):
        functional.text_divergence(STUDENT, TEACHER, LABELS, divergence="reverse")


def test_a_mask_has_one_entry_a_text():
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(2, 4\)"):
        functional.text_divergence(STUDENT, TEACHER, LABELS, mask=torch.ones(2, 4))
