"""The losses on features: what they build, own and refuse; their numbers are compared in tests/golden and
tests/contract."""

import pytest
import torch
from torch import nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.losses import (
    SRRL,
    ActivationBoundary,
    AttentionTransfer,
    FactorTransfer,
    OverhaulDistillation,
    Probe,
    ReviewKD,
    SemCKD,
    SimKD,
    VariationalInformation,
)
from kdlab.models import CNN, MLP
from kdlab.models.factors import Paraphraser
from kdlab.models.reused import ReusedClassifier
from kdlab.models.taps import Taps
from kdlab.outputs import Outputs

BATCH = Batch(torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3, torch.arange(6))
TAPS = ["stage1", "stage2", "preact1", "preact2", "embedding", "embedding.input"]
TWO = {"student_taps": ["stage1", "stage2"], "teacher_taps": ["stage1", "stage2"]}
PRE = {"student_taps": ["preact1", "preact2"], "teacher_taps": ["preact1", "preact2"]}
LAST = {"student_taps": ["preact1", "embedding"], "teacher_taps": ["preact1", "embedding"]}
LOSSES = {
    "attention": lambda: AttentionTransfer(**TWO),
    "vid": lambda: VariationalInformation(**TWO),
    "ab": lambda: ActivationBoundary(**PRE),
    "factor": FactorTransfer,
    "ofd": lambda: OverhaulDistillation(**PRE),
    "reviewkd": lambda: ReviewKD(**LAST),
    "simkd": SimKD,
    "srrl": SRRL,
    "semckd": lambda: SemCKD(**TWO, batch_size=8),
}


def cnn(*widths):
    torch.manual_seed(len(widths) + widths[0])
    return CNN(3, (1, 8, 8), widths)


def mlp(*widths):
    torch.manual_seed(widths[0])
    return MLP(3, (1, 8, 8), widths)


def said(network):
    with Taps(network, [tap for tap in TAPS if "2" not in tap or network.depth > 1]) as features:
        return Outputs(network(BATCH.inputs), features)


def prepared(loss, student, teacher):
    with torch.no_grad():
        loss.prepare(Probe(said(student.eval()), said(teacher.eval()), teacher, 3, 6))
    student.train()
    return loss


@pytest.mark.parametrize("name", LOSSES)
def test_student_and_connectors_learn_and_the_teacher_does_not(name):
    student, teacher = cnn(4, 6), cnn(8, 10).eval()
    loss = prepared(LOSSES[name](), student, teacher).train()
    values = loss(said(student), said(teacher), BATCH)
    assert values.shape == (6,) and values.isfinite().all()
    values.mean().backward()
    assert student.stage1[0].weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
    for parameter_name, parameter in loss.named_parameters():
        assert (parameter.grad is None) != parameter.requires_grad, parameter_name
    assert all(buffer.dtype in (torch.float32, torch.long) for buffer in loss.buffers())


@pytest.mark.parametrize("name", ["vid", "ab", "simkd", "srrl", "semckd", "reviewkd"])
def test_vectors_serve_where_the_method_has_no_need_of_places(name):
    student, teacher = mlp(5, 7), mlp(9, 11)
    values = prepared(LOSSES[name](), student, teacher)(said(student), said(teacher), BATCH)
    assert values.shape == (6,) and values.isfinite().all()


@pytest.mark.parametrize(
    "name, words",
    [
        ("attention", "positions.*convolutional"),
        ("factor", "convolutions.*convolutional"),
        ("ofd", "no BatchNorm.*teacher_norms"),
    ],
)
def test_where_they_do_not_it_is_said_before_anything_runs(name, words):
    with pytest.raises(ValueError, match=words):
        prepared(LOSSES[name](), mlp(5, 7), mlp(9, 11))


@pytest.mark.parametrize("name", ["vid", "simkd", "srrl", "semckd", "ofd"])
def test_a_vector_and_a_map_do_not_fit(name):
    with pytest.raises(ValueError, match=r"\(5,\).*\(8, 8, 8\)|\(7,\).*\(10, 4, 4\)"):
        prepared(LOSSES[name](), mlp(5, 7), cnn(8, 10))


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: AttentionTransfer(["stage1"], ["stage1", "stage2"]), "student_taps and teacher_taps"),
        (lambda: AttentionTransfer([], []), "student_taps"),
        (lambda: AttentionTransfer(form="both"), "form"),
        (lambda: AttentionTransfer(power=0), "power"),
        (lambda: VariationalInformation(variance=0), "variance"),
        (lambda: VariationalInformation(variance=0.1, epsilon=0.2), "variance"),
        (lambda: ActivationBoundary(margin=-1), "margin"),
        (lambda: FactorTransfer(rate=0), "rate"),
        (lambda: FactorTransfer(reconstruction_weight=-1), "reconstruction_weight"),
        (lambda: OverhaulDistillation("a", "b", ["c", "d"]), "teacher_norms"),
        (lambda: ReviewKD(sizes=[1, 2]), "sizes"),
        (lambda: ReviewKD(most_channels=0), "most_channels"),
        (lambda: SimKD(factor=0), "factor"),
        (lambda: SRRL(divergence="l1"), "divergence"),
        (lambda: SemCKD(batch_size=2), "factor"),
        (lambda: SemCKD(temperature=0), "temperature"),
    ],
)
def test_bad_arguments_name_themselves(make, name):
    with pytest.raises(ValueError, match=name):
        make()


