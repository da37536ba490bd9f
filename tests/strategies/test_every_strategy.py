"""What every strategy promises: it trains, it can be stopped and gone on with to the same bits, its checkpoint holds
what evolves and no frozen teacher, and two processes do what one does. A file in conf/strategy/ without a line here
fails.

Bits are promised, and compared, on one machine with one build: of a run and the same run resumed. Two processes give
the same up to rounding."""

import pytest
import torch

import kdlab
from kdlab.config.compose import compose
from kdlab.config.paths import conf_dir
from kdlab.errors import InputError
from kdlab.runs.curve import MetricsFile
from kdlab.runs.run import RunStore
from kdlab.strategies.base import Strategy

# everything that could carry hidden state: dropout, augmentation, a schedule that moves every step, accumulation
COMMON = [
    "data.fraction=0.2",
    "student.hidden=[16]",
    "data.augment.crop_padding=1",
    "scheduler=onecycle",
    "progress=none",
]
STATEFUL = [
    "student.dropout=0.2",
    "trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_val=1.0",
    "trainer.max_epochs=3",
]
# what a checkpoint holds beside the student, and whether two processes must give the curve of one (not where something
# looks across a batch)
STRATEGIES = {
    "assistant": (set(), True),
    "born_again": (set(), True),
    "byot": ({"exits"}, True),
    "cotrain": ({"peers"}, False),  # the teacher's dropout
    "cs_kd": (set(), True),
    "dlb": (set(), True),
    "ema": ({"average"}, True),
    "funmatch": (set(), False),  # images are mixed within a process
    "kdcl": ({"peers"}, True),
    "one": ({"peers", "gate"}, False),  # the gate's BatchNorm
    "offline": (set(), True),
    "online": ({"peers"}, True),
    "previous_checkpoint": ({"snapshot", "snapshots"}, True),
    "ps_kd": ({"table"}, True),
    "supervised": (set(), True),
    "tf_kd": (set(), True),
    "tf_kd_virtual": (set(), True),
}
# of causal language models: tests/strategies/test_on_policy.py and test_privileged.py
GENERATING = {"on_policy", "privileged"}
TEACHER = ("offline", "funmatch")
EXTRA = {
    "born_again": ["strategy.generation=2"],
    "assistant": ['teacher.overrides=["trainer.max_epochs=3"]', "student=mlp"],
}


def test_every_file_has_its_line():
    assert {path.stem for path in (conf_dir() / "strategy").glob("*.yaml")} == set(STRATEGIES) | GENERATING


@pytest.fixture
def overrides(request, workplace, taught):
    strategy = request.node.callspec.params["strategy"]
    return [
        f"strategy={strategy}",
        *COMMON,
        *EXTRA.get(strategy, []),
        *(["teacher=run", f"teacher.run={taught.path}"] if strategy in TEACHER else []),
    ]


def _state(run):
    """What a run goes on from, and what it has measured."""
    content = torch.load(run.checkpoint("last"), weights_only=True)
    rows = [
        {key: value for key, value in row.items() if key not in ("seconds", "train/teacher_share")}
        for row in MetricsFile(run.metrics_file).load().rows
    ]
    return {**content["state_dict"], **_flat(content["optimizer_states"])}, rows


def _flat(node, name="optimiser"):
    if isinstance(node, (dict, list)):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        return {key: value for part, inner in pairs for key, value in _flat(inner, f"{name}.{part}").items()}
    return {name: torch.as_tensor(node)} if isinstance(node, (int, float, torch.Tensor)) else {}


# a frozen teacher, and peers; the others with the slow tests
QUICK = ("offline", "online")
EVERY = [strategy if strategy in QUICK else pytest.param(strategy, marks=pytest.mark.slow) for strategy in STRATEGIES]


@pytest.mark.parametrize("strategy", EVERY)
def test_stopped_and_gone_on_with(strategy, overrides, monkeypatch):
    whole = kdlab.train([*overrides, *STATEFUL, "name=whole"])
    step = Strategy.training_step

    path = str(RunStore().run(compose([*overrides, *STATEFUL, "name=stopped"])).path)

    def stopped(self, batch, index):
        # not in a run before it
        if self.current_epoch == 1 and index == 3 and self.trainer.default_root_dir.endswith(path):
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(Strategy, "training_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        kdlab.train([*overrides, *STATEFUL, "name=stopped"])
    monkeypatch.setattr(Strategy, "training_step", step)
    again = kdlab.train([*overrides, *STATEFUL, "name=stopped"])

    (first, first_rows), (second, second_rows) = _state(whole), _state(again)
    assert len(again.record["resumed"]) == 1 and len(second_rows) == 3
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert first_rows == second_rows
    # the best epoch's number, too, was found before and after the stop
    assert whole.metrics == again.metrics and whole.record["networks"] == again.record["networks"]
    held = {name.split(".")[0] for name in torch.load(whole.checkpoint("last"), weights_only=True)["state_dict"]}
    assert held == {"student"} | STRATEGIES[strategy][0]
    assert all(torch.isfinite(torch.tensor(value)) for row in first_rows for value in row.values())


@pytest.mark.parametrize("strategy", EVERY)
def test_two_processes(strategy, overrides, forked):
    epoch = [*overrides, "trainer.max_epochs=2", "trainer.accelerator=cpu", "data.drop_last=false"]
    two = kdlab.train([*epoch, "name=two", "trainer.devices=2", "trainer.strategy=ddp"])
    weights, rows = _state(two)
    assert all(torch.isfinite(value).all() for value in weights.values())
    if STRATEGIES[strategy][1]:
        one = kdlab.train([*epoch, "name=one"])
        for mine, theirs in zip(_state(one)[1], rows, strict=True):
            assert mine.keys() == theirs.keys() and mine["step"] == theirs["step"]
            for key in mine:
                if key.startswith(("train/loss", "val/nll")):
                    assert theirs[key] == pytest.approx(mine[key], rel=1e-4, abs=1e-6), key


OPTIONS = {
    "average": ["callbacks=ema", "callbacks.ema.decay=0.5"],
    "mixed precision": ["trainer.precision=bf16-mixed"],
    "half precision": ["trainer.precision=bf16-true"],
    "compiled": ["compile=aot_eager"],
    "another loss": ["loss=[ce,dkd]"],
    "sparse validation": ["+trainer.check_val_every_n_epoch=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_options(strategy, option, overrides):
    if option == "another loss" and strategy in ("supervised", "tf_kd_virtual"):
        with pytest.raises(InputError, match="loss.dkd needs a teacher"):
            kdlab.train([*overrides, *OPTIONS[option]])
        return
    if option == "another loss" and strategy == "funmatch":
        overrides = [*overrides, "mixing=none"]  # dkd needs one label an image
    run = kdlab.train([*overrides, *STATEFUL, *OPTIONS[option]])
    content = torch.load(run.checkpoint("last"), weights_only=True)
    assert {name.split(".")[0] for name in content["state_dict"]} == {"student"} | STRATEGIES[strategy][0]
    assert not any("_orig_mod" in name for name in content["state_dict"])
    assert (
        all(torch.isfinite(torch.tensor(value)) for value in run.metrics.values())
        and 0.05 < run.metrics["test/accuracy"] <= 1
    )
    assert next(run.student.parameters()).dtype == torch.float32
    if option == "another loss":
        assert any(key.startswith("train/loss_dkd") and value > 0 for key, value in run.metrics.items())
