"""The wheel: complete, and it works from another directory."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_package_is_named():
    """pyproject.toml lists them by hand, since conf/ is mapped into the package."""
    tomllib = pytest.importorskip("tomllib", reason="part of Python 3.11 and later")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = set(settings["tool"]["setuptools"]["packages"])
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "kdlab").rglob("__init__.py")}
    assert named == found | {"kdlab.conf"}


def test_the_project_stands_alone():
    """Only what the layout allows stands at the top level."""
    listed = shutil.which("git") and subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if not listed or listed.returncode:
        pytest.skip("no git, or not a git checkout")
    tops = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {top for top in tops if not top.startswith(".")} <= {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "kdlab",
        "conf",
        "tests",
        "experiments",
        "notebooks",
    }


@pytest.mark.slow
def test_a_wheel_runs_from_another_directory(tmp_path):
    """Built, unpacked into an environment that sees this one's other packages, run elsewhere."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("kdlab-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    # the heavy packages of this environment, but not its kdlab: a wheel's conf/ must be found inside the package
    others = [path for path in map(Path, sys.path) if path.name == "site-packages"]
    (site / "others.pth").write_text("\n".join(map(str, others)))
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "kdlab", "train", "trainer.max_epochs=2"],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    where = subprocess.run(
        [python, "-c", "from kdlab.config.paths import conf_dir; print(conf_dir())"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert Path(where.stdout.strip()) == site / "kdlab" / "conf"
    assert done.stdout.strip().splitlines()[-1].startswith("runs/quickstart/")
