"""What is looked up of an installation is looked up once per process, and in the warm parent for all its jobs."""

import importlib
import subprocess

import pytest

from kdlab.launch.processes import PRELOAD
from kdlab.runs import record
from kdlab.training import warm


@pytest.fixture
def afresh():
    """Nothing is looked up yet; afterwards, what was looked up in the test is forgotten."""
    caches = (record.code, record.checkout_of_kdlab, record._version)
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


def repository(folder) -> str:
    """A repository with a commit; returns its name."""
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("1")
    for words in (
        "init -q",
        "add file",
        "-c user.name=a -c user.email=a@b.c -c commit.gpgsign=false commit -q -m first",
    ):
        subprocess.run(["git", "-C", str(folder), *words.split()], check=True)
    return subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_is_that_of_kdlabs_checkout_before_that_of_the_working_directory(afresh, tmp_path, monkeypatch):
    own, theirs = repository(tmp_path / "kdlab"), repository(tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("kdlab.__file__", str(tmp_path / "kdlab" / "kdlab" / "__init__.py"))
    assert (record.code()["commit"], record.code()["dirty"]) == (own, False)
    for one in (record.code, record.checkout_of_kdlab):
        one.cache_clear()
    monkeypatch.setattr("kdlab.__file__", str(tmp_path / "installed" / "kdlab" / "__init__.py"))
    (tmp_path / "work" / "file").write_text("2")
    assert (record.code()["commit"], record.code()["dirty"]) == (theirs, True)


def test_without_any_checkout_there_is_no_commit(afresh, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kdlab.__file__", str(tmp_path / "kdlab" / "__init__.py"))
    assert record.code() == {"kdlab": record.code()["kdlab"], "commit": None, "dirty": None}


def test_the_warm_parent_looks_up_what_its_jobs_record(afresh, monkeypatch):
    assert warm.__name__ in PRELOAD
    importlib.reload(warm)
    monkeypatch.setattr("kdlab.runs.record.metadata.version", lambda name: pytest.fail("it is looked up again"))
    monkeypatch.setattr(record, "_git", lambda *words: pytest.fail("git is asked again"))
    assert list(record.versions()) == ["python", *record.PACKAGES]
    assert record.checkout_of_kdlab() is record.checkout_of_kdlab()


def test_a_package_that_is_not_installed_has_no_version(afresh, monkeypatch):
    monkeypatch.setattr(record, "PACKAGES", ("torch", "no-such-package"))
    assert list(record.versions()) == ["python", "torch", "no-such-package"]
    assert record.versions()["no-such-package"] is None


def test_what_a_caller_changes_of_the_versions_stays_with_it():
    record.versions()["torch"] = "0"
    assert record.versions()["torch"] != "0"
