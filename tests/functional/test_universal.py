"""ULD: what it is blind to, which tokens are paired, what counts."""

import pytest
import torch

from kdlab import functional
from kdlab.batch import Batch
from kdlab.losses import UniversalLogits
from kdlab.outputs import Outputs

NOT = -100


def logits(*shape, seed=0):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = logits(2, 5, 4), logits(2, 4, 6, seed=1)
STUDENT_LABELS = torch.tensor([[NOT, NOT, 1, 3, 0], [NOT, 2, 2, 1, NOT]])
TEACHER_LABELS = torch.tensor([[NOT, 5, 4, NOT], [NOT, NOT, 3, 0]])


def paired(student_places, teacher_places, row=0):
    return functional.uld(STUDENT[row, student_places], TEACHER[row, teacher_places])


def test_a_permutation_of_the_classes_changes_nothing():
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(functional.uld(STUDENT[..., order], STUDENT), torch.zeros(2, 5, dtype=torch.float64))
    teacher = logits(2, 5, 4, seed=2)
    torch.testing.assert_close(functional.uld(STUDENT, teacher[..., order]), functional.uld(STUDENT, teacher))


def test_it_is_at_most_two_and_reaches_nearly_that():
    sure, spread = torch.zeros(1, 1000), torch.zeros(1, 1000)
    sure[0, 3] = 60.0
    assert functional.uld(sure, spread).item() == pytest.approx(2 - 2 / 1000)


def test_rows_with_excluded_classes_are_those_of_the_smaller_vocabulary():
    wider = torch.cat([STUDENT, torch.full((2, 5, 3), -torch.inf)], -1)
    torch.testing.assert_close(functional.uld(wider, STUDENT), torch.zeros(2, 5, dtype=torch.float64))


