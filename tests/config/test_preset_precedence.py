"""Command line over experiment over preset over strategy, for numbers and for schedules."""

import pytest

from kdlab.config.check import check
from kdlab.config.compose import compose, own_hydra
from kdlab.config.presets import PACKAGE
from kdlab.errors import InputError


def loss(*overrides):
    config = compose(overrides)
    check(config)
    return config["loss"]


@pytest.fixture
def mine(workplace):
    """An experiment and a preset of the user's own, and what composes with them."""
    for group, name, text in (
        (
            "experiment",
            "warm",
            "# @package _global_\nloss: {kd: {temperature: 7.0, weight: {schedule: warmup, end: 0.7, epochs: 3}}}\n",
        ),
        ("experiment", "preset", "# @package _global_\ndefaults:\n  - override /preset: kd/cifar100_simkd\n"),
        (
            "experiment",
            "both",
            "# @package _global_\ndefaults:\n  - override /preset: kd/cifar100_simkd\nloss: {kd: {temperature: 7.0}}\n",
        ),
        ("preset", "kd/rising", f"{PACKAGE}\nkd: {{weight: {{schedule: ramp_up, end: 0.6, epochs: 2}}}}\n"),
    ):
        file = workplace / "conf" / group / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def composed(*overrides):
        from hydra import compose as hydra_compose

        from kdlab.config.compose import plain

        with own_hydra():
            return plain(
                hydra_compose(
                    "train", [f"hydra.searchpath=[file://{workplace}/conf]", *overrides], return_hydra_config=True
                )
            )["loss"]

    return composed


def test_command_line_over_preset():
    assert (
        loss("loss=[ce,dkd]", "preset=dkd/imagenet_resnet", "loss.dkd.beta=3", "loss.ce.weight=0.2")["dkd"]["beta"] == 3
    )
    assert loss("loss.kd.temperature=3", "preset=kd/imagenet")["kd"] | {"temperature": 0} == loss("preset=kd/imagenet")[
        "kd"
    ] | {"temperature": 0}


def test_command_line_over_experiment_over_preset_over_strategy(mine):
    strategy = mine("strategy=cs_kd")  # ce 1, kd 1, T 4
    preset = mine("strategy=cs_kd", "preset=kd/imagenet")
    experiment = mine("strategy=cs_kd", "preset=kd/imagenet", "experiment=warm")
    typed = mine(
        "strategy=cs_kd", "preset=kd/imagenet", "experiment=warm", "loss.kd.temperature=9", "loss.kd.weight=0.2"
    )
    found = [
        (terms["ce"]["weight"], terms["kd"]["weight"], terms["kd"]["temperature"])
        for terms in (strategy, preset, experiment, typed)
    ]
    warm = {"schedule": "warmup", "end": 0.7, "epochs": 3}
    assert found == [(1.0, 1.0, 4.0), (0.5, 0.5, 1.0), (0.5, warm, 7.0), (0.5, 0.2, 9)]


def test_experiment_over_strategy_and_command_line_over_strategy(mine):
    assert mine("strategy=cs_kd", "experiment=warm")["kd"]["temperature"] == 7.0
    assert mine("strategy=cs_kd", "loss.kd.temperature=2")["kd"]["temperature"] == 2
    assert mine("experiment=warm", "loss.kd.temperature=2")["kd"]["temperature"] == 2


def test_an_experiment_chooses_a_preset_and_says_more_itself(mine):
    assert mine("experiment=preset")["kd"]["weight"] == 1.0
    both = mine("experiment=both")
    assert (both["ce"]["weight"], both["kd"]["weight"], both["kd"]["temperature"]) == (1.0, 1.0, 7.0)
    assert mine("experiment=both", "preset=kd/imagenet")["kd"] | {"temperature": 0} == mine("preset=kd/imagenet")[
        "kd"
    ] | {"temperature": 0}
    assert mine("experiment=both", "preset=none")["kd"]["weight"] == 0.9


@pytest.mark.parametrize(
    "overrides, expected",
    [
        # over linear, which has a start
        (
            ["strategy=ema", "preset=kd/rising"],
            {"schedule": "ramp_up", "end": 0.6, "epochs": 2},
        ),
        (
            ["preset=kd/rising", "++loss.kd.weight={schedule: stop, value: 1, epochs: 4}"],
            {"schedule": "stop", "value": 1, "epochs": 4},
        ),
        (["strategy=ema", "experiment=warm"], {"schedule": "warmup", "end": 0.7, "epochs": 3}),
        (["preset=kd/rising", "experiment=warm"], {"schedule": "warmup", "end": 0.7, "epochs": 3}),
        (
            ["experiment=warm", "++loss.kd.weight={schedule: constant, value: 0.5}"],
            {"schedule": "constant", "value": 0.5},
        ),
        (
            ["strategy=ema", "loss.kd.weight={schedule: warmup, end: 0.5, epochs: 2}"],
            {"schedule": "warmup", "end": 0.5, "epochs": 2},
        ),
        (["strategy=ema", "loss.kd.weight.end=0.5"], {"schedule": "linear", "start": 0.0, "end": 0.5, "epochs": 5}),
        (["preset=kd/rising", "loss.kd.weight=0.3"], 0.3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_schedule_takes_the_whole_place_of_another(mine, overrides, expected):
    assert mine(*overrides)["kd"]["weight"] == expected


def test_a_schedule_with_other_arguments_is_refused_with_the_line_that_replaces_it():
    typed = ["strategy=ema", "loss.kd.weight={schedule: stop, value: 1, epochs: 4}"]
    with pytest.raises(InputError, match=r"'\+\+loss.kd.weight=\{schedule: stop, value: 1, epochs: 4\}'") as error:
        compose(typed)
    cure = str(error.value).partition("replace the schedule: ")[2].strip("'")
    assert loss("strategy=ema", cure)["kd"]["weight"] == {"schedule": "stop", "value": 1, "epochs": 4}


def test_a_misspelt_argument_of_a_schedule_is_still_refused():
    with pytest.raises(InputError, match="schedule 'warmup' has no argument 'start'"):
        check(compose(["loss.kd.weight={schedule: warmup, end: 1, epochs: 2, start: 0.3}"]))
