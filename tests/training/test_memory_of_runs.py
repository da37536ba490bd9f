"""Runs in a loop: what a run has left is freed before the next one, if it is large."""

import gc
import weakref

import kdlab
from kdlab.data import Digits, TextFiles
from kdlab.training import memory
from tests.data.text.texts import options, text_file

SHORT = ["strategy=supervised", "teacher=none", "loss=[ce]", "trainer.max_epochs=1"]


def test_a_loop_over_runs_holds_one_large_data_set(workplace, monkeypatch):
    made = []
    read = Digits.read
    monkeypatch.setattr(Digits, "read", lambda self: made.append(weakref.ref(self)) or read(self))
    monkeypatch.setattr(memory, "LARGE", 1000)
    gc.collect()
    gc.disable()  # so that it is not Python's own search
    try:
        alive = []
        for seed in range(4):
            kdlab.train([*SHORT, f"seed={seed}"], quiet=True)
            alive.append(sum(one() is not None for one in made))
    finally:
        gc.enable()
    assert len(made) >= 4 and alive[-1] == alive[-2] < len(made)


def test_a_search_only_where_large_data_are_left(monkeypatch):
    searched, data = [], Digits()
    monkeypatch.setattr(memory.gc, "collect", lambda: searched.append(1))
    data.setup()
    for large, count in ((data.stored_bytes() + 1, 0), (data.stored_bytes(), 1)):
        monkeypatch.setattr(memory, "LARGE", large)
        memory.note_end(data)
        memory.give_back()
        memory.give_back()
        assert len(searched) == count
    memory.note_end(data)
    del data
    memory.give_back()
    assert len(searched) == 1, "it is freed already"


def test_stored_bytes_of_images():
    data = Digits()
    assert data.stored_bytes() == 0, "it is not read"
    data.setup()
    stored = 1797 * (64 * data._both()[0].inputs.element_size() + 8)
    assert data.stored_bytes() == stored
    next(iter(data.test_dataloader()))
    assert data.stored_bytes() == stored + len(data._both()[1].target) * 64 * 4, "the prepared inputs of test"


def test_stored_bytes_of_texts(tmp_path):
    """60 texts: their ends, labels and places in the file take 8 bytes each, and each token 4."""
    data = TextFiles(text_file(tmp_path / "t.tsv"), **options(tmp_path))
    data.setup()
    tokens = sum(int(split.tokens.ids.ends[-1]) for split in data._both())
    found = data.stored_bytes()
    assert found - 4 * tokens - 60 * (8 + 8 + 8) in (0, 60 * 8), "with the lengths, once they are known"
