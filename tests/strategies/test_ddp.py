"""Two processes give the curve of one."""

import pytest
import torch

import kdlab
from kdlab.errors import RunFailed
from kdlab.runs.curve import MetricsFile
from kdlab.runs.run import find_runs

TWO = ["trainer.devices=2", "trainer.strategy=ddp"]


@pytest.fixture
def common(workplace, taught, forked):
    """``forked`` has warmed the process that the ranks are forked from."""
    return [
        "trainer.max_epochs=3",
        "progress=none",
        "trainer.accelerator=cpu",
        "data.drop_last=false",
        "teacher=run",
        f"teacher.run={taught.path}",
    ]


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_processes_give_the_curve_of_one(common, accumulate):
    """An MLP without dropout: to six digits. The last batch is not full, and so are the last accumulated ones."""
    rows, weights = [], []
    for extra in (["name=one"], ["name=two", *TWO]):
        run = kdlab.train([*common, f"trainer.accumulate_grad_batches={accumulate}", *extra])
        rows.append(MetricsFile(run.metrics_file).load().rows)
        weights.append(torch.load(run.checkpoint("last"), weights_only=True)["state_dict"])
    for one, two in zip(*rows, strict=True):
        assert one["step"] == two["step"]
        for key in ("train/loss", "train/loss_ce", "train/loss_kd", "val/accuracy", "val/nll"):
            assert two[key] == pytest.approx(one[key], rel=1e-6), key
    assert weights[0].keys() == weights[1].keys() and all(name.startswith("student.") for name in weights[1])
    assert all(torch.allclose(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-5) for name in weights[0])


def test_a_loss_on_features_alone_leaves_no_parameter_out(common):
    """DDP refuses a step in which some parameter has no part: here the student's last layer."""
    run = kdlab.train(
        [
            *common,
            *TWO,
            "loss=[hint]",
            "trainer.max_epochs=1",
            "loss.hint.student_tap=stage1",
            "loss.hint.teacher_tap=stage1",
        ]
    )
    assert run.status == "finished" and 0 < MetricsFile(run.metrics_file).load().rows[0]["train/loss_hint"] < 100


def test_a_rank_that_fails_ends_the_run(common, workplace, monkeypatch):
    """And its traceback is the user's to read."""
    (workplace / "bad_loss.py").write_text(
        "from kdlab.losses import Loss\n"
        "\n"
        "\n"
        "class Bad(Loss):\n"
        "    needs_teacher = False\n"
        "\n"
        "    def forward(self, student, teacher, batch):\n"
        "        if len(batch) > 4:\n"
        "            raise RuntimeError('no such luck')\n"
        "        return student.logits.mean(-1)\n"
    )
    monkeypatch.syspath_prepend(workplace)
    with pytest.raises(RunFailed, match="RuntimeError: no such luck.*error.txt"):
        kdlab.train([*common, *TWO, "loss=[ce]", "+loss.bad={_target_: bad_loss.Bad}"])
    run = next(find_runs([workplace / "runs"]))
    assert run.status == "failed" and "no such luck" in (run.path / "error.txt").read_text()


@pytest.mark.slow
def test_a_parameter_without_a_part_in_the_loss(common, workplace, monkeypatch):
    """Lightning's advice names its own argument; ours is the line that works here."""
    (workplace / "spare.py").write_text(
        "import torch\nfrom kdlab.models import MLP\n\n\nclass Spare(MLP):\n    def __init__(self, **options):\n       "
        " super().__init__(**options)\n        self.spare = torch.nn.Linear(3, 3)\n"
    )
    monkeypatch.syspath_prepend(workplace)
    own = [*common, *TWO, "student._target_=spare.Spare", "trainer.max_epochs=1"]
    with pytest.raises(RunFailed, match="type trainer.strategy=ddp_find_unused_parameters_true") as error:
        kdlab.train(own)
    assert "DDPStrategy" not in str(error.value)
    assert kdlab.train([*own, "trainer.strategy=ddp_find_unused_parameters_true"]).status == "finished"


@pytest.mark.slow
def test_a_script_without_a_main_guard(workplace, taught):
    """Its top level runs once, not once more in each rank."""
    import subprocess
    import sys

    (workplace / "script.py").write_text(
        "print('top level', flush=True)\n"
        "import kdlab\n"
        "run = kdlab.train(['trainer=ddp_cpu', 'trainer.max_epochs=1', 'progress=none', 'teacher=run', "
        f"'teacher.run={taught.path}'])\n"
        "print(run.status)\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=workplace, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top level") == 1 and "finished" in done.stdout
