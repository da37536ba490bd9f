import pytest
import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional import hinton_kd
from kdlab.losses import SP, CrossEntropy, Hint, HintonKD, LogitMSE, Loss, Probe
from kdlab.objective import LossParts, Objective, mean_of
from kdlab.outputs import Outputs
from kdlab.schedules import Complement, Linear, Stop, WarmUp, schedule


class Column(Loss):
    """A column of the student's logits; counts how often it is asked."""

    def __init__(self, number, teacher=False, parameter=False):
        super().__init__()
        self.number, self.needs_teacher, self.asked = number, teacher, 0
        if parameter:
            self.scale = nn.Parameter(torch.ones(()))

    def forward(self, student, teacher, batch):
        self.asked += 1
        return student.logits[:, self.number] * getattr(self, "scale", 1.0)


class Whole(Loss):
    needs_teacher = False

    def forward(self, student, teacher, batch):
        return student.logits.sum()


def batch(rows=2, **more):
    return Batch(torch.zeros(rows, 1), torch.zeros(rows, dtype=torch.long), torch.arange(rows), **more)


def logits():
    return torch.tensor([[1.0, 10.0, 100.0], [3.0, 30.0, 300.0]], requires_grad=True)


# -- the sum -----------------------------------------------------------------------------------------------------------


def test_the_total_is_the_weighted_sum_and_the_parts_are_unweighted_and_detached():
    student = logits()
    objective = Objective({"b": Column(1), "a": Column(0), "c": Column(2)}, {"a": 0.5, "b": 2, "c": 0.25})
    loss = objective(Outputs(student), None, batch())
    assert loss.total.item() == pytest.approx(2 * 20 + 0.5 * 2 + 0.25 * 200)
    assert list(loss.parts) == ["b", "a", "c"]
    assert {name: part.item() for name, part in loss.parts.items()} == {"a": 2, "b": 20, "c": 200}
    assert not any(part.requires_grad for part in loss.parts.values())
    loss.total.backward()
    assert student.grad.tolist() == [[0.25, 1.0, 0.125]] * 2


def test_normaliser_and_weights_of_the_rows():
    objective = Objective({"a": Column(0)}, {"a": 2.0})
    given = batch(weights=torch.tensor([1.0, 0.0]))
    assert objective(Outputs(logits()), None, given).parts["a"].item() == 1.0
    given = batch(weights=torch.tensor([1.0, 2.0]), normaliser=14.0)
    loss = objective(Outputs(logits()), None, given)
    assert loss.parts["a"].item() == 0.5 and loss.total.item() == 1.0


def test_a_loss_over_the_whole_batch_is_not_divided():
    loss = Objective({"whole": Whole()}, {"whole": 0.5})(
        Outputs(logits()), None, batch(weights=torch.ones(2), normaliser=7.0)
    )
    assert loss.parts["whole"].item() == 444 and loss.total.item() == 222


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("loss", [HintonKD(), LogitMSE()])
def test_a_row_of_weight_zero_never_reaches_the_student_whatever_the_teacher_says_of_it(loss, bad):
    # masking the value alone is not enough: 0 * nan is nan on the way back
    student, teacher = logits(), logits().detach() / 2
    teacher[1, 0] = bad
    total = Objective({"loss": loss}, {"loss": 1.0})(
        Outputs(student), Outputs(teacher), batch(weights=torch.tensor([1.0, 0.0]))
    ).total
    total.backward()
    assert total.isfinite() and student.grad[1].tolist() == [0.0] * 3 and student.grad[0].isfinite().all()


def test_what_several_teach_is_averaged():
    """Both the part of the labels and the taught one, over the teachers."""
    one, other = (
        LossParts(labels=torch.tensor(a), taught=torch.tensor(b), parts={"kd": torch.tensor(b)})
        for a, b in ((1.0, 2.0), (3.0, 6.0))
    )
    mean = mean_of([one, other])
    assert (mean.labels.item(), mean.taught.item(), mean.parts["kd"].item(), mean.total.item()) == (2.0, 4.0, 4.0, 6.0)


def test_a_term_on_labels_counts_the_rows_that_have_one():
    labelled = torch.tensor([True, False])
    objective = Objective({"ce": CrossEntropy(), "a": Column(0)}, {"ce": 1.0, "a": 1.0})
    assert objective(Outputs(logits()), None, batch(normaliser=2.0)).counts == {}
    step = dict(normaliser=2.0, labelled=labelled)
    for given, count in (
        (dict(labelled_normaliser=1.5), (1.5, 1.5)),
        (dict(labelled_normaliser=1.5, labelled_rows=3.0), (1.5, 3.0)),
        ({}, (1.0, 1.0)),
    ):
        loss = objective(Outputs(logits()), None, batch(**step, **given))
        assert loss.counts == {"ce": count}
    assert loss.scaled(taught=2.0).counts == {"ce": count} == mean_of([loss, loss]).counts
    assert (loss + loss.named("peer2")).counts == {"ce": count, "ce_peer2": count}


