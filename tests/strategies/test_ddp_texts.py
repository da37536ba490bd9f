"""Two processes that read texts of uneven lengths, three batches a step, give the curve of one."""

import pytest
import torch

import kdlab
from kdlab.runs.curve import MetricsFile
from tests.data.text.texts import options, text_file
from tests.training.test_class_order import encoder_folder

pytestmark = pytest.mark.slow

NO_DROPOUT = "student.options={hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}"


def curves_agree(given, keys):
    """Of one process and of two."""
    rows, weights = [], []
    for extra in (["name=one"], ["name=two", "trainer.devices=2", "trainer.strategy=ddp"]):
        run = kdlab.train([*given, *extra])
        rows.append(MetricsFile(run.metrics_file).load().rows)
        weights.append(torch.load(run.checkpoint("last"), weights_only=True)["state_dict"])
    for one, two in zip(*rows, strict=True):
        assert one["step"] == two["step"]
        for key in keys:
            assert two[key] == pytest.approx(one[key], rel=1e-5), key
    assert len(rows[0]) == 3 and weights[0].keys() == weights[1].keys()
    assert all(torch.allclose(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-5) for name in weights[0])


@pytest.fixture
def common(workplace, forked):
    return [
        "data=text",
        f"data.train={text_file(workplace / 'train.tsv')}",
        *(f"data.{name}={value}" for name, value in options(workplace).items()),
        "data.vocabulary=33",
        "student=bert",
        "student.layers=2",
        "student.width=8",
        "student.heads=2",
        "student.intermediate=8",
        f"+{NO_DROPOUT}",
        "trainer.accumulate_grad_batches=3",
        "trainer.max_epochs=3",
        "trainer.accelerator=cpu",
        "optimizer.lr=0.001",
        "progress=none",
    ]


def test_classes_with_a_teacher_and_hidden_states(common, workplace):
    teacher = encoder_folder(workplace / "teacher", ["neg", "pos"])
    given = [*common, "data.classes=2", "teacher=encoder", f"teacher.pretrained={teacher}", "loss=[ce,kd,hidden_mse]"]
    layers = ["loss.hidden_mse.student_tap=hidden2", "loss.hidden_mse.teacher_tap=hidden1"]
    keys = [f"train/loss{part}" for part in ("", "_ce", "_kd", "_hidden_mse")]
    curves_agree([*given, *layers], [*keys, "val/accuracy", "val/nll"])


def test_masked_words(common):
    given = [*common, "task=masked_lm", "student.head=masked_lm", "teacher=none", "strategy=supervised"]
    given += ["data.drop_last=true"]  # two processes leave out a tail of three, one process does not
    curves_agree(given, ["train/loss", "train/loss_ce", "val/nll"])
