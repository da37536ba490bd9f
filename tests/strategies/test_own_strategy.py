"""The page on strategies is followed to the letter: a strategy from outside the package, in one class and one YAML
file."""

import re
import shlex
from pathlib import Path

import pytest
import torch

import kdlab as package
from kdlab.runs.curve import MetricsFile
from kdlab.runs.run import Run

PAGE = (Path(package.__file__).parent / "strategies" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|yaml|bash)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def followed(workplace, monkeypatch):
    """The page's files, written."""
    monkeypatch.syspath_prepend(workplace)
    for kind, text in BLOCKS:
        if kind != "bash":
            path = workplace / re.search(r"^# (\S+\.(?:py|yaml))$", text, re.MULTILINE)[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


@pytest.mark.slow
def test_the_page(kdlab, followed):
    told = []
    for line in [line for kind, text in BLOCKS if kind == "bash" for line in text.strip().splitlines()]:
        code, out, err = kdlab(*shlex.split(line)[1:])
        assert code == 0, (line, err)
        if "temporal" in line or "compare" in line:
            told.append(out.strip().splitlines())
    run = Run(told[0][-1].strip())
    rows = MetricsFile(run.metrics_file).load().rows
    assert "train/loss_kd" not in rows[0] and rows[1]["train/loss_kd"] > 0
    table = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]["average"]
    assert table.shape == (1438, 10) and (table.abs().sum(1) > 0).sum() == 1151, "all that are trained on"
    assert sum("TemporalEnsembling" in line or "temporal" in line for line in told[-1]) >= 5


def test_it_is_refused_with_its_own_words(kdlab, followed):
    code, _, err = kdlab("train", "--config-dir", "conf", "strategy=temporal", "teacher=trained")
    assert code == 2 and "has no other teacher" in err and not Path("runs").exists()