def test_a_term_learns_from_the_teacher_that_is_its_own():
    """A term that by_term does not name learns from the one for all."""
    student, common = Outputs(logits()), Outputs(torch.zeros(2, 3))
    own = Outputs(torch.ones(2, 3))
    objective = Objective({"a": LogitMSE(), "b": LogitMSE()}, {"a": 1.0, "b": 1.0})
    parts = objective(student, common.replace(by_term={"b": own}), batch()).parts
    assert parts["a"].item() == pytest.approx(student.logits.square().mean().item())
    assert parts["b"].item() == pytest.approx((student.logits - 1).square().mean().item())


def test_no_terms_are_refused():
    with pytest.raises(InputError, match="loss"):
        Objective({}, {})


# -- what is not computed ----------------------------------------------------------------------------------------------


def test_a_term_of_weight_zero_is_skipped_unless_it_owns_parameters():
    # a term with parameters is computed, so that every process has a gradient for them at every step
    plain, own = Column(0), Column(1, parameter=True)
    loss = Objective({"plain": plain, "own": own, "c": Column(2)}, {"plain": 0, "own": 0, "c": 1})(
        Outputs(logits()), None, batch()
    )
    loss.total.backward()
    assert list(loss.parts) == ["own", "c"] and (plain.asked, own.asked) == (0, 1)
    assert own.scale.grad.item() == 0.0 and loss.total.item() == 200


def test_when_every_weight_is_zero_the_loss_is_zero_and_still_reaches_the_student():
    student = logits()
    loss = Objective({"a": Column(0)}, {"a": 0.0})(Outputs(student), None, batch())
    loss.total.backward()
    assert loss.total.item() == 0.0 and loss.parts == {} and student.grad.abs().sum() == 0


def test_a_schedule_moves_within_an_epoch():
    objective = Objective(
        {"kd": HintonKD()},
        {"kd": 0.0},
        {"kd.weight": Linear(0.0, 1.0, epochs=2), "kd.temperature": Linear(1.0, 5.0, epochs=2)},
    )
    found = []
    for epoch in (0.0, 0.25, 0.5, 1.5):
        objective.advance(epoch)
        found.append((objective.weights["kd"], objective.terms["kd"].temperature))
    assert found == [(0.0, 1.0), (0.125, 1.5), (0.25, 2.0), (0.75, 4.0)]


def test_asks_teacher_turns_false_when_the_stop_schedule_ends():
    objective = Objective(
        {"ce": CrossEntropy(), "kd": HintonKD()},
        {"ce": 0.1, "kd": 0.9},
        {"kd.weight": Stop(0.9, epochs=2), "ce.weight": Complement(Stop(0.9, epochs=2))},
    )
    asked = []
    for epoch in (0.0, 1.99, 2.0, 3.0):
        objective.advance(epoch)
        asked.append(objective.asks_teacher)
    assert asked == [True, True, False, False] and objective.needs_teacher
    loss = objective(Outputs(logits()), None, batch())
    assert list(loss.parts) == ["ce"] and loss.total.item() == pytest.approx(loss.parts["ce"].item())


def test_who_needs_a_teacher():
    assert not Objective({"ce": CrossEntropy()}, {"ce": 1}).needs_teacher
    off = Objective({"ce": CrossEntropy(), "kd": HintonKD()}, {"ce": 1, "kd": 0})
    assert off.needs_teacher and not off.asks_teacher
    assert Objective({"own": Column(0, teacher=True, parameter=True)}, {"own": 0}).asks_teacher


# -- schedules ---------------------------------------------------------------------------------------------------------


def test_weight_and_temperature_move_with_advance():
    kd = HintonKD(temperature=3.0)
    objective = Objective(
        {"ce": CrossEntropy(), "kd": kd},
        {"ce": 1.0, "kd": 1.0},
        {"kd.weight": WarmUp(0.8, epochs=2), "kd.temperature": Linear(8, 2, epochs=2)},
    )
    assert objective.scalars() == {"kd.weight": 0.4, "kd.temperature": 8.0}
    objective.advance(1.0)
    assert objective.scalars() == {"kd.weight": 0.8, "kd.temperature": 5.0}
    teacher = logits().detach() / 50
    loss = objective(Outputs(logits()), Outputs(teacher), batch())
    expected = hinton_kd(logits(), teacher, 5.0).mean().item()
    assert loss.parts["kd"].item() == pytest.approx(expected)
    assert loss.total.item() == pytest.approx(loss.parts["ce"].item() + 0.8 * expected)
    objective.advance(0.0)
    assert objective.scalars() == {"kd.weight": 0.4, "kd.temperature": 8.0}


