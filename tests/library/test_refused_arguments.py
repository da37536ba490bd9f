"""What does not fit is refused before anything is trained, in the words of Python."""

import copy
import functools

import pytest
import torch
from torch import nn

import kdlab
from kdlab.errors import InputError
from kdlab.losses import HintonKD
from kdlab.objective import Objective
from kdlab.strategies import Offline, Online
from kdlab.tasks import Classification

from .problem import loader, network, samples, staged, states_equal

KD = {"ce": {}, "kd": {}}


def call(teacher="network", train=None, student=None, **options):
    student, teacher = student or network(), network(2) if teacher == "network" else teacher
    before = copy.deepcopy(student.state_dict())
    try:
        return kdlab.distill(
            student, teacher, train or loader(), epochs=options.pop("epochs", 1),
            progress=options.pop("progress", "none"), **options,
        )  # fmt: skip
    finally:
        assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # losses
        ({"loss": ["ce", "kt"]}, "loss=\"kt\": there is no 'kt' in conf/loss; did you mean"),
        ({"loss": {"ce": {}, "kd": {"tempo": 4}}}, "loss.kd.tempo: kdlab.losses.HintonKD has no argument 'tempo'"),
        ({"loss": {"ce": {}, "kd": {"temperature": "hot"}}}, "loss.kd.temperature must be a number, got 'hot'"),
        ({"loss": {"ce": {}, "kd": {"temperature": -1}}}, "loss.kd: temperature must be greater than 0"),
        ({"loss": {"ce": {}, "kd": {"temperature": torch.ones(2)}}}, "loss.kd.temperature must be a plain value"),
        ({"loss": {"ce": {}, "kd": 0.9}}, "loss.kd must be a dict of options or a kdlab.Loss, got 0.9; its weight is"),
        ({"loss": []}, r'no term is chosen; for example loss=\["ce", "kd"\]'),
        ({"loss": ["ce", "ce"]}, "the term 'ce' is there twice"),
        ({"loss": 3}, r"loss must be names \["),
        ({"loss": HintonKD()}, r"loss must be names \["),
        ({"loss": KD, "weights": {"kq": 1}}, "weights: there is no term 'kq'"),
        ({"loss": KD, "weights": {"kd": -1}}, "loss.kd.weight must not be negative, got -1"),
        ({"loss": {"own": HintonKD()}, "weights": {"own": -1}}, "the weight of 'own' must be a number of at least 0"),
        ({"weights": {"kd": 1}}, "weights= needs the terms that they belong to"),
        ({"loss": Objective({"kd": HintonKD()}, {"kd": 1}), "weights": {"kd": 1}}, "leave weights= out"),
        ({"loss": {"ce": {}, "hint": {}}}, "tap 'stage2': Sequential has no module 'stage2'"),
        # strategies and networks
        ({"strategy": "ofline"}, "strategy=\"ofline\": there is no 'ofline' in conf/strategy; did you mean 'offline'"),
        ({"strategy": {"offline": {}, "online": {}}}, "strategy as a dict is one name with its options"),
        ({"strategy": {"ps_kd": {"stored": 1}}, "teacher": None}, "strategy.stored: kdlab.strategies.Progressive"),
        ({"strategy": 3}, r'strategy must be a name \("offline"\)'),
        ({"strategy": functools.partial(Offline, momentum=1)}, "strategy: TypeError: .*momentum"),
        ({"strategy": lambda **given: 3}, "strategy: the factory made a int, and no kdlab.Strategy"),
        ({"strategy": "supervised"}, "strategy=\"supervised\" uses no teacher; leave out teacher="),
        ({"teacher": None}, "teacher: the strategy needs one; give a trained network"),
        ({"teacher": None, "strategy": "tf_kd"}, "teacher: the strategy needs one"),
        ({"teacher": None, "strategy": "born_again"}, "teacher: the strategy needs one"),
        ({"strategy": "funmatch"}, "strategy: funmatch mixes images, and the batches of train are not mixed"),
        ({"strategy": "online", "teacher": None}, r"give them with their own initial weights, for example peers=\[Net"),
        ({"strategy": Online, "teacher": None}, "give them with their own initial weights"),
        ({"strategy": "online", "teacher": None, "peers": 2}, "give them with their own initial weights"),
        ({"strategy": "online", "teacher": None, "peers": [3]}, "peers.peer2 must be a torch.nn.Module, got int"),
        ({"strategy": "online", "teacher": None, "peers": {"a-b": network(3)}}, "peers.a-b: a peer's name is made of"),
        ({"strategy": {"online": {"keep": "x"}}, "teacher": None, "peers": [network(3)]}, "keep must be one of stu"),
        ({"strategy": "online", "peers": [network(3)]}, "there is no other teacher; teacher=None"),
        ({"peers": [network(3)]}, "peers: this strategy trains one network; leave peers= out"),
        ({"student": network().double()}, r"student: its parameters are float64.* use student.float\(\)"),
        ({"student": network().requires_grad_(False)}, "student: none of its parameters can learn"),
        ({"student": nn.Linear(3, 2)}, r"student: the network cannot read a batch of inputs of shape \(4, 8\)"),
        ({"student": nn.Sequential(network(), nn.Softmax(1))}, "in evaluation mode the network answers with prob"),
        ({"student": nn.Sequential(nn.Linear(8, 8), nn.Unflatten(1, (2, 4)))}, "must answer with a tensor of shape"),
        ({"teacher": 3}, "teacher must be a torch.nn.Module, a kdlab Teacher, a Run or None, got int"),
        ({"teacher": [network(2)]}, "several networks: kdlab.teachers.Ensemble"),
        ({"teacher": nn.Linear(8, 5)}, "teacher: the network answers with 5 classes, but the data have 2"),
        ({"teacher": nn.Linear(3, 2)}, "teacher: the network cannot read a batch of inputs"),
        ({"teacher": None, "strategy": "supervised", "teacher_taps": {"a": "0"}}, "teacher is none"),
        ({"classes": 1}, "classes must be a whole number of at least 2, got 1"),
        ({"classes": 3}, "student: the network answers with 2 classes, but the data have 3"),
        ({"classes": 2, "task": Classification(2)}, "leave classes= out"),
        # optimiser, schedule, training
        ({"optimizer": "sdg"}, "optimizer=\"sdg\": there is no 'sdg' in conf/optimizer; did you mean 'sgd'"),
        ({"optimizer": {"sgd": {"learning_rate": 1}}}, "optimizer.learning_rate: torch.optim.SGD has no argument"),
        ({"optimizer": {"sgd": 1}}, "optimizer as a dict is one name with its options"),
        ({"optimizer": torch.optim.SGD([torch.ones(1)])}, r"functools.partial\(torch.optim.SGD, momentum=0.9\)"),
        ({"optimizer": torch.optim.SGD, "lr": -1}, "lr must be a number greater than 0, got -1"),
        ({"optimizer": functools.partial(torch.optim.SGD, rate=1)}, "optimizer: .*rate"),
        ({"lr": "fast"}, "lr must be a number greater than 0, got 'fast'"),
        ({"scheduler": "cosin"}, "scheduler=\"cosin\": there is no 'cosin'"),
        ({"optimizer": torch.optim.SGD, "scheduler": "onecycle"}, "onecycle needs the highest learning rate"),
        ({"scheduler": functools.partial(torch.optim.lr_scheduler.StepLR, step=3)}, "scheduler: .*step"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": None}, "epochs must be a whole number of at least 1, got None"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"progress": "some"}, "progress must be one of auto, bar, lines, none"),
        ({"trainer": {"max_epochs": 3}}, '"max_epochs" cannot be given here: use epochs='),
        ({"trainer": {"fast_dev_run": True}}, 'use epochs=1 and trainer={"limit_train_batches": 1}'),
        ({"trainer": {"acelerator": "cpu"}}, "has no option \"acelerator\"; did you mean 'accelerator'"),
        ({"trainer": {"accelerator": "nonsense"}}, "trainer: .*nonsense"),
        ({"trainer": {"accelerator": "cpu", "devices": 2}}, "trains in one process, and these options ask for 2"),
        ({"name": 3, "directory": "runs/a"}, "name must be a text, got 3"),
        ({"name": "a"}, "name= is for runs that are kept; give directory= too"),
        ({"data": "a"}, "data= is for runs that are kept"),
        ({"fresh": True}, "fresh= is for runs that are kept"),
    ],
)  # fmt: skip
def test_refused(options, message, workplace):
    with pytest.raises(InputError, match=f"(?s){message}"):
        call(**options)
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    ("student", "message"), [(3, "student must be a torch.nn.Module, got int"), (nn.LazyLinear(2), "lazy parameters")]
)
def test_students_that_are_no_networks_yet(student, message):
    with pytest.raises(InputError, match=message):
        kdlab.distill(student, None, loader(), strategy="supervised")


