"""Teachers whose weights leave something untrained are refused whatever luck they have; students may have a new
head."""

import json
import re
import shlex

import pytest
import torch
from torch import nn

import kdlab
from kdlab.errors import InputError
from kdlab.models import MLP
from kdlab.runs.run import find_runs

timm = pytest.importorskip("timm")

QUICK = ["trainer.max_epochs=1", "progress=none"]
SHORT = [*QUICK, "data.fraction=0.1"]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def local(workplace):
    """A small network of timm with 1000 classes and coloured inputs, saved in a folder; its name for timm."""
    from safetensors.torch import save_file

    def save(name="saved", lost=()):
        torch.manual_seed(0)
        state = timm.create_model("test_resnet", num_classes=1000).state_dict()
        (workplace / name).mkdir()
        save_file(
            {key: value.contiguous() for key, value in state.items() if key not in lost},
            workplace / name / "model.safetensors",
        )
        described = {
            "num_classes": 1000,
            "input_size": [3, 160, 160],
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "first_conv": "conv1.0",
            "classifier": "fc",
        }
        (workplace / name / "config.json").write_text(
            json.dumps({"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": described})
        )
        return f"local-dir:{name}"

    return save


@pytest.fixture
def huggingface(workplace):
    """A small model of Hugging Face with 1000 classes, whole and without its head, in folders."""
    import transformers

    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=1000
    )
    transformers.ResNetForImageClassification(config).save_pretrained(workplace / "whole")
    transformers.ResNetModel(config).save_pretrained(workplace / "body")
    config.num_labels = 10
    transformers.ResNetForImageClassification(config).save_pretrained(workplace / "ten")


def refused(*overrides):
    with pytest.raises(InputError) as raised:
        kdlab.train([*overrides, *QUICK])
    assert not list(find_runs(["."])), "something was written"
    return str(raised.value)


def pasted(message, call):
    """Runs the commands of a message as they stand; what they print."""
    commands = [shlex.split(line)[1:] for line in message.splitlines() if line.startswith("  kdlab train ")]
    assert len(commands) == 2
    for command in commands:
        code, out, err = call(*command)
        assert code == 0, err
    return out


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_new_head_of_timm_whatever_its_luck(local, seed):
    message = refused("teacher=timm", f"teacher.model={local()}", f"seed={seed}")
    assert message.startswith(
        "teacher: local-dir:saved: its weights know 1000 classes, the data have 10, so its head (fc.weight, fc.bias) "
        "would be untrained. Fine-tune it first:\n"
        "  kdlab train student=timm student.model=local-dir:saved student.pretrained=true strategy=supervised "
        "trainer.max_epochs=1 name=fine_tuned\n"
    )


@pytest.mark.slow
def test_its_cure_works_when_pasted(local, kdlab):
    code, out, err = kdlab("train", "teacher=timm", f"teacher.model={local()}", *SHORT)
    assert code == 2
    assert "runs/fine_tuned/supervised-ce-timm-s1-" in pasted(err, kdlab)


def test_a_new_head_of_torchvision(workplace, monkeypatch):
    library = pytest.importorskip("torchvision.models")
    state = library.squeezenet1_1().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *arguments, **options: state)
    for given in ("teacher.pretrained=true", "teacher.weights=IMAGENET1K_V1"):
        message = refused("teacher=torchvision", "teacher.model=squeezenet1_1", given)
        assert (
            "its weights know 1000 classes, the data have 10, so its head (classifier.1.weight, classifier.1.bias) "
            "would be untrained" in message
        )
        assert f"student=torchvision student.model=squeezenet1_1 {given.replace('teacher', 'student')}" in message
    assert "its constructor drew: it has no trained weights" in refused(
        "teacher=torchvision", "teacher.model=squeezenet1_1", "teacher.pretrained=false"
    )


