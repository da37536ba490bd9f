"""How answers are stored: the codecs, and runs whose answers are rounded."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from kdlab import train
from kdlab.cache import Cached, Contents, Store, fill
from kdlab.cache.codec import CODECS, VALUES, Codec
from kdlab.cache.contents import json_digest
from kdlab.cache.filling import check_room, difference
from kdlab.cache.store import CannotKeep
from kdlab.config.check import check
from kdlab.config.compose import compose
from kdlab.config.forms import CACHE_DTYPES
from kdlab.config.quoting import value_text
from kdlab.data import Augment, Digits
from kdlab.errors import InputError
from kdlab.runs.identity import run_hash
from kdlab.sweep.job import TRAINED, Job, Outcome
from kdlab.sweep.sharing import saved
from kdlab.tasks import Classification
from kdlab.teachers import Frozen

TASK = Classification(classes=10)
CONTENTS = Contents({}, "w", {}, {}, "", "views", 1, 32, "cpu, 1 threads", torch.__version__)
SHORT = ["trainer.max_epochs=1", "progress=none", "data.augment.flip=0.5"]


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def made(folder, dtype, build=network):
    store = Store.of(folder, "t", replace(CONTENTS, dtype=dtype))
    return Cached(lambda: Frozen(build(), TASK, {"hidden": "1"}), store, False)


def digits():
    data = Digits(batch_size=32, validation=0.2, augment=Augment(flip=0.5))
    data.seed = 5
    data.setup()
    return data


def test_every_type_that_the_config_takes_has_a_codec():
    assert tuple(CODECS) == CACHE_DTYPES and [name for name, one in CODECS.items() if one.exact] == ["float32"]
    assert all(one.name == name for name, one in CODECS.items())


@pytest.mark.parametrize(("name", "bound"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_the_error_of_rounding(name, bound):
    values = torch.randn(1000, 10, generator=torch.Generator().manual_seed(1)) * 20
    read = CODECS[name].read_back(values)
    error = ((read - values) / values).abs()[values.abs() > 1e-4].max().item()
    assert read.dtype == torch.float32 and bound / 2 < error <= bound
    assert torch.equal(CODECS[name].read_back(read), read), "rounded once is rounded"
    assert CODECS[name].read_back(torch.tensor([3, 70001])).tolist() == [3, 70001], "whole numbers stay"
    special = torch.tensor([float("inf"), -float("inf"), float("nan"), 0.0])
    assert torch.equal(CODECS[name].read_back(special).nan_to_num(), special.nan_to_num())


def test_the_exact_codec_copies_nothing():
    values = torch.randn(4)
    assert CODECS["float32"].encode(values)[VALUES] is CODECS["float32"].read_back(values) is values


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [("float16", 7e4, "bfloat16"), ("float16", -7e4, "bfloat16"), ("bfloat16", 3.4e38, "float32")],
)
def test_a_value_that_becomes_infinite_is_refused(name, value, cure):
    for values in (torch.tensor([1.0, value]), torch.tensor([float("inf"), value])):
        with pytest.raises(
            CannotKeep, match=f"teacher.cache_dtype={name}: .* reach {abs(value):.4g}, .*={cure}$".replace("+", r"\+")
        ):
            CODECS[name].encode(values)
    assert CODECS["float16"].encode(torch.tensor([65504.0]))[VALUES].item() == 65504


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_what_is_read_is_what_the_rounded_live_teacher_gives(tmp_path, name):
    """Logits and taps, from the store and, where it has nothing, from the network."""
    data, live = digits(), Frozen(network(), TASK, {"hidden": "1"})
    exact, teacher = made(tmp_path, "float32"), made(tmp_path, name)
    for one in (live, exact, teacher):
        one.watch(["hidden"])
    whole, half = (fill(one, data, "train", epochs=1, rows=32).written for one in (exact, teacher))
    samples = len(data.part("train"))
    assert whole - half == pytest.approx(2 * 26 * samples, abs=64), "two bytes a value less: 10 logits, 16 features"
    batch = list(data.train_dataloader())[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read, asked = teacher.teach(batch), live.teach(batch)
    assert read.logits.dtype == torch.float32 and not torch.equal(read.logits, asked.logits)
    assert torch.equal(read.logits, CODECS[name].read_back(asked.logits))
    assert torch.equal(read.features["hidden"], CODECS[name].read_back(asked.features["hidden"]))
    empty = made(tmp_path / "empty", name)
    empty.watch(["hidden"])
    again = empty.teach(batch)
    assert torch.equal(again.logits, read.logits) and torch.equal(again.features["hidden"], read.features["hidden"])
    assert difference(made(tmp_path, name), data) == (2, 0.0) == difference(made(tmp_path, "float32"), data)


def test_the_type_is_part_of_the_key_and_older_caches_keep_theirs():
    keys = {replace(CONTENTS, dtype=name).key for name in CODECS}
    record = CONTENTS.as_record()
    assert len(keys) == 3 and "dtype" not in record and CONTENTS.key == json_digest(record)[:16]
    half = replace(CONTENTS, dtype="float16")
    assert half.differences(record) == CONTENTS.differences(half.as_record()) == ["dtype"]


def test_the_type_counts_in_the_hash_of_a_run():
    hashes = [
        run_hash(compose(["teacher.cache=views", *([f"teacher.cache_dtype={name}"] if name else [])]))
        for name in ("", *CODECS)
    ]
    assert hashes[0] == hashes[1] == run_hash(compose([])) and len(set(hashes)) == 3
    ensemble = ["teacher=ensemble", "teacher.cache=fixed"]
    assert run_hash(compose([*ensemble, "teacher.cache_dtype=float16"])) != run_hash(compose(ensemble))


@pytest.mark.parametrize("mode", ["auto", "live"])
def test_rounding_needs_answers_that_are_kept(mode):
    message = f"teacher.cache_dtype=float16 rounds answers that are kept, and teacher.cache={mode} need not keep any"
    with pytest.raises(InputError, match=message):
        check(compose([f"teacher.cache={mode}", "teacher.cache_dtype=float16"]))


def test_room_is_that_of_the_stored_type(tmp_path):
    data = digits()
    needed = 10 * len(data.part("train")) * 5
    check_room(made(tmp_path, "float16"), data, epochs=5, views=1, limit=2 * needed)
    with pytest.raises(CannotKeep, match="would take"):
        check_room(made(tmp_path, "float32"), data, epochs=5, views=1, limit=2 * needed)


def state(run):
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def test_a_run_of_rounded_answers(workplace, taught, monkeypatch):
    """Its record names the type, and the run is the same where its answers are lost before it reads them."""
    teacher = ["teacher=run", f"teacher.run={taught.path}", "teacher.cache=views"]
    kept = train([*SHORT, *teacher, "teacher.cache_dtype=bfloat16", "name=kept"])
    monkeypatch.setattr(Cached, "_opened", lambda self, slot: None)
    lost = train([*SHORT, *teacher, "teacher.cache_dtype=bfloat16", "name=lost"])
    exact = train([*SHORT, *teacher, "name=exact"])
    assert [one.record["cache"]["dtype"] for one in (exact, kept, lost)] == ["float32", "bfloat16", "bfloat16"]
    assert kept.hash == lost.hash != exact.hash
    assert all(torch.equal(value, state(lost)[name]) for name, value in state(kept).items())
    far = max((value - state(exact)[name]).abs().max().item() for name, value in state(kept).items())
    assert 0 < far < 0.05, "logits of 2^-8 relative error move the weights a little"
    job = Job("0", [], kept.config, kept.hash)
    line = saved([Outcome(job, TRAINED, kept.path)])
    assert line.startswith("teacher's answers (rounded to bfloat16): 1 runs needed 1 passes over the training samples")


def test_logits_that_float16_cannot_hold_are_refused_before_the_run(workplace, taught):
    content = {name.removeprefix("student."): value for name, value in state(taught).items()}
    last = list(content)[-2:]
    content |= {name: content[name] * 1e4 for name in last}
    torch.save(content, "large.pt")
    node = json.loads(json.dumps(taught.network_config("last")))
    given = ["teacher.checkpoint=large.pt", f"+teacher.network={value_text(node)}", "teacher.cache=views"]
    message = "teacher.cache_dtype=float16: the teacher's values reach .*; teacher.cache_dtype=bfloat16"
    with pytest.raises(InputError, match=message):
        train([*SHORT, "teacher=checkpoint", *given, "teacher.cache_dtype=float16"])
    assert not (workplace / "runs" / "quickstart").exists()


class Largest(Codec):
    """The two largest values of a sample and their places, as a codec for large vocabularies may keep them."""

    name = "largest"

    def encode(self, values):
        top = values.topk(2, dim=-1)
        return {"top": top.values.half(), "places": top.indices.to(torch.uint8)}

    def decode(self, stored):
        filled = torch.full((len(stored["top"]), 10), -1e4)
        return filled.scatter(1, stored["places"].long(), stored["top"].float())


def test_a_codec_may_store_several_tensors(tmp_path, monkeypatch):
    monkeypatch.setitem(CODECS, "largest", Largest())
    data, teacher = digits(), made(tmp_path, "largest")
    fill(teacher, data, "train", epochs=1, rows=32)
    batch = list(data.train_dataloader())[0]
    found = teacher.teach(batch).logits
    live = Frozen(network(), TASK).teach(batch).logits
    assert (found > -1e4).sum(1).tolist() == [2] * 32 and torch.equal(found.argmax(1), live.argmax(1))
    assert torch.equal(
        teacher.store.read("train-e0-v0", "logits")[1][:3],
        teacher.rounded(Frozen(network(), TASK).teach(data.in_order("train").batch(data.part("train")[:3]))).logits,
    )