def test_networks_with_parameters_in_common():
    student = network()
    with pytest.raises(
        InputError, match=r"teacher and student have parameters in common.*copy.deepcopy for the teacher"
    ):
        call(student, student=student)
    assert all(value.requires_grad for value in student.parameters())
    with pytest.raises(InputError, match="peers.peer2 and student have parameters in common"):
        call(None, student=student, strategy="online", peers=[student])
    twin = nn.Sequential(network(3)[0], nn.ReLU(), student[2])
    with pytest.raises(InputError, match="peers.wide and student have parameters in common"):
        call(None, student=student, strategy="online", peers={"wide": twin})


def test_peers_that_begin_alike_are_a_warning(capsys):
    kdlab.distill(network(), None, loader(), strategy="online", peers=[network()], epochs=1, progress="none")
    assert "peers.peer2: warning: it begins with the student's own weights" in capsys.readouterr().out
    kdlab.distill(network(), None, loader(), strategy="online", peers=[network(3)], epochs=1, progress="none")
    assert capsys.readouterr().out == ""


def test_a_dict_that_the_network_cannot_read():
    x, y = samples()
    with pytest.raises(InputError, match="the inputs, a dict of left, right, which it gets by name; let"):
        call(train=[{"left": x[:, :4], "right": x[:, 4:], "label": y}])