def test_each_side_has_its_own_temperature():
    torch.testing.assert_close(functional.uld(STUDENT, STUDENT / 2, 4.0, 2.0), torch.zeros(2, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    "options, student_places, teacher_places",
    [
        ({}, [1, 2], [0, 1]),  # the positions that predict
        ({"positions": "clamped"}, [1, 2], [0, 1]),
        ({"positions": "answer"}, [2, 3], [1, 2]),
        ({"skip_student_end": True}, [1, 2], [0, 1]),  # the shorter answer is the teacher's all the same
        ({"skip_teacher_end": True}, [1], [0]),
    ],
)
def test_which_tokens_are_paired(options, student_places, teacher_places):
    found = functional.uld_sequences(STUDENT, TEACHER, STUDENT_LABELS, TEACHER_LABELS, **options)
    assert found.shape == (2, 4)
    expected = paired(student_places, teacher_places)
    torch.testing.assert_close(found[0, : len(expected)], expected)
    assert (found[0, len(expected) :] == 0).all()


def test_the_reductions():
    values = functional.uld_sequences(STUDENT, TEACHER, STUDENT_LABELS, TEACHER_LABELS, skip_teacher_end=True)
    each = functional.uld_sequences(
        STUDENT, TEACHER, STUDENT_LABELS, TEACHER_LABELS, skip_teacher_end=True, reduction="sequences"
    )
    torch.testing.assert_close(each, values.sum(-1))  # one pair a text
    values = functional.uld_sequences(STUDENT, TEACHER, STUDENT_LABELS, TEACHER_LABELS)
    for reduction, expected in (("sum", values.sum()), ("mean", values.sum() / 4), ("sequences", values.sum(-1) / 2)):
        torch.testing.assert_close(
            functional.uld_sequences(STUDENT, TEACHER, STUDENT_LABELS, TEACHER_LABELS, reduction=reduction), expected
        )


@pytest.mark.parametrize(
    "positions, student_places, teacher_places",
    [
        ("predicting", [0, 1], [1, 2]),  # nothing predicts the first token: it is left out, and its partner
        ("clamped", [0, 1, 2], [0, 1, 2]),  # as llm-recipes has it, one text is read one later than the other
    ],
)
def test_a_text_that_begins_with_its_answer(positions, student_places, teacher_places):
    begins, later = torch.tensor([[1, 2, 3, NOT, NOT]]), torch.tensor([[NOT, 5, 4, 3]])
    found = functional.uld_sequences(STUDENT[:1], TEACHER[:1], begins, later, positions=positions)
    expected = paired(student_places, teacher_places)
    torch.testing.assert_close(found[found != 0], expected)


def test_tokens_of_several_turns_are_paired_in_their_order():
    found = functional.uld_sequences(
        STUDENT[:1], TEACHER[:1], torch.tensor([[NOT, 1, NOT, NOT, 2]]), torch.tensor([[NOT, NOT, 3, 4]])
    )
    torch.testing.assert_close(found[0, :2], paired([0, 3], [1, 2]))


def test_what_stands_outside_the_answers_reaches_no_gradient():
    student = STUDENT.clone()
    student[0, 0], student[0, 4], student[1, 3:] = float("inf"), float("nan"), float("inf")
    student.requires_grad_()
    value = functional.uld_sequences(student, TEACHER, STUDENT_LABELS, TEACHER_LABELS, reduction="mean")
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient.isfinite().all() and (gradient[0, [0, 3, 4]] == 0).all() and (gradient[0, [1, 2]] != 0).any()


def test_texts_without_an_answer_are_worth_nothing():
    student = STUDENT.clone().requires_grad_()
    value = functional.uld_sequences(
        student, TEACHER, torch.full((2, 5), NOT), TEACHER_LABELS, skip_student_end=True, reduction="mean"
    )
    assert value.item() == 0 and (torch.autograd.grad(value, student)[0] == 0).all()


def offsets(*ends):
    table = torch.tensor([ends])
    return torch.stack([table, table], -1)


def test_groups_of_tokens_are_merged_by_the_probabilities_of_what_stands_there():
    labels = torch.tensor([[NOT, 1, 3, 0, 2]]), torch.tensor([[NOT, 5, 4, 3]])
    given = offsets(0, 2, 3, 5, 6), offsets(0, 3, 5, 6)  # the student's first two tokens are the teacher's first
    rows = STUDENT[:1, :4].softmax(-1)[0]
    for merge, first in (("bayesian", rows[1] * rows[0, 1]), ("observed", rows[0] * rows[1, 3])):
        found = functional.uld_sequences(STUDENT[:1], TEACHER[:1], *labels, *given, merge=merge)
        size = torch.tensor([0.0, 0.0], dtype=torch.float64)
        expected = (
            (
                torch.cat([first, size]).sort(descending=True).values
                - TEACHER[0, 0].softmax(-1).sort(descending=True).values
            )
            .abs()
            .sum()
        )
        torch.testing.assert_close(found[0, 0], expected)
        torch.testing.assert_close(found[0, 1:3], paired([2, 3], [1, 2]))
        assert found[0, 3] == 0


def test_a_token_of_no_width_at_the_end_has_no_partner_unless_both_have_one():
    alone = functional.uld_sequences(
        STUDENT[:1],
        TEACHER[:1],
        torch.tensor([[NOT, 1, 3, NOT, NOT]]),
        torch.tensor([[NOT, 5, 4, 3]]),
        offsets(0, 2, 4, 0, 0),
        offsets(0, 2, 4, 4),
    )
    both = functional.uld_sequences(
        STUDENT[:1],
        TEACHER[:1],
        torch.tensor([[NOT, 1, 3, 0, NOT]]),
        torch.tensor([[NOT, 5, 4, 3]]),
        offsets(0, 2, 4, 4, 0),
        offsets(0, 2, 4, 4),
    )
    torch.testing.assert_close(alone[0], torch.cat([paired([0, 1], [0, 1]), torch.zeros(2, dtype=torch.float64)]))
    torch.testing.assert_close(both[0, :3], paired([0, 1, 2], [0, 1, 2]))


def test_where_all_tokens_match_it_is_a_divergence_of_whole_vocabularies():
    both = torch.arange(4)
    teacher, labels = logits(2, 5, 4, seed=3), STUDENT_LABELS
    for weight, function in (
        (0.5, functional.jensen_shannon),
        (0.0, functional.forward_kl),
        (1.0, functional.reverse_kl),
    ):
        found = functional.uld_sequences(
            STUDENT, teacher, labels, labels, student_matched=both, teacher_matched=both, teacher_weight=weight
        )
        torch.testing.assert_close(found[0, :3], function(STUDENT[0, 1:4], teacher[0, 1:4]))


def test_the_two_parts_have_weights():
    mine, theirs = functional.matched_tokens(
        {"a": 0, "b": 3, "c": 1, "d": 2}, {"b": 1, "x": 0, "y": 2, "c": 5, "z": 3, "w": 4}
    )
    assert (mine.tolist(), theirs.tolist()) == ([3, 1], [1, 5])
    texts = STUDENT, TEACHER, STUDENT_LABELS, TEACHER_LABELS
    known = {"student_matched": mine, "teacher_matched": theirs}
    matched, unmatched, both, share = (
        functional.uld_sequences(*texts, **known, matched_weight=first, unmatched_weight=second)
        for first, second in ((1.0, 0.0), (0.0, 1.0), (2.0, 3.0), (None, None))
    )
    torch.testing.assert_close(both, 2 * matched + 3 * unmatched)
    torch.testing.assert_close(share, 2 / 6 * matched + 4 / 6 * unmatched)
    q, p = STUDENT[0, 1].softmax(-1)[[0, 2]], TEACHER[0, 0].softmax(-1)[[0, 2, 3, 4]]
    q, p = (torch.cat([side.sort(descending=True).values, torch.zeros(4 - len(side))]) for side in (q, p))
    torch.testing.assert_close(unmatched[0, 0], (q - p).abs().sum())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"positions": "before"}, "positions"),
        ({"student_bytes": torch.zeros(2, 5, 2, dtype=torch.long)}, "bytes"),
        ({"student_matched": torch.arange(2)}, "matched"),
        ({"student_matched": torch.arange(2), "teacher_matched": torch.arange(3)}, r"\(2,\).*\(3,\)"),
        (
            {
                "student_bytes": torch.zeros(2, 5, 2, dtype=torch.long),
                "teacher_bytes": torch.zeros(2, 5, 2, dtype=torch.long),
            },
            r"\(2, 4, 2\).*\(2, 5, 2\)",
        ),
        (
            {
                "student_bytes": torch.zeros(2, 5, 2, dtype=torch.long),
                "teacher_bytes": torch.zeros(2, 4, 2, dtype=torch.long),
                "merge": "both",
            },
            "merge",
        ),
    ],
)
def test_what_does_not_fit_is_named(options, words):
    with pytest.raises(ValueError, match=words):
        functional.uld_sequences(STUDENT, TEACHER, STUDENT_LABELS, TEACHER_LABELS, **options)


def test_the_module_takes_teachers_of_other_classes():
    loss = UniversalLogits(student_temperature=2.0, teacher_temperature=3.0)
    student, teacher = Outputs(STUDENT[0].requires_grad_()), Outputs(logits(5, 9, seed=4))
    values = loss(student, teacher, Batch(None, None, torch.arange(5)))
    torch.testing.assert_close(values, functional.uld(student.logits, teacher.logits, 2.0, 3.0))
    assert values.shape == (5,) and values.requires_grad
    with pytest.raises(ValueError, match="teacher_temperature"):
        UniversalLogits(teacher_temperature=0.0)
