"""What a run measures of its student beside accuracy."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kdlab import train
from kdlab.runs.run import find_runs
from kdlab.strategies.base import Strategy
from kdlab.training import results

SHORT = ["data.fraction=0.2", "trainer.max_epochs=3", "progress=none"]


def _by_hand(student: torch.Tensor, teacher: torch.Tensor) -> tuple[float, float]:
    student, teacher = (logits.double().numpy() for logits in (student, teacher))
    p, q = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True) for logits in (teacher, student))
    return (student.argmax(1) == teacher.argmax(1)).mean(), (p * np.log(p / q)).sum(1).mean()


def _of(metrics: dict) -> set[str]:
    return {name for name in metrics if "agreement" in name or "kl_to_teacher" in name}


def test_a_distilled_run(kdlab, workplace, taught, monkeypatch):
    passes, evaluate = [], results.evaluate
    monkeypatch.setattr(results, "evaluate", lambda *arguments: passes.append(1) or evaluate(*arguments))
    run = train(["teacher=run", f"teacher.run={taught.path}", *SHORT, "optimizer.lr=0.02"])
    best_is_last = run.checkpoint("best").samefile(run.checkpoint("last"))
    assert len(passes) == 3 - best_is_last, "the teacher, the last and the best, each once"
    said, theirs = run.predictions(), taught.predictions()["last"]
    for which, suffix in (("last", ""), ("best", "_best")):
        agreed, apart = _by_hand(said[which], theirs)
        assert run.metrics[f"test/agreement{suffix}"] == pytest.approx(agreed) and 0.3 < agreed < 1
        assert run.metrics[f"test/kl_to_teacher{suffix}"] == pytest.approx(apart, rel=1e-4) and apart > 0.01

    record = run.record
    assert record["flops"] == 2 * (64 * 32 + 32 * 10)
    save_file(run.student.state_dict(), workplace / "student.safetensors")
    assert record["checkpoint_bytes"] == (workplace / "student.safetensors").stat().st_size
    assert record["peak_memory_of"] == "process" and 50_000_000 < record["peak_memory_bytes"] < 10**11
    shown = json.loads(kdlab("runs", "show", run.path)[1])
    assert (
        shown["metrics"]["test/agreement"] == run.metrics["test/agreement"]
        and shown["checkpoint_bytes"] == record["checkpoint_bytes"]
    )


def test_a_student_that_is_its_teacher(workplace, taught):
    begun = ["initial=run", f"student.initial.run={taught.path}", "student=mlp_wide", "optimizer.lr=0"]
    run = train([*begun, "teacher=run", f"teacher.run={taught.path}", *SHORT])
    assert {name: run.metrics[name] for name in _of(run.metrics)} == {
        "test/agreement": 1,
        "test/agreement_best": 1,
        "test/kl_to_teacher": 0,
        "test/kl_to_teacher_best": 0,
    }


def test_every_network_of_a_run_is_compared_with_its_one_teacher(workplace):
    run = train(["strategy=born_again", "strategy.generation=2", *SHORT, "trainer.max_epochs=1"])
    networks, said = run.record["networks"], run.predictions()
    before = train(["strategy=born_again", "strategy.generation=1", *SHORT, "trainer.max_epochs=1"])
    for name, logits in (("student", said["last"]), ("ensemble", said["last.ensemble"])):
        agreed, apart = _by_hand(logits, before.predictions()["last"])
        assert networks[name]["test/agreement"] == pytest.approx(agreed)
        assert networks[name]["test/kl_to_teacher_best"] == pytest.approx(apart, rel=1e-4)
    assert (
        networks["student"]["test/kl_to_teacher"]
        == run.metrics["test/kl_to_teacher"]
        > networks["ensemble"]["test/kl_to_teacher"]
        > 0
    )


@pytest.mark.parametrize(
    "overrides", [["strategy=supervised"], ["strategy=online"], ["strategy=ema"]], ids=lambda overrides: overrides[0]
)
def test_without_one_frozen_teacher_there_is_nothing_to_agree_with(workplace, overrides):
    run = train([*overrides, *SHORT, "trainer.max_epochs=1"])
    assert not _of(run.metrics) and not any(_of(scores) for scores in run.record["networks"].values())
    assert (
        run.record["flops"] == 2 * (64 * 32 + 32 * 10) and run.record["checkpoint_bytes"] > 4 * run.record["parameters"]
    )


def test_with_a_teacher_for_each_term_there_is_no_one_to_agree_with(workplace, taught):
    members = []
    for name in ("strong", "wide"):
        members += [f"+teacher.members.{name}.run={taught.path}"]
        members += [f"~teacher.members.{name}.{key}" for key in ("experiment", "seed", "overrides")]
    run = train(["loss=[ce,kd,logit_mse]", "teacher=per_term", *members, *SHORT, "trainer.max_epochs=1"])
    assert not _of(run.metrics) and not _of(run.record["teacher"])
    tested = [one["test"]["accuracy"] for one in run.record["teacher"]["members"].values()]
    assert tested == pytest.approx([taught.metrics["test/accuracy"]] * 2)


def test_a_peak_of_memory_before_an_interruption_counts(workplace, monkeypatch):
    def training_step(self, batch, index):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    overrides, step = ["strategy=supervised", *SHORT], Strategy.training_step
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Strategy, "training_step", training_step)
        train(overrides)
    (run,) = find_runs([workplace])
    content = torch.load(run.checkpoint("last"), weights_only=True)
    content["callbacks"]["kdlab.Recorder"]["peak_memory_bytes"] = 10**15
    torch.save(content, run.checkpoint("last"))
    assert train(overrides).record["peak_memory_bytes"] == 10**15
