"""Losses on logits: what the contract of their functions does not say of the modules."""

import math

import pytest
import torch

from kdlab import functional
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.losses import (
    CTKD,
    DIST,
    DKD,
    NKD,
    USKD,
    WSLD,
    BatchCorrelation,
    ClassCorrelation,
    CrossEntropy,
    HardLabel,
    HintonKD,
    LogitMSE,
    MultiLevel,
    Probe,
    SoftCrossEntropy,
    Standardised,
    VirtualTeacher,
)
from kdlab.objective import Objective
from kdlab.outputs import Outputs
from kdlab.schedules import Linear
from kdlab.training.assemble import make_objective


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


S, T, Y = tensor(6, 5), tensor(6, 5, seed=1), torch.tensor([0, 4, 2, 1, 1, 3])
S2, T2 = tensor(6, 5, seed=2), tensor(6, 5, seed=3)
FEATURES = {"stage2": tensor(6, 3, 2, 2, seed=4)}
STUDENT, TEACHER = Outputs(S, FEATURES, second=Outputs(S2)), Outputs(T, second=Outputs(T2))
BATCH = Batch(None, Y, torch.arange(6), weights=torch.ones(6))


def prepared(loss):
    torch.manual_seed(0)
    loss.prepare(Probe(STUDENT, TEACHER, None, 5, 6))
    return loss.double()


@pytest.mark.parametrize(
    "loss, expected",
    [
        (DKD(2.0, 3.0, 5.0), lambda: functional.dkd(S, T, Y, 2.0, 3.0, 5.0)),
        (DKD(temperature_squared=False), lambda: functional.dkd(S, T, Y) / 16),
        (NKD(2.0, 0.5), lambda: functional.nkd(S, T, Y, 2.0, 0.5)),
        (WSLD(3.0), lambda: functional.wsld(S, T, Y, 3.0)),
        (DIST(4.0, 2.0, 0.5), lambda: functional.dist(S, T, 4.0, 2.0, 0.5)),
        (DIST(4.0, temperature_squared=False), lambda: functional.dist(S, T, 4.0) / 16),
        (ClassCorrelation(2.0), lambda: functional.class_correlation(S, T, 2.0)),
        (BatchCorrelation(2.0), lambda: functional.batch_correlation(S, T, 2.0)),
        (SoftCrossEntropy(2.0, True), lambda: functional.soft_cross_entropy(S, T, 2.0, True)),
        (HardLabel(), lambda: functional.cross_entropy(S, T.argmax(1))),
        (LogitMSE(2.0), lambda: functional.logit_mse(S, T) / 4),
        (
            VirtualTeacher(0.9, 3.0, 2.0, "logarithms"),
            lambda: functional.virtual_teacher(S, Y, 0.9, 3.0, student_temperature=2.0, softened="logarithms"),
        ),
        (CrossEntropy(0.2, "others"), lambda: functional.cross_entropy(S, Y, 0.25)),
        (CrossEntropy(both_views=True), lambda: functional.cross_entropy(S, Y) + functional.cross_entropy(S2, Y)),
        (
            MultiLevel([4.0, 2.0], 2.0, 0.5, 3.0, standardised=True),
            lambda: functional.multi_level(
                S, T, S2, T2, [4.0, 2.0], instance_weight=2.0, class_weight=0.5, batch_weight=3.0, standardised=True
            ),
        ),
        (Standardised(DKD()), lambda: functional.dkd(functional.standardise(S), functional.standardise(T), Y)),
    ],
)
def test_a_module_passes_its_arguments_on(loss, expected):
    torch.testing.assert_close(loss(STUDENT, TEACHER, BATCH), expected())


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: DKD(alpha=-1.0), "alpha"),
        (lambda: DKD(beta=math.nan), "beta"),
        (lambda: DKD(temperature=0.0), "temperature"),
        (lambda: NKD(gamma=-1.0), "gamma"),
        (lambda: USKD(mu=math.inf), "mu"),
        (lambda: WSLD(temperature=-1.0), "temperature"),
        (lambda: DIST(gamma=-1.0), "gamma"),
        (lambda: DIST(epsilon=0.0), "epsilon"),
        (lambda: MultiLevel([]), "temperatures"),
        (lambda: MultiLevel([4.0, 0.0]), "temperatures"),
        (lambda: CTKD(span=0.0), "span"),
        (lambda: CTKD(reversal=-1.0), "reversal"),
        (lambda: CTKD(width=0), "width"),
        (lambda: CrossEntropy(smoothing_over="most"), "smoothing_over"),
        (lambda: LogitMSE(0.0), "temperature"),
        (lambda: VirtualTeacher(correct_probability=1.0), "correct_probability"),
        (lambda: VirtualTeacher(softened="both"), "softened"),
        (lambda: Standardised("kd"), "loss"),
    ],
)
def test_bad_arguments_name_themselves(make, name):
    with pytest.raises(ValueError, match=name):
        make()


