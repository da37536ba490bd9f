"""Weights in files of other projects: what is found by what fits, what is asked, what is said."""

import argparse
import subprocess
import sys

import pytest
import torch
from torch import nn

from kdlab.errors import InputError
from kdlab.weights.foreign import WrongClasses, lines_of, weights_for
from kdlab.weights.reading import read_checkpoint

KEY = "teacher.checkpoint"


def network(classes=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), nn.Flatten(), nn.Linear(16, classes))


STATE, OTHER = network().state_dict(), network(seed=1).state_dict()


def below(prefix, state=STATE):
    return {f"{prefix}{name}": value for name, value in state.items()}


def wrapped(word):
    return {name.replace("0.", f"0.{word}.", 1): value for name, value in STATE.items()}


def found(tmp_path, content, part=None, new_head=False, classes=3):
    torch.save(content, tmp_path / "x.pth")
    path = tmp_path / "x.pth"
    part = weights_for(network(classes), read_checkpoint(path), path, KEY, part, new_head)
    return part.weights, [line.removeprefix(f"{KEY}: {path}: ") for line in lines_of(part, path, KEY)]


def refused(tmp_path, content, **options):
    with pytest.raises(InputError) as raised:
        found(tmp_path, content, **options)
    return str(raised.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        *(
            {key: STATE}
            for key in (
                "state_dict",
                "model",
                "net",
                "network",
                "model_state_dict",
                "model_state",
                "weights",
                "params",
                "student",
                "ema",
            )
        ),
        {"checkpoint": {"model": STATE}},
        {"state": {"net": {"params": STATE}}},
        {"model": STATE, "args": argparse.Namespace(lr=0.1), "best_acc": torch.tensor(0.9)},
        {
            "model": STATE,
            "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        },
        {"model": STATE, "state_dict": STATE},
    ],
)
def test_weights_below_any_keys(tmp_path, content):
    weights, lines = found(tmp_path, content)
    assert weights.keys() == STATE.keys() and all(torch.equal(weights[name], value) for name, value in STATE.items())
    if "ema" not in content:
        assert lines == [] or "state_dict" in content


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "model.",
        "net.",
        "network.",
        "backbone.",
        "student.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.module.net.",
    ],
)
@pytest.mark.parametrize("keys", [(), ("state_dict",)])
def test_a_prefix_of_all_names_is_taken_off_and_said(tmp_path, prefix, keys):
    content = below(prefix)
    for key in keys:
        content = {key: content}
    weights, lines = found(tmp_path, content)
    assert torch.equal(weights["2.weight"], STATE["2.weight"]) and lines == [
        f"the prefix '{prefix}' of its names is taken off"
    ]


@pytest.mark.parametrize("word", ["module", "_orig_mod"])
def test_wrappers_within_the_names(tmp_path, word):
    weights, lines = found(tmp_path, wrapped(word))
    assert weights.keys() == STATE.keys() and "the names of wrappers" in lines[0]


def test_a_wrapper_that_the_file_lacks(tmp_path):
    holder = nn.Module()
    holder.inner = network(seed=2)
    part = weights_for(holder, STATE, tmp_path / "x.pth", KEY)
    assert (
        torch.equal(part.weights["inner.2.weight"], STATE["2.weight"])
        and "'inner.' is put before its names" in lines_of(part, tmp_path, KEY)[0]
    )


def test_networks_beside_others_that_do_not_fit_are_said(tmp_path):
    weights, lines = found(tmp_path, {"state_dict": {**below("model."), "criterion.weight": torch.ones(9)}})
    assert weights.keys() == STATE.keys() and "loaded is 'state_dict.model'; left out: criterion" in lines[0]
    weights, lines = found(tmp_path, {"student_state_dict": STATE, "teacher_state_dict": network(7).state_dict()})
    assert torch.equal(weights["2.weight"], STATE["2.weight"]) and lines == [
        "loaded is 'student_state_dict'; left out: teacher_state_dict"
    ]


@pytest.mark.parametrize(
    "content, parts",
    [
        ({"student_state_dict": STATE, "teacher_state_dict": OTHER}, ["student_state_dict", "teacher_state_dict"]),
        (
            {"state_dict": {**below("student."), **below("teacher.", OTHER)}},
            ["state_dict.student", "state_dict.teacher"],
        ),
        ({**below("module.student."), **below("module.teacher.", OTHER)}, ["module.student", "module.teacher"]),
        ({"model_ema": STATE, "ema": OTHER}, ["model_ema", "ema"]),
    ],
)
def test_of_several_that_fit_the_user_says_which(tmp_path, content, parts):
    message = refused(tmp_path, content)
    assert message.splitlines() == [
        f"{KEY}: x.pth holds 2 networks that fit Sequential; add the one that is meant:",
        *(f"  teacher.part={part}" for part in parts),
    ]
    for part, state in zip(parts, (STATE, OTHER)):
        assert torch.equal(found(tmp_path, content, part=part)[0]["2.weight"], state["2.weight"])
    assert (
        f"teacher.part=nothing: x.pth has no such part that fits Sequential; these do: {', '.join(parts)}"
        in refused(tmp_path, content, part="nothing")
    )


