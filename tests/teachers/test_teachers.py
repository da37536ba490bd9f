import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.outputs import Outputs
from kdlab.tasks import Classification
from kdlab.teachers import Ensemble, Frozen, Teacher

TASK = Classification(3)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))


def batch(dtype=torch.float32):
    inputs = torch.randn(16, 2, generator=torch.Generator().manual_seed(1)).to(dtype)
    return Batch(inputs, torch.zeros(16, dtype=torch.long), torch.arange(16))


# -- frozen ------------------------------------------------------------------------------------------------------------


def test_it_answers_as_its_network_does_in_evaluation_mode():
    expected = network().eval()(batch().inputs)
    teacher = Frozen(network().train(), TASK)
    assert torch.equal(teacher.teach(batch()).logits, expected) and torch.equal(teacher.teach(batch()).logits, expected)


def test_it_neither_learns_nor_moves():
    net = network().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    teacher = Frozen(net, TASK)
    teacher.watch({"0"})
    x = batch()
    x.inputs.requires_grad_()
    outputs = teacher.teach(x)
    assert not outputs.logits.requires_grad and not outputs.features["0"].requires_grad
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert list(net.state_dict()) == list(before)
    for name, value in net.state_dict().items():  # with BatchNorm's running statistics and its counter
        assert torch.equal(value, before[name]), name


def test_its_answer_can_be_saved_for_backward():
    outputs = Frozen(network(), TASK).teach(batch())
    weight = torch.ones(3, requires_grad=True)
    (weight * outputs.logits).square().sum().backward()
    assert torch.allclose(weight.grad, 2 * outputs.logits.square().sum(0))


def test_no_module_tree_reaches_it():
    teacher = Frozen(network(), TASK)
    owner = nn.Module()
    owner.teacher = teacher
    owner.train()
    assert not isinstance(teacher, nn.Module)
    assert list(owner.parameters()) == [] and list(owner.state_dict()) == [] and not teacher.network.training


def test_a_copy_is_itself():
    teacher = Frozen(network(), TASK)
    assert copy.deepcopy(teacher) is teacher and copy.deepcopy({"t": [teacher]})["t"][0] is teacher


def test_features_are_captured_by_alias_and_released():
    teacher = Frozen(network(), TASK, {"hidden": "3"})
    teacher.watch({"hidden", "0"})
    outputs = teacher.teach(batch())
    assert set(outputs.features) == {"hidden", "0"}
    assert torch.equal(outputs.features["hidden"], teacher.network[:4](batch().inputs))
    feature = weakref.ref(outputs.features["hidden"])
    del outputs
    gc.collect()
    assert feature() is None and not any(module._forward_hooks for module in teacher.network.modules())


def test_it_can_be_told_to_watch_less():
    teacher = Frozen(network(), TASK)
    assert teacher.teach(batch()).features == {}
    teacher.watch({"0"})
    teacher.watch(set())
    assert teacher.teach(batch()).features == {}


def test_a_missing_tap_is_refused():
    with pytest.raises(InputError, match="tap 'stage9'"):
        Frozen(network(), TASK).watch({"stage9"})


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_follows_the_dtype_of_the_inputs(dtype):
    teacher = Frozen(network(), TASK)
    expected = teacher.teach(batch()).logits
    answer = teacher.teach(batch(dtype)).logits
    assert answer.dtype is dtype and torch.allclose(answer.double(), expected.double(), rtol=0.05, atol=0.05)
    assert teacher.teach(batch()).logits.dtype is torch.float32


def test_inputs_without_a_floating_point_leave_the_network_alone():
    class Lookup(nn.Embedding):
        def forward(self, x):
            return super().forward(x).sum(1)

    teacher = Frozen(Lookup(5, 3).double(), TASK)
    x = batch().replace(inputs=torch.ones(16, 2, dtype=torch.long))
    assert teacher.teach(x).logits.dtype is torch.float64


