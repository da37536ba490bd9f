"""What .ci/run relies on: the time limit of the slow tests, and no skip for want of an extra."""

import re
import subprocess
import sys
from pathlib import Path

from budget import rotation
from required import missing

ROOT = Path(__file__).parents[1]

CONFTEST = """
import sys
sys.path.insert(0, {tests!r})
from budget import Budget
from required import Required

now = [0.0]

def pytest_configure(config):
    if {minutes}:
        config.pluginmanager.register(Budget({minutes}, {commit!r}, clock=lambda: now[0]))
    config.pluginmanager.register(Required())

def pytest_runtest_call(item):
    now[0] += 60
"""


def run(
    folder: Path, counts: dict[str, int], minutes: float, commit: str = "abc", *options: str
) -> tuple[int, str, list[str]]:
    """Run tests that take a minute each by the plugin's clock; exit code, output, and the tests that ran."""
    (folder / "conftest.py").write_text(CONFTEST.format(tests=str(ROOT / "tests"), minutes=minutes, commit=commit))
    for name, number in counts.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / f"test_{name}.py").write_text("\n".join(f"def test_{one}(): pass" for one in range(number)))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-v",
            "-p",
            "no:cacheprovider",
            "--continue-on-collection-errors",
            "--rootdir",
            folder,
            *options,
            folder,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, re.findall(r"^(\S+) PASSED", done.stdout, re.MULTILINE)


def test_time_is_shared_by_the_folders(tmp_path):
    """6 minutes for 1, 4 and 9 tests of a minute: the small folder leaves a minute, which the others share."""
    code, out, ran = run(tmp_path, {"large": 9, "medium": 4, "small": 1}, minutes=6)
    counts = {name: sum(f"{name}/" in one for one in ran) for name in ("small", "medium", "large")}
    assert (code, counts) == (0, {"small": 1, "medium": 3, "large": 2})
    assert "8 tests were not run: out of time" in out and "medium: 1" in out and "large: 7" in out
    assert sum(line.startswith("    large/test_large.py::test_") for line in out.splitlines()) == 7


def test_a_folder_whose_tests_are_left_out_has_no_share(tmp_path):
    """As by -m slow: the 4 minutes are for the two others."""
    code, out, ran = run(tmp_path, {"aa": 1, "bb": 2, "cc": 2}, 4, "abc", "-k", "not aa")
    assert code == 0 and len(ran) == 4 and "not run" not in out


def test_a_folder_that_was_not_reached_fails_the_run(tmp_path):
    code, out, ran = run(tmp_path, {"a": 1, "b": 1, "c": 2}, minutes=0.5)
    assert code == 1 and len(ran) == 1 and "c: 2 (NO test of this folder was run)" in out


def test_the_commit_chooses_the_first_test(tmp_path):
    firsts = {run(tmp_path, {"a": 4}, minutes=1, commit=commit)[2][0] for commit in ("1", "2", "3", "4", "5", "6")}
    assert (
        firsts == {f"a/test_a.py::test_{rotation(commit, 'a', 4)}" for commit in ("1", "2", "3", "4", "5", "6")}
        and len(firsts) > 1
    )


def test_with_enough_time_everything_runs(tmp_path):
    code, out, ran = run(tmp_path, {"a": 2, "b": 3}, minutes=60)
    assert code == 0 and len(ran) == 5 and "not run" not in out


def test_a_skip_for_want_of_a_module_fails(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "test_whole.py").write_text("import pytest\npytest.importorskip('no_such_module')")
    (tmp_path / "m" / "test_one.py").write_text(
        "import pytest\ndef test_one(): pytest.importorskip('no_such_module')\ndef test_two(): pytest.skip('other')"
    )
    code, out, _ = run(tmp_path, {}, minutes=0)
    # a summary may repeat the reasons, whole or cut short: by the width of the screen and by the variable CI
    assert code in (1, 2) and "KDLAB_REQUIRE forbids to skip it" in out
    assert re.search(r"\b1 failed, 1 skipped, 1 error\b", out)


def test_extras_are_checked_by_name():
    assert (
        missing(["nonsense"])[0].startswith("KDLAB_REQUIRE: pyproject.toml has no extra 'nonsense'")
        and missing([]) == []
    )
