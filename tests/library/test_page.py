"""The page on the library is followed to the letter."""

import re
import shlex
from pathlib import Path

import pytest
import torch

import kdlab as package
from kdlab.functional import hinton_kd
from kdlab.library.recipes import recipe

ROOT = Path(package.__file__).parents[1]
PAGE = (ROOT / "kdlab" / "library" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|bash)\n(.*?)```", PAGE, re.DOTALL)


def test_the_page(kdlab, workplace, capsys):
    """Each block with the names of those before it."""
    names: dict = {}
    students = []
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "library", "exec"), names)
        for line in text.strip().splitlines() if kind == "bash" else ():
            code, out, err = kdlab(*shlex.split(line)[1:])
            assert code == 0 and "kd1" in out or "offline ce+kd" in out, err
        if "made" in names and not students:
            assert names["made"].metrics["test/accuracy"] > 0.5 and len(names["made"].curve) == 10
            students.append(names["made"].student)
    assert set(names["made"].networks) == {"student", "wide"}
    assert names["run"].metrics["test/accuracy"] > 0.3
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(9))
    assert hinton_kd(x, x, temperature=4).abs().max() < 1e-6


def test_the_three_ways_by_hand_are_one(kdlab, workplace):
    """The parts by hand and a LightningModule of one's own step by the same losses: the same weights up to rounding."""
    names: dict = {}
    by_hand = [text for kind, text in BLOCKS if kind == "python"]
    first, last = by_hand[0].split("teacher = network")[0], [text for text in by_hand if "L.Trainer" in text]
    exec(first.replace("shuffle=True", "shuffle=False"), names)
    names["teacher"] = names["network"](64, 1)
    for text in last:
        exec(text, names)
    for one, other in zip(names["strategy"].student.parameters(), names["mine"].student.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert not torch.equal(names["network"](6, 2)[0].weight, names["mine"].student[0].weight)


@pytest.mark.parametrize("name", ["loss", "strategy", "optimizer", "scheduler"])
def test_the_table_of_arguments(name):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    named, options = (cell.strip(" `") for cell in row.split("|")[2:4])
    for value in (eval(named), eval(options)):
        made = recipe(**{name: value})
        wanted = [value] if isinstance(value, str) else list(value)
        assert all(
            one in made.config[name] if name == "loss" else one == made.config["choices"][name] for one in wanted
        )