def test_heads_of_hugging_face(huggingface):
    message = refused("teacher=huggingface", "teacher.model=body")
    assert (
        "teacher: body: its weights hold no head (network.classifier.1.bias, network.classifier.1.weight), which would "
        "be untrained" in message
    )
    message = refused("teacher=huggingface", "teacher.model=whole")
    assert (
        "teacher: whole answers with 1000 classes, but the data have 10. A network of other classes cannot teach "
        "these; fine-tune it first:" in message
    )
    assert "kdlab train student=huggingface student.model=whole strategy=supervised" in message
    assert "no better than chance" in refused("teacher=huggingface", "teacher.model=ten")  # every parameter is filled


@pytest.mark.slow
def test_the_cure_of_hugging_face_works_when_pasted(huggingface, kdlab):
    long = ["trainer.max_epochs=40", "progress=none", "data.fraction=0.1"]  # the fine-tuning is as long as the run
    code, out, err = kdlab("train", "teacher=huggingface", "teacher.model=whole", *long)
    assert code == 2
    pasted(err, kdlab)


def network_with_a_new_head(classes=10):
    """As people write it: the body's weights are loaded, the head is put on."""
    network = MLP(1000, [1, 8, 8], [16, 16])
    network.load_state_dict({name: torch.ones_like(value) for name, value in network.state_dict().items()})
    network.classifier = nn.Linear(16, classes)
    return network


def network_loaded_in_part():
    network = MLP(10, [1, 8, 8], [16, 16])
    network.load_state_dict(
        {name: torch.ones_like(value) for name, value in network.state_dict().items() if "classifier" not in name},
        strict=False,
    )
    return network


@pytest.mark.parametrize("make", [network_with_a_new_head, network_loaded_in_part])
def test_a_function_of_the_users(workplace, make):
    message = refused("teacher=network", f"teacher._target_={__name__}.{make.__name__}")
    assert (
        "classifier.weight, classifier.bias hold the random numbers that its constructor drew. Fine-tune it first"
        in message
    )


def test_members_of_ensembles_and_teachers_of_terms(local):
    node = f'{{_target_: kdlab.models.timm_model, model: "{local()}", classes: 10, channels: 1, pretrained: true}}'
    ensemble = [
        "teacher=ensemble",
        "~teacher.members.first",
        "~teacher.members.second",
        "~teacher.members.third",
        f"+teacher.members.mine={node}",
    ]
    assert refused(*ensemble).startswith("teacher.members.mine: local-dir:saved: its weights know 1000 classes")
    terms = ["loss=[ce,kd,logit_mse]", "teacher=per_term", "~teacher.members.wide", f"+teacher.members.wide={node}"]
    assert refused(*terms).startswith("teacher.members.wide: local-dir:saved: its weights know 1000 classes")


@pytest.mark.parametrize("name, given", [("num_classes", 0), ("in_chans", 3), ("pretrained", "true")])
def test_options_that_kdlab_gives_itself(local, name, given):
    message = refused("teacher=timm", f"teacher.model={local()}", f"+teacher.options.{name}={given}")
    assert re.match(rf"teacher: options.{name}: kdlab gives this argument itself .*leave it out of options", message)


def test_a_student_may_have_a_new_head_and_other_channels(local, capsys):
    run = kdlab.train(
        ["strategy=supervised", "student=timm", f"student.model={local()}", "student.pretrained=true", *SHORT]
    )
    assert (
        "student: its weights know 1000 classes, the data have 10: its head (fc.weight, fc.bias) is new and untrained"
        in capsys.readouterr().out
    )
    assert run.finished


@pytest.mark.parametrize("lost", ["layer1.0.bn1.weight", "layer1.0.bn1.running_mean", "layer2.0.conv1.weight"])
def test_a_student_with_anything_else_untrained_is_refused(local, lost):
    message = refused(
        "strategy=supervised", "student=timm", f"student.model={local(lost={lost})}", "student.pretrained=true"
    )
    assert (
        f"student: the weights of 'local-dir:saved' do not fill {lost}, which would keep its initial values" in message
    )


# -- checkpoint files --------------------------------------------------------------------------------------------------


