"""The wheel: complete, and it works from another directory. The dependencies: bounded from below."""

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from kdlab.config.missing import ELSEWHERE
from kdlab.config.signature import PACKAGES

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def settings() -> dict:
    """What pyproject.toml holds."""
    tomllib = pytest.importorskip("tomllib", reason="part of Python 3.11 and later")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def requirements(settings) -> dict[str, list[Requirement]]:
    """The requirements of other packages: those of a plain installation, of each extra and of a build."""
    project = settings["project"]
    groups = {"dependencies": project["dependencies"], **project["optional-dependencies"]}
    groups["build-system"] = settings["build-system"]["requires"]
    parsed = {group: [Requirement(line) for line in lines] for group, lines in groups.items()}
    return {group: [one for one in found if one.name != "kdlab"] for group, found in parsed.items()}


def test_every_package_is_named(settings):
    """pyproject.toml lists them by hand, since conf/ is mapped into the package."""
    named = set(settings["tool"]["setuptools"]["packages"])
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "kdlab").rglob("__init__.py")}
    assert named == found | {"kdlab.conf"}


def test_every_dependency_has_a_lower_bound(requirements):
    """Without one, a resolver may choose a version that never worked."""
    unbounded = [
        f"{group}: {one}"
        for group, found in requirements.items()
        for one in found
        if not any(clause.operator in (">=", "~=", "==") for clause in one.specifier)
    ]
    assert not unbounded, unbounded


def test_a_package_named_twice_has_the_same_bounds(requirements):
    """tensorboard is in an extra of its own and in dev."""
    bounds: dict[str, set[str]] = {}
    for found in requirements.values():
        for one in found:
            bounds.setdefault(one.name, set()).add(str(one.specifier))
    assert not {name: found for name, found in bounds.items() if len(found) > 1}


def test_what_messages_tell_to_install_is_in_the_extras(requirements):
    """Except launchers and sweepers of other projects, which are listed by name."""
    named = {one.name for found in requirements.values() for one in found}
    told = set(PACKAGES)
    for folder, pattern in (("kdlab", "*.py"), ("kdlab", "*.md"), ("conf", "*.yaml"), ("experiments", "*.md")):
        for path in (ROOT / folder).rglob(pattern):
            for names in re.findall(r"pip install ((?:[a-z][\w-]* ?)+)", path.read_text(encoding="utf-8")):
                told.update(names.split())
    assert {"timm", "torchvision", "optuna", "ray", "submitit", "hydra-joblib-launcher"} <= told
    assert told <= named | set(ELSEWHERE.values()), told - named


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
