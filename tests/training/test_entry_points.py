"""Lightning's search for callbacks of other packages is made once for all Trainers of a process."""

import sys
from importlib import metadata

import lightning as L
import pytest
from lightning.fabric.utilities import registry
from lightning.pytorch.callbacks import Timer

from kdlab.training import entry_points
from kdlab.training.entry_points import found_once

INFO = {"METADATA": "Metadata-Version: 2.1\nName: timed\nVersion: 1\n", "RECORD": ""}


def trainer() -> L.Trainer:
    return L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")


def timers() -> list[Timer]:
    with found_once():
        return [one for one in trainer().callbacks if isinstance(one, Timer)]


def made() -> Timer:
    """The factory of callbacks of the package below."""
    return Timer()


@pytest.fixture
def searches(monkeypatch):
    """The groups of entry points that were searched for in all packages."""
    found = []
    entry_points._found.cache_clear()
    original = metadata.entry_points

    def searched(**wanted):
        found.append(wanted)
        return original(**wanted)

    monkeypatch.setattr(metadata, "entry_points", searched)
    monkeypatch.setattr(registry, "entry_points", searched)
    yield found
    entry_points._found.cache_clear()


def test_it_is_made_once(searches):
    before = registry.entry_points
    assert timers() == timers() == []
    assert searches == [{"group": entry_points.GROUP}]
    assert registry.entry_points is before
    trainer()  # outside of the context as ever
    assert len(searches) == 2


def test_what_was_looked_up_before_is_not_searched_for(searches):
    entry_points.look_up()
    timers()
    assert len(searches) == 1


def test_a_package_that_is_installed_later_is_found_and_each_trainer_has_its_own_callback(
    searches, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert timers() == []
    folder = tmp_path / "timed-1.dist-info"
    folder.mkdir()
    for name, text in INFO.items():
        (folder / name).write_text(text)
    (folder / "entry_points.txt").write_text(f"[{entry_points.GROUP}]\ntimed = tests.training.test_entry_points:made\n")
    (first,), (second,) = timers(), timers()
    assert first is not second
    assert len(searches) == 2


def test_another_lightning_searches_itself(monkeypatch):
    def own(**wanted):
        return ()

    monkeypatch.setattr(registry, "entry_points", own)
    with found_once():
        assert registry.entry_points is own