def test_a_schedule_in_steps_moves_with_the_step_alone():
    counted = schedule({"schedule": "linear", "start": 1, "end": 5, "steps": 8})
    objective = Objective({"kd": HintonKD()}, {"kd": 1.0}, {"kd.temperature": counted})
    assert objective.scalars() == {"kd.temperature": 1.0}
    for epoch, step, temperature in ((0.5, 2, 2.0), (0.5, 4, 3.0), (7.0, 4, 3.0), (0.0, 9, 5.0)):
        objective.advance(epoch, step)
        assert objective.scalars() == {"kd.temperature": temperature}
    with pytest.raises(ValueError, match="advance"):
        objective.advance(1.0)


def test_a_schedule_holds_from_the_first_step_on():
    assert Objective({"a": Column(0)}, {"a": 5.0}, {"a.weight": Linear(1, 0, epochs=3)}).weights == {"a": 1.0}


@pytest.mark.parametrize(
    "key",
    ["kd.temprature", "kd.temperature_squared", "kd.forward", "kd.training", "nobody.weight", "nobody.temperature"],
)
def test_a_schedule_on_an_unknown_scalar_is_refused(key):
    with pytest.raises(InputError, match=key):
        Objective({"kd": HintonKD()}, {"kd": 1.0}, {key: Linear(1, 2, epochs=3)})


# -- preparing ---------------------------------------------------------------------------------------------------------


def test_taps_are_those_of_all_terms():
    one, two = Column(0), Column(1)
    one.student_taps, two.student_taps, two.teacher_taps = ("x", "y"), ("y",), ("z",)
    objective = Objective({"one": one, "two": two}, {"one": 1, "two": 1})
    assert objective.student_taps == {"x", "y"} and objective.teacher_taps == {"z"}


def test_prepare_names_the_term_that_cannot():
    class Fussy(Column):
        def prepare(self, probe):
            raise ValueError(f"{probe.classes} classes are too many")

    objective = Objective({"ce": CrossEntropy(), "fussy": Fussy(0)}, {"ce": 1, "fussy": 1})
    with pytest.raises(InputError, match="loss.fussy: 3 classes"):
        objective.prepare(Probe(Outputs(logits()), None, None, classes=3, train_size=10))


def test_the_terms_are_registered():
    own = Column(0, parameter=True)
    assert list(Objective({"own": own}, {"own": 1}).parameters()) == [own.scale]


def test_a_teacher_that_comes_in_later_has_a_say():
    """A weight that starts at 0 does not make a run a baseline; one that stays there does."""
    warm = Objective({"kd": HintonKD()}, {"kd": 0.0}, {"kd.weight": Linear(start=0, end=1, epochs=2)})
    assert not warm.asks_teacher and warm.learns_from_teacher
    assert not Objective({"ce": CrossEntropy(), "kd": HintonKD()}, {"ce": 1.0, "kd": 0.0}).learns_from_teacher


def outputs(**features):
    return Outputs(torch.zeros(4, 3), features={name: torch.zeros(4, size) for name, size in features.items()})


def test_a_feature_that_is_not_given_is_named():
    objective = Objective({"sp": SP("a", "b")}, {"sp": 1.0})
    rows = Batch(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    with pytest.raises(InputError) as error:
        objective(outputs(stage1=2), outputs(b=2), rows)
    assert str(error.value) == (
        "loss.sp: it reads the student's feature 'a', and the student's Outputs have stage1; give them "
        "kdlab.Outputs(logits, features={'a': …}), or capture them: with kdlab.models.taps.Taps(student, ['a']) as "
        "features: logits = student(inputs)"
    )
    with pytest.raises(InputError, match="the teacher's feature 'b', and the teacher's Outputs have no features;"):
        objective(outputs(a=2), outputs(), rows)
    assert float(objective(outputs(a=2), outputs(b=5), rows).total) == 0


def test_a_loss_that_was_not_prepared_says_so():
    objective = Objective({"hint": Hint(student_tap="a", teacher_tap="b")}, {"hint": 1.0})
    rows = Batch(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    student, teacher = outputs(a=2), outputs(b=5)
    with pytest.raises(InputError, match=r"Hint builds parts .*call objective.prepare\(kdlab.losses.Probe\("):
        objective(student, teacher, rows)
    objective.prepare(Probe(student, teacher, None, 3, 4))
    assert objective(student, teacher, rows).total >= 0