def test_the_weight_of_ce_is_tied_as_in_its_file():
    def weights(**options):
        return kdlab.distill(network(), network(2), loader(), epochs=1, progress="none", **options).record["weights"]

    assert weights() == {"ce": pytest.approx(0.1), "kd": 0.9}
    assert weights(loss={"ce": {}, "kd": {"weight": 0.6}}) == {"ce": pytest.approx(0.4), "kd": 0.6}
    assert weights(loss=["ce", "kd"], weights={"kd": 0.6}) == {"ce": pytest.approx(0.4), "kd": 0.6}
    assert weights(loss=["ce", "kd"], weights={"kd": 0.6, "ce": 1}) == {"ce": 1, "kd": 0.6}
    assert weights(loss=["ce", "dkd"]) == {"ce": 1.0, "dkd": 1.0}
    assert weights(loss="kd") == {"kd": 0.9}


def test_optimisers_and_schedules():
    def last(**options):
        options = {"epochs": 4, **options}
        return kdlab.distill(network(), network(2), loader(), progress="none", **options).curve[-1]["learning_rate"]

    assert last(optimizer="sgd", scheduler=None) == pytest.approx(0.05)
    assert last(optimizer="sgd", lr=0.3, scheduler=None) == pytest.approx(0.3)
    assert last(optimizer={"sgd": {"lr": 0.2, "nesterov": True}}, scheduler="none") == pytest.approx(0.2)
    assert last(optimizer={"_target_": "torch.optim.Adam", "lr": 0.02}, scheduler=None) == pytest.approx(0.02)
    assert last(optimizer={"_target_": "torch.optim.Adam"}, lr=0.03, scheduler=None) == pytest.approx(0.03)
    assert last(optimizer=torch.optim.SGD, lr=0.4, scheduler=None) == pytest.approx(0.4)
    assert last(optimizer="sgd", scheduler="cosine") == pytest.approx(0.0, abs=1e-9)
    halved = functools.partial(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.5)
    assert last(optimizer="sgd", lr=0.4, scheduler=halved) == pytest.approx(0.1)
    steps = {"multistep": {"milestones": [1, 2], "gamma": 0.5}}
    assert last(optimizer="sgd", lr=0.4, scheduler=steps) == pytest.approx(0.1)
    target = {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.5}
    assert last(optimizer="sgd", lr=0.4, scheduler=target) == pytest.approx(0.4 * 0.5**4)


def test_onecycle_reaches_the_rate_that_is_given():
    highest = functools.partial(torch.optim.SGD, lr=0.3)
    for options in ({"optimizer": highest}, {"optimizer": torch.optim.SGD, "lr": 0.3}, {"optimizer": "sgd", "lr": 0.3}):
        made = kdlab.library.prepared(network(), network(2), loader(), scheduler="onecycle", epochs=1, **options)
        optimization = made.strategy.optimization
        optimizer = optimization.optimizer(params=[torch.nn.Parameter(torch.ones(1))])
        optimization.scheduler(optimizer=optimizer, total_steps=100)
        assert optimizer.param_groups[0]["max_lr"] == pytest.approx(0.3)


def test_nothing_of_a_refused_call_is_left():
    student, teacher = staged(), staged(2)
    teacher.train()
    with pytest.raises(InputError):
        kdlab.distill(student, teacher, loader(), loss={"ce": {}, "hint": {"student_tap": "stage9"}}, epochs=1)
    assert teacher.training and all(value.requires_grad for value in teacher.parameters())
    assert student.training and states_equal(student, staged())