@pytest.mark.parametrize("name", ["ema", "model_ema", "state_dict_ema", "ema_state_dict", "swa", "averaged_model"])
def test_an_average_gives_way_to_the_plain_weights_and_is_said(tmp_path, name):
    for content in ({name: OTHER, "model": STATE}, {"model": STATE, name: OTHER}):
        weights, lines = found(tmp_path, content)
        assert torch.equal(weights["2.weight"], STATE["2.weight"]) and lines == [f"loaded is 'model'; left out: {name}"]
    assert torch.equal(found(tmp_path, {"model": STATE, name: OTHER}, part=name)[0]["2.weight"], OTHER["2.weight"])
    weights, lines = found(tmp_path, {name: OTHER})
    assert torch.equal(weights["2.weight"], OTHER["2.weight"]) and lines == [f"loaded is '{name}', an average"]


def test_counters_that_change_no_answer(tmp_path):
    old = {name: value for name, value in STATE.items() if "num_batches_tracked" not in name}
    weights, lines = found(tmp_path, {**old, "total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)})
    assert weights["0.1.num_batches_tracked"] == 0 and weights.keys() == STATE.keys()
    assert lines == ["it has no num_batches_tracked, which begin at 0; a profiler's total_ops are left out"]


@pytest.mark.parametrize("lost", ["2.bias", "0.1.running_mean"])
def test_a_parameter_that_the_file_does_not_fill_is_refused(tmp_path, lost):
    state = {name: value for name, value in STATE.items() if name != lost}
    assert (
        refused(tmp_path, {"net": below("module.", state)})
        == f"{KEY}: x.pth does not fit Sequential: '{lost}' is not in the file (below 'module.')"
    )


def test_a_name_from_each_side_where_nothing_fits(tmp_path):
    message = refused(tmp_path, {"encoder.layer.weight": torch.ones(1)})
    assert (
        message
        == f"{KEY}: x.pth does not fit Sequential: the file has encoder.layer.weight, the network wants 0.0.weight, "
        "and no name of it is in the file"
    )
    message = refused(
        tmp_path, {**{name: value for name, value in STATE.items() if name != "2.bias"}, "2.offset": torch.ones(3)}
    )
    assert message.endswith("'2.bias' is not in the file; '2.offset' is only in the file")


def test_other_classes(tmp_path):
    with pytest.raises(WrongClasses) as raised:
        found(tmp_path, below("module."), classes=5)
    assert (
        str(raised.value).endswith("x.pth knows 3 classes (2.weight), Sequential has 5")
        and raised.value.other.theirs == 3
    )
    assert set(found(tmp_path, below("module."), new_head=True, classes=5)[0]) == set(STATE) - {"2.weight", "2.bias"}


@pytest.mark.parametrize(
    "content, words",
    [
        ([1, 2], "holds no state dict .* it holds a list"),
        ({"epoch": 3, "lr": 0.1}, "holds no state dict .* its keys are epoch, lr"),
        ({}, "holds no state dict"),
        (torch.ones(2), "it holds a Tensor"),
    ],
)
def test_files_without_weights(tmp_path, content, words):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match=words):
        weights_for(network(), read_checkpoint(tmp_path / "x.pth"), tmp_path / "x.pth", KEY)


@pytest.mark.parametrize("keys", [(), ("model",)])
def test_a_whole_network_and_how_to_save_its_weights(tmp_path, keys):
    content = nn.DataParallel(network())
    for key in keys:
        content = {key: content, "epoch": 3}
    message = refused(tmp_path, content)
    assert (
        "holds a whole network (torch.nn.parallel.data_parallel.DataParallel), and to read that is to run its code"
        in message
    )
    command = next(line for line in message.splitlines() if line.startswith("  python -c")).replace(
        "python", sys.executable, 1
    )
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    part = weights_for(network(), read_checkpoint(tmp_path / "x_weights.pth"), tmp_path / "x_weights.pth", KEY)
    assert torch.equal(part.weights["2.weight"], STATE["2.weight"])


@pytest.mark.parametrize(
    "spoiled, words",
    [
        (lambda value: (value * 100).to(torch.int8), "holds int8, and the network wants float32"),
        (lambda value: value * float("nan"), "not finite"),
        (lambda value: value / 0, "not finite"),
    ],
)
def test_numbers_that_are_no_weights_are_refused(tmp_path, spoiled, words):
    message = refused(tmp_path, {name: spoiled(value) for name, value in STATE.items()})
    assert words in message and next(iter(STATE)) in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_precision_are_read(tmp_path, dtype):
    weights, _ = found(tmp_path, {name: value.to(dtype) for name, value in STATE.items()})
    assert set(weights) == set(STATE)