@pytest.mark.parametrize("loss", [DIST(), ClassCorrelation(), BatchCorrelation(), MultiLevel(), prepared(USKD())])
def test_rows_of_weight_0_count_for_no_relation(loss):
    """Also where the objective has replaced them by zeros."""
    padded = [
        Outputs(
            torch.cat([x.logits, x.logits.new_full((2, 5), math.inf)]),
            {name: torch.cat([f, f[:2]]) for name, f in x.features.items()},
            second=Outputs(torch.cat([x.second.logits, x.second.logits[:2]])),
        )
        for x in (STUDENT, TEACHER)
    ]
    longer = Batch(None, torch.cat([Y, Y[:2]]), torch.arange(8), weights=torch.tensor([1.0] * 6 + [0.0] * 2))
    objective = Objective({"it": loss}, {"it": 1.0})
    torch.testing.assert_close(objective(*padded, longer).total, objective(STUDENT, TEACHER, BATCH).total)


# -- uskd --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, width", [((6, 7), 7), ((6, 4, 7), 7), ((6, 7, 2, 2), 7)])
def test_the_weak_classifier_of_uskd_reads_the_pooled_feature(shape, width):
    student = Outputs(S, {"mine": tensor(*shape)})
    loss = USKD("mine")
    assert (loss.needs_teacher, loss.student_taps, list(loss.parameters())) == (False, ("mine",), [])
    loss.prepare(Probe(student, None, None, 5, 6))
    assert loss.double().linear.weight.shape == (5, width)
    loss(student, None, BATCH).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in loss.parameters())


# -- standardised ------------------------------------------------------------------------------------------------------


def test_the_standardised_loss_has_the_needs_and_parts_of_the_loss_inside():
    outer = Standardised(USKD("stage2"))
    assert (outer.needs_teacher, outer.needs_target, outer.student_taps, outer.views) == (False, True, ("stage2",), 1)
    prepared(outer)
    assert sorted(outer.state_dict()) == ["loss.linear.bias", "loss.linear.weight"]
    assert outer(STUDENT, None, BATCH).shape == (6,)
    assert Standardised(MultiLevel()).views == 2
    views = Standardised(MultiLevel())(STUDENT, TEACHER, BATCH)
    torch.testing.assert_close(views, functional.multi_level(*(functional.standardise(x) for x in (S, T, S2, T2))))


def test_the_standardised_loss_reads_off_what_the_loss_inside_does():
    loss = Standardised(CTKD(start=2.0, span=10.0))
    assert loss.readings() == {}
    loss(STUDENT, TEACHER, BATCH)
    assert loss.readings() == {"temperature": pytest.approx(2 + 10 / (1 + math.exp(-1)))}


def test_standardised_logits_do_not_depend_on_shift_and_scale():
    loss = Standardised(HintonKD(2.0))
    torch.testing.assert_close(
        loss(STUDENT, TEACHER, BATCH), loss(Outputs(3 * S + 1), Outputs(0.5 * T - 2), BATCH), rtol=1e-6, atol=1e-8
    )


