"""The scripts of experiments/speed: what they compare is the same job, and the page is what the results make."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import kdlab.losses
import kdlab.models
from kdlab.batch import Batch
from kdlab.outputs import Outputs

FOLDER = Path(__file__).parents[2] / "experiments" / "speed"
SCRIPTS = {
    "step.py": ["--quick"],
    "step.py --profile": ["--quick", "--profile"],
    "sweep.py": ["--quick"],
    "stacked.py": ["--quick"],
    "cached_epoch.py": ["--quick"],
    "startup.py": ["--quick"],
    "growth.py": ["--quick"],
    "sparse.py": ["--quick"],
}


@pytest.fixture
def speed(monkeypatch):
    """Imports modules of the folder by name, and forgets them afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield __import__
    for name in [name for name in sys.modules if name not in before]:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


def test_the_page_is_what_the_results_make(speed):
    page = speed("page")
    assert page.rendered(page.PAGE.read_text(encoding="utf-8")) == page.PAGE.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="README.md: <!-- step -->"):
        page.rendered("no marks")


def test_a_section_has_the_numbers_of_its_results(speed, tmp_path, monkeypatch):
    page = speed("page")
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert page.section("startup") == "Not measured yet."
    machine = '{"gpu": null, "processor": "P", "cores": 2, "threads": 1, "load": 0.5, "python": "3.11"'
    machine += ', "versions": {"torch": "2.6"}, "commit": "abc"}'
    row = '{"median": 1.5, "q1": 1.25, "q3": 2, "beyond": 1}'
    (tmp_path / "startup.json").write_text(f'{{"machine": {machine}, "rounds": 3, "commands": {{"x": {row}}}}}')
    table, facts = page.section("startup").split("\n\n")
    assert table.splitlines()[-1] == "| x | 1.500 | 1.250 to 2.000 | 1.000 |"
    assert facts == "P, 2 cores, 1 thread, load 0.5 at the end; Python 3.11, torch 2.6; commit abc, 3 rounds."


def test_ratios_are_taken_round_by_round(speed):
    found = speed("common").summary([2.0, 30.0, 4.0, 8.0, 5.0], [1.0, 10.0, 2.0, 2.0, 5.0])
    assert (found["median"], found["q1"], found["q3"]) == (5.0, 4.0, 8.0)
    assert (found["ratio"], found["ratio_q1"], found["ratio_q3"]) == (2.0, 2.0, 3.0)


def test_a_round_asks_every_way_once_and_the_warm_round_does_not_count(speed):
    asked = []
    ways = {name: partial(lambda name: asked.append(name) or len(asked), name) for name in "abc"}
    found = speed("common").rounds(ways, 2)
    assert {name: len(values) for name, values in found.items()} == {"a": 2, "b": 2, "c": 2}
    assert [sorted(asked[first : first + 3]) for first in (0, 3, 6)] == [["a", "b", "c"]] * 3
    assert min(min(values) for values in found.values()) == 4


def test_memory_is_the_largest_resident_size(speed, monkeypatch):
    common = speed("common")
    monkeypatch.setattr(common.Path, "read_text", lambda path: "Name:\tpython\nVmHWM:\t    3072 kB\nVmRSS:\t 1024 kB\n")
    assert common.memory() == 3.0


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_plain_networks_are_those_of_kdlab(speed, kind):
    common = speed("common")
    plain = common.Net(kind, (8, 16)).plain((1, 8, 8))
    options = {"hidden": (8, 16)} if kind == "mlp" else {"widths": (8, 16)}
    network = {"mlp": kdlab.models.MLP, "cnn": kdlab.models.CNN}[kind](classes=10, shape=(1, 8, 8), **options)
    common.same_weights(plain, network)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(plain.eval()(x), network.eval()(x), atol=1e-6)
    with pytest.raises(SystemExit, match="differ"):
        common.same_weights(common.Net(kind, (8, 12)).plain((1, 8, 8)), network)