def mlp(key, classes=10):
    return f"+{key}={{_target_: kdlab.models.MLP, classes: {classes}, shape: [1,8,8], hidden: [16]}}"


@pytest.fixture
def hundred(workplace):
    torch.manual_seed(0)
    torch.save(
        {"net": {f"module.{name}": value for name, value in MLP(100, [1, 8, 8], [16]).state_dict().items()}},
        "hundred.pth",
    )


@pytest.mark.parametrize(
    "classes, words",
    [
        (
            100,
            "teacher: hundred.pth (teacher.network.classes=100) answers with 100 classes, but the data have 10. A "
            "network of other classes cannot teach these",
        ),
        (
            10,
            "teacher.checkpoint: hundred.pth knows 100 classes (classifier.weight), and teacher.network has 10. A "
            "network of other classes cannot teach these",
        ),
    ],
)
def test_a_file_of_other_classes_and_its_cure(hundred, kdlab, classes, words):
    code, out, err = kdlab(
        "train", "teacher=checkpoint", "teacher.checkpoint=hundred.pth", mlp("teacher.network", classes), *SHORT
    )
    assert code == 2 and words in err
    assert "initial=checkpoint student.initial.checkpoint=hundred.pth student.initial.new_head=true" in err
    pasted(err, kdlab)


def test_a_student_begins_with_weights_of_other_classes(hundred, capsys):
    given = [
        "strategy=supervised",
        "student.hidden=[16]",
        "initial=checkpoint",
        "student.initial.checkpoint=hundred.pth",
    ]
    assert "student.initial.new_head=true loads the rest" in refused(*given)
    run = kdlab.train([*given, "student.initial.new_head=true", "optimizer.lr=0", "optimizer.weight_decay=0", *SHORT])
    out = capsys.readouterr().out
    assert "student.initial.checkpoint: hundred.pth: the prefix 'module.' of its names is taken off" in out
    assert (
        "student.initial: hundred.pth knows 100 classes, this student 10: its head (classifier.weight, "
        "classifier.bias) is new and untrained" in out
    )
    theirs = torch.load("hundred.pth")["net"]
    assert torch.equal(run.student.state_dict()["stage1.linear.weight"], theirs["module.stage1.linear.weight"])


def test_which_of_two_networks_teaches_is_part_of_the_identity(workplace, taught):
    state = taught.student.state_dict()
    torch.save(
        {"student_state_dict": state, "teacher_state_dict": {name: value * 2 for name, value in state.items()}},
        "both.pth",
    )
    node = "+teacher.network={_target_: kdlab.models.MLP, classes: 10, shape: [1,8,8], hidden: [256,256]}"
    given = ["teacher=checkpoint", "teacher.checkpoint=both.pth", node]
    assert (
        "holds 2 networks that fit MLP; add the one that is meant:\n"
        "  teacher.part=student_state_dict\n"
        "  teacher.part=teacher_state_dict" in refused(*given)
    )
    runs = [kdlab.train([*given, f"teacher.part={part}_state_dict", *SHORT]) for part in ("student", "teacher")]
    assert runs[0].hash != runs[1].hash
    assert runs[0].record["teacher"]["validation_nll"] != runs[1].record["teacher"]["validation_nll"]


def test_a_config_of_another_project_beside_its_checkpoints_is_no_run(workplace, taught):
    (workplace / "theirs" / "checkpoints").mkdir(parents=True)
    (workplace / "theirs" / "config.yaml").write_text("model: resnet18\n")
    torch.save(
        {"state_dict": {f"net.{name}": value for name, value in taught.student.state_dict().items()}},
        "theirs/checkpoints/a.ckpt",
    )
    node = "+teacher.network={_target_: kdlab.models.MLP, classes: 10, shape: [1,8,8], hidden: [256,256]}"
    run = kdlab.train(["teacher=checkpoint", "teacher.checkpoint=theirs/checkpoints/a.ckpt", node, *SHORT])
    assert run.record["teacher"]["validation_accuracy"] == pytest.approx(taught.metrics["val/accuracy"])