def test_the_variances_begin_as_said_and_are_parameters():
    loss = prepared(VariationalInformation(**TWO, variance=3.0), cnn(4, 6), cnn(8, 10))
    variances = [nn.functional.softplus(scale) + loss.epsilon for scale in loss.scales]
    assert [len(v) for v in variances] == [8, 10] and torch.allclose(torch.cat(variances), torch.tensor(3.0))
    assert all(isinstance(scale, nn.Parameter) for scale in loss.scales)


def test_earlier_pairs_weigh_half_of_the_next():
    teacher = cnn(4, 6)
    loss = prepared(ActivationBoundary(**PRE), cnn(4, 6), teacher)
    assert [type(module) for module in loss.connectors] == [nn.Identity] * 2 and loss.halving() == [0.5, 1.0]
    student, teacher = said(cnn(4, 6)), said(teacher)
    first, second = (
        functional.activation_boundary(student.features[tap], teacher.features[tap]) for tap in ("preact1", "preact2")
    )
    assert torch.allclose(loss(student, teacher, BATCH), 0.5 * first + second)


def test_the_overhauls_margins_are_of_the_teachers_batch_norms():
    teacher = cnn(8, 10)
    nn.init.normal_(teacher.stage2[1].bias)
    found, named = OverhaulDistillation(**PRE), OverhaulDistillation(**PRE, teacher_norms=["stage1.1", "stage2.1"])
    for loss in (found, named):
        prepared(loss, cnn(4, 6), teacher)
        assert torch.equal(
            loss.margin1, functional.normal_margin(teacher.stage2[1].weight, teacher.stage2[1].bias).float()
        )
        assert loss.margin0.shape == (8,) and torch.allclose(loss.margin0, torch.tensor(-0.79788456))
    with pytest.raises(ValueError, match="stage1.0"):
        prepared(OverhaulDistillation("preact1", "preact1", "stage1.0"), cnn(4, 6), teacher)
    with pytest.raises(ValueError, match="10 channels.*8, 8, 8"):
        prepared(OverhaulDistillation("preact1", "preact1", "stage2.1"), cnn(4, 6), teacher)


def test_a_paraphraser_learns_beside_the_student_or_is_read_and_frozen(tmp_path):
    student, teacher = cnn(4, 6), cnn(8, 10)
    beside = prepared(FactorTransfer(reconstruction_weight=1.0), student, teacher)
    given = said(teacher).features["embedding.input"]
    together, alone = beside(said(student), said(teacher), BATCH), functional.hint(beside.paraphraser(given), given)
    beside.reconstruction_weight = 0.0
    torch.testing.assert_close(together - alone, beside(said(student), said(teacher), BATCH))

    trained = Paraphraser(10)
    torch.save(trained.state_dict(), tmp_path / "paraphraser.pt")
    frozen = prepared(
        FactorTransfer(reconstruction_weight=0.0, paraphraser=str(tmp_path / "paraphraser.pt")), student, teacher
    )
    assert torch.equal(frozen.paraphraser.encoder[0].weight, trained.encoder[0].weight)
    assert not any(parameter.requires_grad for parameter in frozen.paraphraser.parameters())
    with pytest.raises(ValueError, match="paraphraser: .*8 channels"):
        prepared(FactorTransfer(paraphraser=str(tmp_path / "paraphraser.pt")), student, cnn(10, 8))


