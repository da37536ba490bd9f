"""The CRD benchmark at its own size: every row of its study composes, is right, and takes a step on images of CIFAR's
shape."""

import numpy as np
import pytest
import torch
import yaml

import kdlab
from kdlab.config.check import check, check_facts
from kdlab.config.compose import compose
from kdlab.config.paths import conf_dir
from kdlab.data import CIFAR100
from kdlab.training.assemble import assemble

STUDY = yaml.safe_load((conf_dir().parent / "experiments" / "crd_benchmark" / "cifar100" / "study.yaml").read_text())
ROWS = [
    (table, name, row["overrides"]) for table, node in STUDY["tables"].items() for name, row in node["rows"].items()
]
CLASSES = 100
# one image a class is held out of 500 there, and of 2 here
SMALL = ["data.validation=0.5", "data.batch_size=2", "progress=none"]


@pytest.fixture
def images(workplace, monkeypatch):
    """A CIFAR-100 of two images a class for training and one for test, in ``data``. All images of a class are the same,
    a pattern of large squares."""
    monkeypatch.setattr(CIFAR100, "ROWS", {"train": 2 * CLASSES, "test": CLASSES})
    random, folder = np.random.default_rng(0), workplace / "data"
    folder.mkdir()
    patterns = (
        random.integers(0, 256, (CLASSES, 3, 4, 4), dtype=np.uint8)
        .repeat(8, axis=2)
        .repeat(8, axis=3)
        .reshape(CLASSES, -1)
    )
    for name, rows in (("train", 2 * CLASSES), ("test", CLASSES)):
        fine = (np.arange(rows) % CLASSES).astype(np.uint8)[:, None]
        records = np.hstack([fine // 5, fine, patterns[fine[:, 0]]])
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def composed(overrides):
    config = compose(overrides)
    check(config), check_facts(config)
    return config


def gradients(config) -> dict[str, float]:
    """Names of what learns in a step, and the sum of its gradient's absolute values. The teacher is not trained: its
    network stands in."""
    parts = assemble(config, trained=lambda config: None)
    strategy = parts.strategy.train()
    total = strategy.distill(parts.data.train_dataloader().first(2)).loss.total
    assert torch.isfinite(total) and total > 0
    total.backward()
    return {
        name: float(value.grad.abs().sum()) for name, value in strategy.named_parameters() if value.grad is not None
    }


def stages(overrides) -> list[dict]:
    """The configs of a row's runs, but for the teacher's: the first stage, where there are two, and the run itself."""
    config = composed([*overrides, *SMALL])
    initial = config["student"].get("initial")
    return [config] if initial is None else [initial["config"], config]


def steps(overrides):
    return [gradients(config) for config in stages(overrides)]


FAST = [("resnet56_resnet20", "CRD"), ("wrn_40_2_wrn_16_2", "AB"), ("vgg13_mobilenet_v2", "FitNet")]


@pytest.mark.parametrize("table, name", FAST)
def test_a_row_takes_a_step(images, table, name):
    for gradient in steps(STUDY["tables"][table]["rows"][name]["overrides"]):
        assert any(value > 0 for key, value in gradient.items() if key.startswith("student."))


@pytest.mark.slow
@pytest.mark.parametrize("table, name, overrides", ROWS, ids=[f"{table}-{name}" for table, name, _ in ROWS])
def test_every_row_takes_a_step(images, table, name, overrides):
    gradients = steps(overrides)
    assert len(gradients) == (2 if name in ("AB", "FT", "FSP") else 1)
    for gradient in gradients:
        assert any(value > 0 for key, value in gradient.items() if key.startswith("student."))


@pytest.mark.parametrize(
    "pair",
    [
        pair if pair == "wrn_40_2_shufflenet_v1" else pytest.param(pair, marks=pytest.mark.slow)
        for pair in STUDY["tables"]
    ],
)
def test_the_recipe_of_a_pair(pair):
    """240 epochs; 0.01 for the networks of separable convolutions, and 0.05; the teacher by the same recipe and on the
    same split."""
    config = composed([f"experiment=crd_benchmark/{pair}"])
    for one, rate in (
        (config, 0.01 if "mobile" in pair or "shuffle" in pair else 0.05),
        (config["teacher"]["config"], 0.05),
    ):
        assert one["optimizer"] == {
            "_target_": "torch.optim.SGD",
            "lr": rate,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "nesterov": False,
        }
        assert (one["trainer"]["max_epochs"], one["scheduler"]["milestones"], one["scheduler"]["gamma"]) == (
            240,
            [150, 180, 210],
            0.1,
        )
        assert (one["data"]["batch_size"], one["data"]["validation"], one["data"]["fraction"]) == (64, 0.002, 1.0)
    assert (config["loss"]["ce"]["weight"], config["loss"]["kd"]["weight"], config["loss"]["kd"]["temperature"]) == (
        0.1,
        0.9,
        4.0,
    )


def test_features_of_a_vgg_are_counted_from_its_stem():
    loss = composed(["experiment=crd_benchmark/vgg13_mobilenet_v2", "loss=[ce,hint,attention,dkd]"])["loss"]
    assert (loss["hint"]["teacher_tap"], loss["hint"]["student_tap"]) == ("stage3", "stage2")
    assert loss["attention"]["teacher_taps"] == ["stage2", "stage3", "stage4", "stage5"]
    assert loss["attention"]["student_taps"] == ["stage1", "stage2", "stage3", "stage4"]
    assert (
        loss["dkd"]["beta"] == 6.0
        and loss["dkd"]["weight"] == {"schedule": "warmup", "end": 1.0, "epochs": 20}
        and loss["ce"]["weight"] == 1.0
    )


@pytest.mark.parametrize(
    "initial, loss, weight, rate",
    [
        ("factor", "[ce,factor]", 200.0, 0.01),
        pytest.param("ab", "[ce]", 0.003, 0.05, marks=pytest.mark.slow),
        pytest.param("fsp", "[ce]", 1.0, 0.05, marks=pytest.mark.slow),
    ],
)
def test_the_first_stage_lasts_thirty_epochs_at_a_constant_rate(initial, loss, weight, rate):
    overrides = ["experiment=crd_benchmark/wrn_40_2_wrn_16_2", f"initial=crd_benchmark/{initial}", f"loss={loss}"]
    first, second = stages([*overrides, "loss.factor.reconstruction_weight=0"] if initial == "factor" else overrides)
    assert (first["trainer"]["max_epochs"], first["scheduler"]["_target_"], first["optimizer"]["lr"]) == (
        30,
        None,
        rate,
    )
    assert list(first["loss"]) == [initial] and first["loss"][initial]["weight"] == weight
    assert second["trainer"]["max_epochs"] == 240 and second["loss"]["ce"]["weight"] == 1.0


@pytest.mark.slow
def test_a_pair_is_trained_from_nothing(images):
    """A teacher that has learned something (or the run would be refused), and two steps of the student."""
    taught = [
        "data.validation=0.5",
        "data.batch_size=10",
        "data.augment.crop_padding=0",
        "data.augment.flip=0",
        "scheduler=none",
        "optimizer.lr=0.01",
        "trainer.max_epochs=10",
    ]
    run = kdlab.train(
        [
            "experiment=crd_benchmark/resnet56_resnet20",
            "loss=[ce,crd]",
            *SMALL,
            "scheduler=none",
            "trainer.max_epochs=1",
            "+trainer.limit_train_batches=2",
            "teacher.overrides=[" + ",".join(f"'{text}'" for text in taught) + "]",
        ]
    )
    assert run.finished and 0 <= run.metrics["test/accuracy"] <= 1 and run.metrics["train/loss_crd"] > 0
    assert run.config["teacher"]["config"]["student"]["depth"] == 56
