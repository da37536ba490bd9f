import pytest
import torch
from torch import nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.losses import CrossEntropy, Hint, HintonKD, LogitMSE, Loss, Probe
from kdlab.outputs import Outputs


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


STUDENT, TEACHER = Outputs(tensor(4, 5)), Outputs(tensor(4, 5, seed=1))
BATCH = Batch(inputs=torch.zeros(4, 2), target=torch.tensor([0, 4, 2, -100]), index=torch.arange(4))


@pytest.mark.parametrize(
    "loss, expected",
    [
        (CrossEntropy(), lambda s, t, y: functional.cross_entropy(s, y)),
        (CrossEntropy(label_smoothing=0.2), lambda s, t, y: functional.cross_entropy(s, y, 0.2)),
        (HintonKD(), lambda s, t, y: functional.hinton_kd(s, t, 4.0, True)),
        (HintonKD(temperature=2, temperature_squared=False), lambda s, t, y: functional.hinton_kd(s, t, 2.0, False)),
        (LogitMSE(), lambda s, t, y: functional.logit_mse(s, t)),
    ],
)
def test_a_module_equals_its_function(loss, expected):
    values = loss(STUDENT, TEACHER, BATCH)
    assert values.shape == (4,) and torch.equal(values, expected(STUDENT.logits, TEACHER.logits, BATCH.target))
    assert list(loss.parameters()) == []


def test_what_a_loss_declares():
    assert [(loss.needs_teacher, loss.needs_target) for loss in (CrossEntropy, HintonKD, LogitMSE, Hint)] == [
        (False, True),
        (True, False),
        (True, False),
        (True, False),
    ]
    assert Hint("stage1", "stage3").student_taps == ("stage1",) and Hint("stage1", "stage3").teacher_taps == ("stage3",)
    assert HintonKD().student_taps == HintonKD().teacher_taps == ()


def test_cross_entropy_needs_no_teacher():
    assert CrossEntropy()(STUDENT, None, BATCH)[3].item() == 0.0


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: HintonKD(temperature=0), "temperature"),
        (lambda: HintonKD(temperature=-1.0), "temperature"),
        (lambda: HintonKD(temperature=float("nan")), "temperature"),
        (lambda: CrossEntropy(label_smoothing=-0.1), "label_smoothing"),
        (lambda: CrossEntropy(label_smoothing=1.1), "label_smoothing"),
        (lambda: CrossEntropy(label_smoothing=float("nan")), "label_smoothing"),
    ],
)
def test_bad_arguments_name_themselves(make, name):
    with pytest.raises(ValueError, match=name):
        make()


def test_a_loss_without_forward_names_itself():
    class Mine(Loss):
        pass

    with pytest.raises(NotImplementedError, match="Mine"):
        Mine()(STUDENT, TEACHER, BATCH)


# -- hint --------------------------------------------------------------------------------------------------------------


def outputs(**features):
    return Outputs(torch.zeros(4, 5), features)


def prepared(loss, student, teacher):
    loss.prepare(Probe(student, teacher, None, classes=5, train_size=100))
    return loss


@pytest.mark.parametrize(
    "student, teacher",
    [
        ((8,), (16,)),
        ((6, 8), (6, 16)),
        ((4, 8, 8), (6, 8, 8)),
        ((4, 8, 8), (6, 4, 4)),
        ((4, 4, 4), (6, 8, 8)),
        ((4, 7, 7), (6, 5, 4)),
    ],
)
@pytest.mark.parametrize("normalise", [False, True])
def test_hint_connects_unequal_widths_and_map_sizes(student, teacher, normalise):
    s, t = outputs(mine=tensor(4, *student)), outputs(theirs=tensor(4, *teacher, seed=1))
    loss = Hint("mine", "theirs", normalise)
    assert list(loss.parameters()) == []
    prepared(loss, s, t)
    values = loss(s, t, BATCH)
    assert torch.equal(values, functional.hint(loss.connector(s.features["mine"]), t.features["theirs"]))
    values.sum().backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_the_connector_is_registered():
    convolution, normalisation = 3 * 7 + 7, 7 + 7
    for normalise, expected in ((False, convolution), (True, convolution + normalisation)):
        loss = prepared(Hint("f", "f", normalise), outputs(f=tensor(4, 3, 4, 4)), outputs(f=tensor(4, 7, 4, 4)))
        assert sum(parameter.numel() for parameter in loss.parameters()) == expected
    assert all(key.startswith("connector.") for key in loss.state_dict())
    assert any(key.endswith("running_mean") for key in loss.state_dict())


def test_the_connector_learns_and_the_loss_falls():
    torch.manual_seed(0)
    s, t = outputs(f=tensor(4, 6)), outputs(f=tensor(4, 3, seed=1))
    loss = prepared(Hint("f", "f"), s, t)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    first = loss(s, t, BATCH).mean().item()
    for _ in range(50):
        optimizer.zero_grad()
        loss(s, t, BATCH).mean().backward()
        optimizer.step()
    assert loss(s, t, BATCH).mean().item() < first / 4


def test_hint_reads_the_taps_it_names_and_no_others():
    s, t = outputs(a=tensor(4, 3), b=tensor(4, 3, seed=2)), outputs(a=tensor(4, 3, seed=3), b=tensor(4, 3, seed=4))
    loss = Hint("b", "a")
    loss.connector = nn.Identity()
    assert torch.equal(loss(s, t, BATCH), functional.hint(s.features["b"], t.features["a"]))


def test_hint_between_features_of_different_kinds_prints_both_shapes():
    with pytest.raises(ValueError, match=r"\(8,\).*\(4, 5, 5\)"):
        prepared(Hint("f", "f"), outputs(f=tensor(4, 8)), outputs(f=tensor(4, 4, 5, 5)))