def job(common, **options):
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 1, 8, 8, generator=draw), torch.arange(64) % 10
    net = common.Net("mlp", (8,))
    torch.manual_seed(0)
    return common.Job(x, y, net.plain((1, 8, 8)), lambda: net.plain((1, 8, 8)), epochs=2, batch=16, **options)


def test_the_plain_loss_is_that_of_kdlab(speed):
    common, contenders = speed("common"), speed("contenders")
    draw = torch.Generator().manual_seed(0)
    student, teacher, y = torch.randn(6, 10, generator=draw), torch.randn(6, 10, generator=draw), torch.arange(6)
    batch, outputs = Batch(torch.zeros(6, 1), y, torch.arange(6)), (Outputs(student), Outputs(teacher))
    soft = kdlab.losses.HintonKD(temperature=3.0)(*outputs, batch).mean()
    hard = kdlab.losses.CrossEntropy()(*outputs, batch).mean()
    found = contenders.hinton(student, teacher, y, job(common, temperature=3.0, weight=0.7))
    assert found.item() == pytest.approx(0.7 * soft.item() + 0.3 * hard.item(), rel=1e-5)


def test_contenders_train_the_same(speed):
    """With the whole set in one batch no order is drawn, so all have the same loss."""
    pytest.importorskip("timm.task")
    common, contenders = speed("common"), speed("contenders")
    one = job(common)
    one.batch, one.epochs = 64, 3
    ways = ["plain_loop", "plain_loop_with_loader", "bare_lightning", "lightning_with_defaults", "timm_task"]
    losses = {name: getattr(contenders, name)(one) for name in ways}
    if common.available(["torchdistill"]):
        losses["torchdistill"] = speed("box").torchdistill(one)
    floor = losses.pop("plain_loop")
    assert len(floor.seconds) == 3 and floor.loss > 0
    for name, found in losses.items():
        assert len(found.seconds) == 3 and found.loss == pytest.approx(floor.loss, rel=1e-4), name


def test_a_curve_gives_the_seconds_of_a_step_without_the_epoch_that_was_validated(speed, tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,train/loss,seconds,val/accuracy\n0,10,3,5,\n1,20,2,1,\n2,30,1.5,2,\n3,40,1,9,0.5\n")
    found = speed("contenders").outcome(file)
    assert (found.seconds, found.loss, found.step) == ([0.5, 0.1, 0.2], 1.5, pytest.approx(0.15))


@pytest.mark.parametrize(
    "path, name, found",
    [
        ("/v/site-packages/torch/optim/sgd.py", "step", "optimiser"),
        ("/v/site-packages/torch/nn/functional.py", "linear", "forward"),
        ("/v/site-packages/torch/nn/functional.py", "kl_div", "loss"),
        ("/v/site-packages/lightning/pytorch/loops/fit_loop.py", "run", "Lightning"),
        (f"{FOLDER.parents[1]}/kdlab/strategies/base.py", "training_step", "kdlab, the rest"),
        (f"{FOLDER}/contenders.py", "_loop", "loop"),
        ("/usr/lib/python3.11/copy.py", "deepcopy", "Python's library"),
    ],
)
def test_the_place_of_a_function(speed, path, name, found):
    assert speed("profile_step").place((path, 1, name)) == found


def test_no_gpu_is_said(speed, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["step.py", "--device", "cuda"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="--device cuda: torch sees no GPU"):
        speed("step").main()


SHOWN = {
    "stacked.py": "times faster",
    "cached_epoch.py": "equal, bit for bit",
    "growth.py": "memory, MB",
    "sparse.py": "top-64 cache",
}  # of the others: kdlab's row


@pytest.mark.slow
@pytest.mark.parametrize("script", list(SCRIPTS))
def test_the_script(script, tmp_path):
    program = [sys.executable, str(FOLDER / script.split()[0]), *SCRIPTS[script]]
    before = sorted((FOLDER / "results").glob("*"))
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)
    if "kdlab did not stack these runs" in done.stderr:
        pytest.skip("on this machine, now, stacking does not pay")
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) >= 4 and SHOWN.get(script, "kdlab") in done.stdout
    assert sorted((FOLDER / "results").glob("*")) == before  # nothing is kept of a try
