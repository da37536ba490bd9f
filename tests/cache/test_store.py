"""The folder of a cache: every file whole or absent, and never a wrong answer."""

import errno
import json
import os
import resource
import signal
import time
from dataclasses import replace

import pytest
import torch

from kdlab.cache import Contents, Damaged, Misfit, Store

CONTENTS = Contents(
    teacher={"run": "a"},
    weights="w",
    data={"_target_": "kdlab.data.Digits"},
    task={},
    normalisation="None",
    mode="views",
    augment_seed=1,
    rows=32,
    device="cpu, 1 threads",
    torch="2",
)
INDEX = torch.tensor([3, 5, 9])
VALUES = torch.tensor([[0.5, 1.0], [2.0, -1.0], [4.0, 3.0]])
OTHER = {
    "teacher": {"run": "b"},
    "weights": "v",
    "data": {"_target_": "kdlab.data.MNIST"},
    "task": {"_target_": "x"},
    "normalisation": "mean 0 and std 1",
    "mode": "fixed",
    "augment_seed": 2,
    "rows": 64,
    "device": "cuda",
    "torch": "3",
}


@pytest.fixture
def store(tmp_path):
    made = Store.of(tmp_path, "teacher/digits (seed 1)", CONTENTS)
    made.begin({"parameters": 7})
    made.write("train-e0-v0", "logits", INDEX, VALUES)
    return made


def again(store):
    return Store(store.path, CONTENTS)


def test_what_is_written_is_read(store):
    index, values = again(store).read("train-e0-v0", "logits")
    assert torch.equal(index, INDEX) and torch.equal(values, VALUES)
    assert again(store).facts == {"parameters": 7} and store.path.name.startswith("teacher-digits--seed-1-")
    assert again(store).read("train-e1-v0", "logits") is None and again(store).read("train-e0-v0", "stage1") is None
    assert store.missing("train-e0-v0", ["logits", "layer3.0.conv1"]) == ["layer3.0.conv1"]
    store.write("train-e0-v0", "layer3.0.conv1", INDEX, VALUES)
    assert store.missing("train-e0-v0", ["logits", "layer3.0.conv1"]) == [] and not list(store.path.glob("*.part"))


@pytest.mark.parametrize("name", OTHER)
def test_every_field_is_part_of_the_key(tmp_path, name):
    other = replace(CONTENTS, **{name: OTHER[name]})
    assert other.key != CONTENTS.key and other.differences(CONTENTS.as_record()) == [name]
    assert Store.of(tmp_path, "t", other).path != Store.of(tmp_path, "t", CONTENTS).path


def test_a_manifest_of_other_contents_is_refused(store):
    other = replace(CONTENTS, weights="another teacher's", augment_seed=4)
    with pytest.raises(Misfit, match=r"differs in weights, augment_seed \(there weights: \"w\"; augment_seed: 1\)"):
        Store(store.path, other)


def test_every_flipped_byte_is_found(store):
    """Of the data and of the manifest: damage is refused, or changes nothing of what is read."""
    (data,), manifest = store.files().values(), store.path / "manifest.json"
    for file in (data, manifest):
        whole = file.read_bytes()
        for place in range(len(whole)):
            for bit in (1, 128):
                file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
                try:
                    opened = again(store)
                    index, values = opened.read("train-e0-v0", "logits")
                except (Damaged, Misfit):
                    continue
                assert file == manifest, f"byte {place} of the data"
                assert torch.equal(index, INDEX) and torch.equal(values, VALUES) and opened.facts == {"parameters": 7}
        file.write_bytes(whole)
    assert torch.equal(again(store).read("train-e0-v0", "logits")[1], VALUES)


def test_a_file_cut_short_or_renamed_is_refused(store):
    (file,) = store.files().values()
    whole = file.read_bytes()
    for length in (0, 1, 8, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(Damaged, match="is damaged: its content does not fit its name; remove it with"):
            again(store).read("train-e0-v0", "logits")
    file.write_bytes(whole)
    file.rename(file.with_name(file.name.replace("e0", "e1")))  # the answers of another epoch
    with pytest.raises(Damaged, match="holds logits of train-e0-v0"):
        again(store).read("train-e1-v0", "logits")


def test_the_manifest_of_another_cache_is_refused(store, tmp_path):
    other = Store.of(tmp_path, "t", replace(CONTENTS, weights="v"))
    other.begin({"parameters": 9})
    (store.path / "manifest.json").write_bytes((other.path / "manifest.json").read_bytes())
    with pytest.raises(Misfit, match="differs in weights"):
        again(store)
    found = json.loads((other.path / "manifest.json").read_text())
    found["facts"]["parameters"] = 8
    (other.path / "manifest.json").write_text(json.dumps(found))
    with pytest.raises(Damaged, match="its checksum is not that of its content"):
        other.manifest()


def test_a_full_disk_leaves_nothing(store, monkeypatch):
    """Here the system refuses to write more than 64 bytes into a file."""
    before = sorted(store.path.iterdir())
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, old[1]))
    try:
        with pytest.raises(OSError) as caught:
            store.write("train-e1-v0", "logits", INDEX, VALUES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno in (errno.EFBIG, None) and sorted(store.path.iterdir()) == before


def _write_for_ever(path):
    store = Store(path, CONTENTS)
    number = 0
    while True:
        store.write(f"train-e{number}-v0", "logits", torch.arange(3000), torch.full((3000, 10), float(number)))
        number += 1


@pytest.mark.slow
def test_killed_while_writing(store, forked):
    """At ten moments: what is there is whole and right."""
    for moment in range(10):
        process = forked(_write_for_ever, store.path)
        deadline, before = time.monotonic() + 30, len(store.files())
        while len(store.files()) <= before + 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.0007 * moment)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found = again(store)
        assert len(found.files()) > 1
        for slot, name in found.files():
            index, values = found.read(slot, name)
            number = int(slot.split("-")[1][1:])
            if len(index) == 3000:
                assert (values == number).all()
        for path in found.files().values():
            if "train-e0" not in path.name:
                path.unlink()
