"""Agreement and divergence from the teacher, by hand-made logits."""

import math

import pytest
import torch

from kdlab.functional import sigmoid_kd
from kdlab.measure import Agreement, KLToTeacher, LabelAgreement, LabelKLToTeacher, agreement, kl_to_teacher

LOG = math.log
# probabilities (1/2, 1/4, 1/4), (1/4, 1/2, 1/4) and, far from 0, (1/4, 1/4, 1/2)
TEACHER = torch.tensor([[LOG(2), 0.0, 0.0], [0.0, LOG(2), 0.0], [100.0, 100.0, 100 + LOG(2)]])


def test_a_student_that_equals_its_teacher_agrees_and_says_the_same():
    assert agreement(TEACHER.clone(), TEACHER) == 1 and kl_to_teacher(TEACHER.clone(), TEACHER) == 0
    assert kl_to_teacher(TEACHER + 3, TEACHER) == pytest.approx(0, abs=1e-12), (
        "logits are known up to a constant a sample"
    )


def test_the_numbers_are_those_of_the_formula():
    student = torch.tensor([[LOG(2), 0.0, 0.0], [LOG(2), 0.0, 0.0], [0.0, 0.0, 0.0]])
    # 0;  1/4 log(1/2) + 1/2 log 2;  log 3 minus the entropy of (1/4, 1/4, 1/2)
    assert kl_to_teacher(student, TEACHER) == pytest.approx((0 + LOG(2) / 4 + LOG(3) - 1.5 * LOG(2)) / 3, abs=1e-6)
    assert agreement(student, TEACHER) == pytest.approx(1 / 3)
    assert kl_to_teacher(TEACHER[:1], torch.zeros(1, 3)) == pytest.approx(5 / 3 * LOG(2) - LOG(3), abs=1e-6), (
        "of the teacher, not of the student"
    )


def test_samples_count_and_not_classes():
    """Three of four samples agree; of the classes, each by itself, one wholly and one not at all."""
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert agreement(torch.tensor([[1.0, 0.0]]).expand(4, 2), teacher) == pytest.approx(0.75)
    assert agreement(torch.tensor([[0.0, 1.0]]).expand(4, 2), teacher) == pytest.approx(0.25)


def test_classes_that_are_excluded():
    teacher = torch.tensor([[0.0, 0.0, -math.inf]])
    assert kl_to_teacher(teacher.clone(), teacher) == 0
    assert kl_to_teacher(torch.zeros(1, 3), teacher) == pytest.approx(LOG(1.5))
    assert kl_to_teacher(teacher, torch.zeros(1, 3)) == math.inf


def test_many_samples_are_summed_in_double():
    """In float32 a running sum of 30,000 terms loses what this keeps; and the parts that it works in leave nothing
    out."""
    row = torch.tensor([[0.1, 0.0]])
    alone = kl_to_teacher(torch.zeros(1, 2), row)
    many = kl_to_teacher(torch.zeros(30_001, 2), row.expand(30_001, 2))
    assert many == pytest.approx(alone, rel=1e-12)


def test_what_cannot_be_compared():
    for measure in (agreement, kl_to_teacher, Agreement().update, KLToTeacher().update, LabelAgreement().update):
        with pytest.raises(ValueError, match=r"\(3, 3\) and teacher \(3, 5\)"):
            measure(TEACHER, torch.zeros(3, 5))


@pytest.mark.parametrize("metric, whole", [(Agreement, agreement), (KLToTeacher, kl_to_teacher)])
def test_batch_by_batch_is_the_whole(metric, whole):
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 53, 4, generator=generator)
    streamed = metric()
    for part in torch.arange(53).split(10):
        streamed.update(student[part], teacher[part])
    assert float(streamed.compute()) == pytest.approx(whole(student, teacher), rel=1e-6)


def test_labels_are_compared_one_by_one():
    student, teacher = torch.tensor([[1.0, -1.0], [2.0, 1.0]]), torch.tensor([[3.0, 1.0], [-2.0, 1.0]])
    agreed, apart = LabelAgreement(), LabelKLToTeacher()
    for row in range(2):
        agreed.update(student[row : row + 1], teacher[row : row + 1])
        apart.update(student[row : row + 1], teacher[row : row + 1])
    assert float(agreed.compute()) == 0.5
    assert float(apart.compute()) == pytest.approx(float(sigmoid_kd(student, teacher).mean()), rel=1e-6)
