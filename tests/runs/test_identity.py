"""What is the same run, and what is not."""

import pytest

from kdlab.config.compose import compose
from kdlab.runs.identity import readable_name, run_hash
from kdlab.runs.run import Run, RunStore

SAME = [
    ["loss.kd.temperature=4"],
    ["loss.kd.temperature=4.0"],
    ["name=elsewhere", "paths.runs=/somewhere", "progress=none"],
    ["logger=tensorboard"],
    ["fresh=true"],
    ["loss.ce.weight=0.1"],                                 # what the tie gives
    ["~loss.kd.temperature_squared"],                       # the constructor's own default
    ["optimizer.lr=1e-2"],
]
OTHER = [
    ["seed=2"],
    ["loss=[kd,ce]"],                                       # the order of a sum
    ["loss.kd.temperature=5"],
    ["loss.kd.temperature_squared=false"],
    ["teacher.seed=2"],
    ['teacher.overrides=["optimizer.lr=0.1"]'],
    ["threads=2"],
    ["data.split_seed=1"],
    ["trainer.precision=bf16-mixed"],
    ["callbacks=ema"],
    ["student.hidden=[17]"],
]


@pytest.mark.parametrize("overrides", SAME, ids=str)
def test_the_same_run(overrides):
    assert run_hash(compose(overrides)) == run_hash(compose([]))


def test_every_difference_counts():
    hashes = [run_hash(compose(overrides)) for overrides in [[], *OTHER]]
    assert len(set(hashes)) == len(hashes)


def test_a_teacher_counts_by_its_run_whatever_names_it(taught):
    """Where its runs are kept, and under which name, is no part of what it is."""
    assert run_hash(compose(["teacher=run", f"teacher.run={taught.path}"])) == run_hash(
        compose(["teacher=run", f"teacher.run={taught.path}/"]))
    assert run_hash(compose(["teacher=run", f"teacher.run={taught.path}", "teacher.which=best"])) != run_hash(
        compose(["teacher=run", f"teacher.run={taught.path}"]))


def test_a_checkpoint_counts_by_its_content(tmp_path):
    first, second, third = (tmp_path / name for name in ("a.ckpt", "b.ckpt", "c.ckpt"))
    first.write_bytes(b"one"), second.write_bytes(b"one"), third.write_bytes(b"three")
    hashes = [run_hash(compose(["teacher=checkpoint", f"teacher.checkpoint={path}"])) for path in (first, second, third)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_group_is_the_same_over_seeds(workplace):
    import kdlab

    small = ["strategy=supervised", "trainer.max_epochs=1", "progress=none"]
    records = [kdlab.train([*small, f"seed={seed}"]).record for seed in (1, 2)]
    assert records[0]["group"] == records[1]["group"] and records[0]["hash"] != records[1]["hash"]


def test_readable_name():
    config = compose(["student=resnet8", "seed=3"])
    assert readable_name(config) == "offline-ce+kd-resnet8-s3"
    run = RunStore("runs").run(config)
    assert run.path.name == f"offline-ce+kd-resnet8-s3-{run_hash(config)}" and str(run.path.parent) == "runs/quickstart"


def test_a_run_is_found_under_another_readable_name(tmp_path):
    """A run that a sweep made is recognised by the single command with the same values."""
    config = compose([])
    elsewhere = tmp_path / "quickstart" / f"renamed-{run_hash(config)}"
    elsewhere.mkdir(parents=True)
    assert RunStore(tmp_path).run(config).path == elsewhere


def test_record_holds_where_a_result_came_from(taught):
    record = taught.record
    for key in ("command", "overrides", "choices", "seed", "threads", "code", "versions", "hardware", "status", "metrics", "durations",
                "teacher_share", "parameters", "weights", "began", "ended"):
        assert key in record, key
    assert record["code"]["kdlab"] == "0.1.0" and record["versions"]["torch"] and record["hardware"]["cores"] >= 1
    assert record["status"] == "finished" and record["weights"] == {"ce": 1.0} and record["teacher_share"] == 0
    assert 0.9 < record["metrics"]["test/accuracy"] <= 1 and record["metrics"]["best_epoch"] <= 5


def test_run_gives_back_the_student_and_its_predictions(taught):
    import torch

    from kdlab.data import Digits

    student, predictions = taught.student, taught.predictions()
    assert type(student).__module__ == "kdlab.models.mlp" and not student.training
    batch = next(iter(Digits(batch_size=8).test_dataloader()))
    with torch.no_grad():
        assert torch.allclose(student(batch.inputs), predictions["last"], atol=1e-5)
    accuracy = (predictions["last"].argmax(-1) == predictions["target"]).float().mean().item()
    assert accuracy == pytest.approx(taught.metrics["test/accuracy"])
    assert predictions["index"].tolist() == list(range(359))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_record_says_so(tmp_path, content):
    from kdlab.errors import InputError

    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match="run.json"):
        Run(tmp_path).record


def test_the_order_of_named_peers_counts():
    """It says whose first weights, view and turn are whose."""
    first, second = (["strategy=online", *(f"+student@strategy.peers.{name}={name.replace('wide', 'mlp_wide')}" for name in names)]
                     for names in (("mlp", "wide"), ("wide", "mlp")))
    assert run_hash(compose(first)) != run_hash(compose(second))