def test_a_config_can_put_one_loss_into_another_with_a_schedule_inside():
    inner = {
        "_target_": "kdlab.losses.HintonKD",
        "temperature": {"schedule": "linear", "start": 8, "end": 2, "epochs": 4},
    }
    objective = make_objective({"kd": {"_target_": "kdlab.losses.Standardised", "weight": 9.0, "loss": inner}})
    assert (objective.weights, objective.scalars()) == ({"kd": 9.0}, {"kd.loss.temperature": 8.0})
    with pytest.raises(InputError, match=r"loss.kd.*temperature must be greater than 0"):
        make_objective(
            {
                "kd": {
                    "_target_": "kdlab.losses.Standardised",
                    "loss": {**inner, "temperature": {**inner["temperature"], "end": 0}},
                }
            }
        )
    with pytest.raises(InputError, match="no number 'loss.heat'"):
        Objective({"kd": Standardised(HintonKD())}, {"kd": 1.0}, {"kd.loss.heat": Linear(8, 2, 4)})


def test_a_number_of_the_loss_inside_can_have_a_schedule():
    objective = Objective({"kd": Standardised(HintonKD())}, {"kd": 1.0}, {"kd.loss.temperature": Linear(8, 2, 4)})
    objective.advance(2.0)
    assert objective.terms["kd"].loss.temperature == 5.0 and objective.scalars() == {"kd.loss.temperature": 5.0}


# -- ctkd --------------------------------------------------------------------------------------------------------------


def test_the_temperature_of_ctkd_climbs_what_the_student_descends():
    loss = CTKD(reversal=0.5).double()
    student = S.clone().requires_grad_()
    loss(Outputs(student), TEACHER, BATCH).mean().backward()
    temperature = 1 + 20 / (1 + math.exp(-1.0))
    assert loss.readings() == {"temperature": pytest.approx(temperature)}
    step = 1e-5
    slope = (
        functional.hinton_kd(S, T, temperature + step).mean() - functional.hinton_kd(S, T, temperature - step).mean()
    ).item() / (2 * step)
    of_theta = 20 * math.exp(-1.0) / (1 + math.exp(-1.0)) ** 2
    assert loss.theta.grad.item() == pytest.approx(-0.5 * slope * of_theta, rel=1e-5)
    mine = S.clone().requires_grad_()
    functional.hinton_kd(mine, T, temperature).mean().backward()
    torch.testing.assert_close(student.grad, mine.grad)


def test_ctkd_per_sample_begins_as_the_one_for_all_and_leaves_the_student_alone():
    loss, one = prepared(CTKD(per_sample=True)), CTKD().double()
    student = S.clone().requires_grad_()
    values = loss(Outputs(student), TEACHER, BATCH)
    torch.testing.assert_close(values, one(STUDENT, TEACHER, BATCH))
    loss.network[2].weight.data.normal_()
    loss(Outputs(student), TEACHER, BATCH).sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0 for parameter in loss.parameters())
    temperatures = functional.learned_temperature(loss.network(torch.cat([S, T], 1)).squeeze(1)).detach()
    assert temperatures.std() > 0.1
    assert loss.readings()["temperature"] == pytest.approx(temperatures.mean().item())
    mine = S.clone().requires_grad_()
    functional.ctkd(mine, T, temperatures).sum().backward()
    torch.testing.assert_close(student.grad, mine.grad)


def test_the_temperature_is_logged():
    objective = Objective({"ctkd": CTKD().double()}, {"ctkd": 1.0})
    assert objective.scalars() == {}
    objective(STUDENT, TEACHER, BATCH)
    assert objective.scalars() == {"ctkd.temperature": pytest.approx(15.6212, abs=1e-4)}


def test_a_standardised_loss_keeps_what_the_loss_inside_needs():
    inner = HintonKD()
    inner.fixed, inner.needs_equal_widths = ("temperature",), True
    outer = Standardised(inner)
    assert outer.fixed == ("loss.temperature",) and outer.needs_equal_widths
    with pytest.raises(InputError, match="reads it once"):
        Objective({"std": outer}, {"std": 1.0}, {"std.loss.temperature": Linear(1, 2, 3)})