def test_a_passage_through_half_precision_leaves_no_trace():
    teacher = Frozen(network(), TASK)
    before = teacher.teach(batch()).logits
    teacher.teach(batch(torch.bfloat16))
    assert torch.equal(teacher.teach(batch()).logits, before)


# -- ensemble ----------------------------------------------------------------------------------------------------------


class Says(Teacher):
    def __init__(self, *rows, dtype=torch.float64):
        self.logits = torch.tensor(rows, dtype=dtype)

    def teach(self, batch):
        return Outputs(self.logits)

    def watch(self, taps):
        raise AssertionError("an ensemble asks its members for logits only")


ONE, TWO = Says([1.0, 2.0, -1.0], [0.0, 3.0, 0.0]), Says([-2.0, 0.5, 4.0], [1.0, 1.0, 1.0])


def test_the_average_of_probabilities():
    answer = Ensemble([ONE, TWO]).teach(batch()).logits
    mean = (ONE.logits.softmax(1) + TWO.logits.softmax(1)) / 2
    assert torch.allclose(answer, mean.log(), atol=1e-12) and torch.allclose(answer.softmax(1), mean, atol=1e-12)


def test_the_average_of_logits():
    answer = Ensemble([ONE, TWO], average="logits").teach(batch()).logits
    assert torch.allclose(answer, (ONE.logits + TWO.logits) / 2, atol=1e-12)


def test_the_best_for_each_sample_in_training_and_the_mean_elsewhere():
    ensemble, labelled = Ensemble([ONE, TWO], "best"), batch().replace(target=torch.tensor([1, 0]))
    # cross-entropies: 0.3490 and 3.5544 for the first sample, 3.0949 and 1.0986 for the second
    assert torch.equal(ensemble.teach(labelled).logits, torch.stack([ONE.logits[0], TWO.logits[1]]))
    assert torch.equal(
        ensemble.teach(labelled.replace(target=torch.tensor([2, 1]))).logits,
        torch.stack([TWO.logits[0], ONE.logits[1]]),
    )
    for split in ("validation", "test"):
        assert torch.equal(
            ensemble.teach(labelled.replace(split=split)).logits, Ensemble([ONE, TWO]).teach(labelled).logits
        )


def test_of_a_mixed_image_both_labels_choose():
    mixed = batch().replace(
        target=torch.tensor([1, 0]), partner_target=torch.tensor([2, 1]), share=torch.tensor([0.9, 0.9])
    )
    assert torch.equal(Ensemble([ONE, TWO], "best").teach(mixed).logits, torch.stack([ONE.logits[0], TWO.logits[1]]))
    mixed = mixed.replace(share=torch.tensor([0.1, 0.1]))
    assert torch.equal(Ensemble([ONE, TWO], "best").teach(mixed).logits, torch.stack([TWO.logits[0], ONE.logits[1]]))


def test_of_equals_the_first_is_best():
    assert torch.equal(
        Ensemble([TWO, TWO, ONE], "best").teach(batch().replace(target=torch.tensor([2, 0]))).logits, TWO.logits
    )


@pytest.mark.parametrize("weights", [[3, 1], [0.75, 0.25]])
def test_weights_are_normalised(weights):
    ensemble = Ensemble([ONE, TWO], weights=weights)
    assert ensemble.weights == [0.75, 0.25]
    mean = 0.75 * ONE.logits.softmax(1) + 0.25 * TWO.logits.softmax(1)
    assert torch.allclose(ensemble.teach(batch()).logits, mean.log(), atol=1e-12)
    answer = Ensemble([ONE, TWO], "logits", weights).teach(batch()).logits
    assert torch.allclose(answer, 0.75 * ONE.logits + 0.25 * TWO.logits, atol=1e-12)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_one_member_is_itself_and_a_member_of_weight_zero_is_not_heard(average):
    for answer in (
        Ensemble([ONE], average),
        Ensemble([ONE, Says([-float("inf"), 0.0, 9.0], [5.0, 5.0, 0.0])], average, [1, 0]),
    ):
        logits = answer.teach(batch()).logits
        assert torch.allclose(logits.softmax(1), ONE.logits.softmax(1), atol=1e-12)


