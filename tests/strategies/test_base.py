"""What every strategy is given by its base, on tiny networks."""

import pytest
import torch

from kdlab.losses import CrossEntropy, HintonKD
from kdlab.objective import Objective
from kdlab.strategies import MeanTeacher
from kdlab.strategies.base import Strategy
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.tasks import Classification
from kdlab.tasks.metric import Metric, Report
from kdlab.teachers import Frozen
from tests.strategies.tiny import CLASSES, batch_of, linear, made


class Plain(Strategy):
    """As offline, and a student that teaches itself where there is no frozen teacher."""

    views = 2

    def taught_by(self, batch):
        return super().taught_by(batch) if self.teacher is not None else self.observe(batch)

    def distill(self, batch):
        raise AssertionError("no step is taken here")


def _terms(temperature=2.0, both_views=False):
    return {"ce": CrossEntropy(both_views=both_views), "kd": HintonKD(temperature)}


def _plain(objective, network=None):
    task = Classification(CLASSES)
    recipe = OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=0.1))
    return Plain(
        student=linear(), teacher=network and Frozen(network, task), objective=objective, task=task, optimization=recipe
    )


def test_who_teaches_is_a_constant_even_if_it_learns():
    batch = batch_of(6, views=2)
    strategy = _plain(Objective(_terms(both_views=True), {"ce": 1.0, "kd": 1.0}))
    strategy.watch(["0"])
    assert strategy.observe(batch).logits.requires_grad
    said = strategy.teach(batch)
    assert torch.equal(said.logits, strategy.student(batch.inputs))
    assert not any(value.requires_grad for value in (said.logits, said.features["0"], said.second.logits))


def test_the_teacher_sees_the_second_view_where_a_loss_compares_two():
    batch, network = batch_of(6, views=2), linear(1)
    said = _plain(Objective(_terms(both_views=True), {"ce": 1.0, "kd": 1.0}), network).teach(batch)
    assert torch.equal(said.logits, network(batch.inputs)) and torch.equal(
        said.second.logits, network(batch.further_views[0])
    )
    assert _plain(Objective(_terms(), {"ce": 1.0, "kd": 1.0}), network).teach(batch).second is None


def test_a_network_with_an_objective_of_its_own_learns_that():
    batch = batch_of(6, views=2)
    strategy = _plain(Objective(_terms(), {"ce": 0.5, "kd": 2.0}))
    own = Objective(_terms(7.0), {"ce": 3.0, "kd": 1.0})
    student, teacher = strategy.observe(batch), strategy.outputs_of(linear(1), strategy._taps, batch).detach()
    expected = own(student, teacher, batch).total.item()
    for teachers in (teacher, [teacher], [teacher, teacher]):
        assert strategy.loss_of(student, teachers, batch, own).total.item() == pytest.approx(expected, rel=1e-12)
    assert strategy.loss_of(student, teacher, batch).total.item() == pytest.approx(
        strategy.objective(student, teacher, batch).total.item(), rel=1e-12
    )
    assert abs(strategy.loss_of(student, teacher, batch).total.item() - expected) > 0.1


@pytest.mark.parametrize("higher_is_better, best", [(True, "average"), (False, "student")])
def test_the_best_on_validation_is_kept(higher_is_better, best):
    strategy = made(MeanTeacher, linear(), _terms(), {"ce": 0.5, "kd": 2.0}, batch_of(6, views=2), keep="validation")
    headline = Metric("accuracy", higher_is_better)
    strategy.task.report = Report("classification", "classes", (headline,))
    assert strategy.kept({"student": {"accuracy": 0.5}, "average": {"accuracy": 0.75}}) == best
    assert strategy.kept({"student": {"accuracy": 0.5}, "average": {"accuracy": 0.5}}) == "student", (
        "of equals the first"
    )
    assert strategy.kept({"student": {}, "average": {}}) == "student", "nothing was validated"
