"""The page on losses is followed to the letter: a loss from outside the package, in one function, one class, one YAML
file."""

import csv
import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import kdlab as package

PAGE = (Path(package.__file__).parent / "losses" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|yaml|bash)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
def test_the_page(kdlab, workplace, monkeypatch):
    monkeypatch.syspath_prepend(workplace)
    told = []
    for kind, text in BLOCKS:
        if kind != "bash":
            path = workplace / next(line for line in text.splitlines() if "@package" not in line).removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            continue
        for line in text.strip().splitlines():
            code, out, err = kdlab(*shlex.split(line)[1:])
            assert code == 0, (line, err)
            if "gap" in line:
                told.append(out.strip().splitlines()[-1].strip())
    for run in (told[0], told[2]):
        rows = list(csv.DictReader(open(Path(run) / "metrics.csv")))
        assert len(rows) == 2 and all(0 < float(row["train/loss_gap"]) < 1 for row in rows)
    weights = [float(row["train/gap.weight"]) for row in rows]
    assert 0 < weights[0] < weights[1] < 1
    swept = [run for run in Path("runs/quickstart").iterdir() if "ce+gap-" in run.name]
    assert len(swept) == 4, "two of the sweep, the scheduled one and that of the preset"
    kept = {name: dict(node) for name, node in OmegaConf.load(Path(told[-1]) / "config.yaml").loss.items()}
    assert (kept["ce"]["weight"], kept["gap"]["weight"], kept["gap"]["power"]) == (0.5, 0.5, 2.0)


def test_bad_arguments_of_ones_own_loss_are_found_before_anything_is_written(kdlab, workplace, monkeypatch):
    monkeypatch.syspath_prepend(workplace)
    for text in [text for kind, text in BLOCKS if kind != "bash"][:2]:
        path = workplace / text.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    code, _, err = kdlab("train", "--config-dir", "conf", "loss=[ce,gap]", "+loss.gap.pover=2")
    assert code == 2 and "pover" in err and "power" in err and not Path("runs").exists()