def test_the_network_that_simkd_deploys_answers_what_the_loss_says():
    student, teacher = cnn(4, 6), cnn(10)  # the teacher's map is twice as large
    loss = prepared(SimKD("embedding.input", "embedding.input"), student, teacher)
    assert loss.head.size == (4, 4)
    loss(said(student), said(teacher), BATCH)
    network = ReusedClassifier(student, "embedding.input", loss.head).eval()
    answers = network(BATCH.inputs)
    assert answers.shape == (6, 3) and torch.equal(answers, loss.logits(said(student)))
    projected = loss.head.project(said(student).features["embedding.input"])
    assert torch.allclose(answers, teacher.classifier(projected.mean((2, 3))))
    assert not torch.equal(answers, student(BATCH.inputs))
    again = ReusedClassifier(student, "embedding.input", loss.head)
    again.load_state_dict(network.state_dict())


def test_a_student_whose_projected_feature_is_the_teachers_deploys_the_teachers_accuracy():
    teacher = cnn(10).eval()
    loss = prepared(SimKD(), cnn(10), teacher).eval()
    loss.head.projector = nn.Identity()
    assert loss(said(teacher), said(teacher), BATCH).abs().max() == 0
    assert torch.allclose(loss.logits(said(teacher)), teacher(BATCH.inputs), atol=1e-6)


def test_the_reused_head_is_frozen_and_in_evaluation_mode_and_the_teachers_own():
    teacher = cnn(8, 10)
    for loss in (SimKD(), SRRL()):
        prepared(loss, cnn(4, 6), teacher).train()
        assert (
            not loss.head.classifier.training
            and not loss.head.classifier.weight.requires_grad
            and loss.head.projector.training
        )
        assert loss.head.classifier is not teacher.classifier and torch.equal(
            loss.head.classifier.weight, teacher.classifier.weight
        )
    with pytest.raises(ValueError, match="teacher_head.*'fc'"):
        prepared(SimKD(teacher_head="fc"), cnn(4, 6), teacher)
    with pytest.raises(ValueError, match="teacher_head.*10 values.*8 channels"):
        prepared(SRRL(teacher_tap="stage1"), cnn(4, 6), teacher)
    with pytest.raises(ValueError, match="single teacher network"):
        SimKD().prepare(Probe(said(cnn(4, 6)), said(teacher), None, 3, 6))


def test_semckd_fills_up_a_smaller_batch_and_refuses_a_larger_one():
    student, teacher = cnn(4, 6), cnn(8, 10)
    loss = prepared(SemCKD(**TWO, batch_size=8), student, teacher).eval()
    rows = loss._relations(said(teacher).features["stage1"])
    assert rows.shape == (6, 8) and rows[:, 6:].abs().max() == 0
    query, key, errors = loss.calibrate(said(student), said(teacher))
    assert query.shape == (6, 2, 2) and key.shape == (6, 2, 2) and errors.shape == (6, 2, 2)
    with pytest.raises(ValueError, match="6 samples.*batch_size=4"):
        prepared(SemCKD(**TWO, batch_size=4), student, teacher)(said(student), said(teacher), BATCH)


def test_semckd_bears_inner_products_beyond_float16():
    student, teacher = cnn(4, 6), cnn(8, 10)
    loss = prepared(SemCKD(**TWO, batch_size=8), student, teacher).eval()
    # float16 holds the features, but neither their inner products nor what the perceptron makes of them
    mine, theirs = (
        {name: (200 * x / x.abs().amax()).detach() for name, x in said(network).features.items()}
        for network in (student, teacher)
    )
    assert loss._relations(mine["stage1"]).max() > 65504
    mine = {name: x.requires_grad_() for name, x in mine.items()}
    outside = loss.calibrate(Outputs(BATCH.target, mine), Outputs(BATCH.target, theirs))
    with torch.autocast("cpu", torch.float16):
        inside = loss.calibrate(Outputs(BATCH.target, mine), Outputs(BATCH.target, theirs))
        values = loss(Outputs(BATCH.target, mine), Outputs(BATCH.target, theirs), BATCH)
    assert torch.equal(inside[0], outside[0]) and torch.equal(inside[1], outside[1]) and values.isfinite().all()
    values.mean().backward()
    assert all(mine[tap].grad.isfinite().all() for tap in TWO["student_taps"])


def test_reviewkd_fuses_from_deep_to_shallow():
    student, teacher = cnn(4, 6), cnn(8, 10)
    loss = prepared(ReviewKD(["stage1", "embedding"], ["stage1", "embedding"]), student, teacher)
    assert loss.review.sizes == [(8, 8), (1, 1)] and loss.review.fusions[1].attention is None
    made = loss.review([said(student).features[tap] for tap in ("stage1", "embedding")])
    assert [tuple(x.shape) for x in made] == [(6, 8, 8, 8), (6, 10, 1, 1)]
    made[0].sum().backward()
    assert loss.review.fusions[1].enter[0].weight.grad is not None, "the shallow stage must see the deep one"