def test_probabilities_that_underflow_stay_finite():
    sure, other = Says([0.0, 400.0], dtype=torch.float32), Says([0.0, 300.0], dtype=torch.float32)
    answer = Ensemble([sure, other]).teach(batch()).logits
    assert answer[0, 0].item() == pytest.approx(-300.6931, abs=1e-3) and answer[0, 1].item() == pytest.approx(
        0.0, abs=1e-6
    )


def test_half_precision_members_are_averaged_in_single_precision():
    assert Ensemble([Says([1.0, 2.0], dtype=torch.float16)] * 2).teach(batch()).logits.dtype is torch.float32


def test_real_members_and_no_gradient():
    members = [Frozen(network(), TASK), Frozen(network(), TASK)]
    answer = Ensemble(members).teach(batch()).logits
    assert (
        torch.allclose(answer, members[0].teach(batch()).logits.log_softmax(1), atol=1e-6) and not answer.requires_grad
    )


def test_a_member_that_can_learn_is_not_reached_either():
    learner = Says([1.0, 2.0, -1.0], [0.0, 3.0, 0.0])
    learner.logits.requires_grad_()
    assert not Ensemble([learner, TWO]).teach(batch()).logits.requires_grad


def test_it_refuses_taps():
    ensemble = Ensemble([ONE, TWO])
    ensemble.watch(set())
    with pytest.raises(InputError, match="stage1, stage2"):
        ensemble.watch({"stage2", "stage1"})


def test_a_copy_of_an_ensemble_is_itself():
    ensemble = Ensemble([ONE, TWO])
    assert copy.deepcopy(ensemble) is ensemble


@pytest.mark.parametrize(
    "members, options, key",
    [
        ([], {}, "teacher.members"),
        ([ONE], {"average": "votes"}, "teacher.average"),
        ([ONE, TWO], {"weights": [1.0]}, "teacher.weights"),
        ([ONE, TWO], {"average": "best", "weights": [1.0, 2.0]}, "teacher.weights"),
        ([ONE, TWO], {"weights": [1.0, -1.0]}, "teacher.weights"),
        ([ONE, TWO], {"weights": [0.0, 0.0]}, "teacher.weights"),
    ],
)
def test_an_ensemble_that_makes_no_sense_is_refused(members, options, key):
    with pytest.raises(InputError, match=key):
        Ensemble(members, **options)


# -- what every teacher has --------------------------------------------------------------------------------------------


def test_a_teacher_without_features_needs_only_teach():
    teacher = Says([1.0, 2.0, 3.0])
    plain = Teacher()
    assert (teacher.network, dict(teacher.aliases), dict(teacher.members)) == (None, {}, {})
    assert (dict(teacher.terms), teacher.by_term, teacher.normalisations) == ({}, {}, [])
    plain.prepare({"kd": (), "logit_mse": ()})
    plain.attend(lambda: ["kd"])
    assert copy.deepcopy(teacher) is teacher
    with pytest.raises(InputError, match="the teacher has no features, so the losses that read its stage1, stage2"):
        plain.prepare({"hint": ("stage2",), "sp": ("stage1",)})
    with pytest.raises(NotImplementedError, match=r"Teacher must define teach\(batch\)"):
        plain.teach(batch())


def test_a_single_network_captures_what_all_terms_read():
    teacher = Frozen(network(), TASK)
    teacher.prepare({"kd": (), "hint": ("0",), "sp": ("0", "3")})
    assert sorted(teacher.teach(batch()).features) == ["0", "3"]


def test_members_keep_their_names_where_one_has_no_weight():
    assert Ensemble({"a": ONE, "b": TWO}, weights=[0, 2]).members == {"b": TWO}
    assert Ensemble([ONE, TWO]).members == {"0": ONE, "1": TWO}
