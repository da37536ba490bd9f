"""Finished runs are recognised without their hash only where nothing has changed that the hash depends on."""

import os
import shutil

import kdlab as package
from kdlab.config.compose import compose
from kdlab.runs import known

SHORT = ["strategy=supervised", "trainer.max_epochs=1", "progress=none"]


def test_a_finished_run_is_known_by_any_spelling_of_its_numbers(workplace):
    run = package.train(SHORT)
    assert known.finished(compose(SHORT)).path == run.path
    assert (
        known.finished(compose([*SHORT, "data.fraction=1"])).path == run.path
        and known.finished(compose([*SHORT, "seed=2"])) is None
    )
    run.update(status="failed")
    assert known.finished(compose(SHORT)) is None, "the note says the hash, the run says whether it is finished"
    shutil.rmtree(run.path)
    assert known.finished(compose(SHORT)) is None


def test_how_answers_are_kept_does_not_count():
    """A sweep decides it after the key was taken, and the note must be found by what was typed."""
    keys = {known.key_of(compose([f"teacher.cache={mode}"])) for mode in ("auto", "live", "fixed", "views")}
    assert len(keys) == 1 and None not in keys
    assert known.key_of(compose(["+teacher.cache_gb=3"])) in keys and known.key_of(compose(["seed=2"])) not in keys


def test_a_changed_file_is_noticed(workplace, taught):
    shutil.copytree(taught.path, workplace / "mine")
    overrides = [
        "teacher=checkpoint",
        "teacher.checkpoint=mine/checkpoints/last.ckpt",
        "trainer.max_epochs=1",
        "progress=none",
    ]
    run = package.train(overrides)
    assert known.finished(compose(overrides)).path == run.path
    os.utime("mine/checkpoints/last.ckpt", (1, 1))
    assert known.finished(compose(overrides)) is None


def test_what_changed_while_the_run_was_trained_leaves_no_note(workplace):
    """The key of the beginning is not that of the end."""
    (workplace / "data").mkdir()
    config = compose([*SHORT, "data=fashion_mnist"])
    key = known.key_of(config)
    known.note(config, "0" * 16, key)
    assert list((workplace / "runs" / known.FOLDER).iterdir())
    shutil.rmtree(workplace / "runs")
    (workplace / "data" / "new").write_text("")
    known.note(config, "0" * 16, key)
    assert not (workplace / "runs").exists()


def test_folders_that_cannot_be_seen_through_leave_no_key(workplace):
    (workplace / "data").mkdir()
    config = compose([*SHORT, "data=fashion_mnist"])
    assert known.key_of(config) is not None
    (workplace / "data" / ".#lock").symlink_to("nowhere")
    assert known.key_of(config) is None
    (workplace / "data" / ".#lock").unlink()
    (workplace / "elsewhere").mkdir()
    (workplace / "data" / "a").symlink_to(workplace / "elsewhere")
    assert known.key_of(config) is None


def test_classes_of_the_users_own_leave_no_key(workplace):
    assert known.key_of(compose([*SHORT, "strategy._target_=tests.sweep.trouble.Unlucky"])) is None
