"""A teacher that reads its answers: equal to the live one, or live."""

import threading
import warnings

import pytest
import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.cache import Cached, Contents, Store, fill
from kdlab.cache.filling import check_room, difference
from kdlab.cache.store import CannotKeep
from kdlab.data import Augment, Digits
from kdlab.errors import InputError
from kdlab.tasks import Classification
from kdlab.teachers import Ensemble, Frozen

TASK = Classification(classes=10)
CONTENTS = Contents({}, "w", {}, {}, "", "views", 1, 32, "cpu, 1 threads", torch.__version__)


class Counting(nn.Sequential):
    """A network that counts how often it is called."""

    calls = 0

    def forward(self, inputs):
        Counting.calls += 1
        return super().forward(inputs)


def network():
    torch.manual_seed(3)
    return Counting(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def digits(**options):
    data = Digits(batch_size=32, validation=0.2, **options)
    data.seed = 5
    data.setup()
    return data


@pytest.fixture
def made(tmp_path):
    def make(fixed=False, **more):
        loads = []

        def load():
            loads.append(1)
            return Frozen(network(), TASK, {"hidden": "1"})

        return Cached(load, Store.of(tmp_path, "t", CONTENTS), fixed), loads

    return make


def batches(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_the_answers_of_every_epoch_and_view_are_those_of_the_live_teacher(made):
    data = digits(augment=Augment(crop_padding=1, flip=0.5))
    data.views = 2
    teacher, _ = made()
    teacher.watch(["hidden"])
    filled = fill(teacher, data, "train", epochs=3, views=2, rows=32)
    assert (filled.wanted, filled.computed) == (6, 6)
    live = Frozen(network(), TASK, {"hidden": "1"})
    live.watch(["hidden"])
    again, loads = made()
    again.watch(["hidden"])
    different = []
    for epoch in range(3):
        for batch in batches(data, epoch):
            for view in (0, 1):
                mine, theirs = again.teach(batch.view(view)), live.teach(batch.view(view))
                assert torch.equal(mine.logits, theirs.logits)
                assert torch.equal(mine.features["hidden"], theirs.features["hidden"])
                assert not mine.logits.requires_grad
        different.append(mine.logits)
    assert loads == [] and not torch.equal(different[0], different[1])
    assert again.parameter_count == 64 * 16 + 16 + 16 * 10 + 10 and again.aliases == {"hidden": "1"}
    assert again.normalisations == [] and loads == []
    assert again.network is again.live.network and loads == [1]
    assert difference(made()[0], data) == (12, 0.0)


def test_fixed_answers_are_asked_once_for_all_epochs(made):
    data = digits()
    teacher, _ = made(fixed=True)
    Counting.calls = 0
    assert fill(teacher, data, "train", epochs=50, rows=32).computed == 1
    passes = Counting.calls
    assert passes == -(-len(data.part("train")) // 32)
    assert torch.equal(teacher.store.read("train", "logits")[0], data.part("train")), "each sample once"
    live = Frozen(network(), TASK)
    for epoch in (0, 49):
        assert all(torch.equal(teacher.teach(one).logits, live.teach(one).logits) for one in batches(data, epoch))
    assert fill(teacher, data, "train", epochs=50, rows=32).computed == 0


def test_validation_and_test(made):
    data = digits()
    teacher, _ = made(fixed=True)
    live = Frozen(network(), TASK)
    for split, loader in (("validation", data.val_dataloader()), ("test", data.test_dataloader())):
        fill(teacher, data, split, rows=32)
        for batch in loader:
            assert torch.equal(teacher.teach(batch).logits, live.teach(batch).logits)
    assert teacher.store.missing("validation", ["logits"]) == teacher.store.missing("test", ["logits"]) == []


def test_the_network_draws_no_random_numbers_of_the_run(made):
    teacher, loads = made()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    _ = teacher.live
    assert loads == [1] and torch.equal(torch.rand(3), expected)


def test_what_is_missing_is_asked_of_the_live_teacher(made):
    data = digits(augment=Augment(flip=0.5))
    teacher, _ = made()
    fill(teacher, data, "train", epochs=1, rows=32)
    live = Frozen(network(), TASK)
    (batch, *_) = batches(data, 1)  # an epoch that was not kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(teacher.teach(batch).logits, live.teach(batch).logits)
    one = batches(data)[0]
    mixed = one.replace(inputs=one.inputs / 2, partner_target=one.target, share=torch.full((32,), 0.5))
    assert torch.equal(teacher.teach(mixed).logits, live.teach(mixed).logits)
    (held_out,) = list(data.val_dataloader())[:1]
    stray = held_out.replace(split="train", epoch=0)  # samples that the training split does not have
    with pytest.warns(UserWarning, match="no answers to some samples of train-e0-v0. The teacher is asked instead"):
        assert torch.equal(teacher.teach(stray).logits, live.teach(stray).logits)


def test_a_cache_that_is_deleted_or_damaged_during_a_run(made):
    data = digits(augment=Augment(flip=0.5))
    teacher, _ = made()
    fill(teacher, data, "train", epochs=2, rows=32)
    live = Frozen(network(), TASK)
    for path in teacher.store.files().values():
        if path.name.startswith("train-e1"):
            path.unlink()
    with pytest.warns(UserWarning, match="the logits of train-e1-v0 are not there any more"):
        assert all(torch.equal(teacher.teach(one).logits, live.teach(one).logits) for one in batches(data, 1))
    again, _ = made()
    (path,) = again.store.files().values()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.warns(UserWarning, match="is damaged"):
        assert all(torch.equal(again.teach(one).logits, live.teach(one).logits) for one in batches(data, 0))
    lines = []
    third, _ = made()
    assert fill(third, data, "train", epochs=1, rows=32, say=lines.append).computed == 1
    assert len(lines) == 1 and lines[0].endswith("is damaged; its answers are computed again")
    assert torch.equal(third.teach(batches(data, 0)[0]).logits, live.teach(batches(data, 0)[0]).logits)


def test_two_writers_share_the_work(made):
    data = digits(augment=Augment(flip=0.5))
    data.part("train")
    both = [made()[0], made()[0]]
    for one in both:
        _ = one.live
    results = []
    threads = [
        threading.Thread(target=lambda one=one: results.append(fill(one, data, "train", epochs=8, rows=32)))
        for one in both
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.computed for one in results) == 8 and len(both[0].store.files()) == 8
    live = Frozen(network(), TASK)
    for epoch in range(8):
        batch = batches(data, epoch)[0]
        assert torch.equal(made()[0].teach(batch).logits, live.teach(batch).logits)


def test_a_further_tap_keeps_the_logits(made):
    data = digits()
    teacher, _ = made(fixed=True)
    fill(teacher, data, "train", rows=32)
    before = {name for _, name in teacher.store.files()}
    again, loads = made(fixed=True)
    again.watch(["hidden"])
    assert loads == [1], "only the network knows whether it has this tap"
    assert fill(again, data, "train", rows=32).computed == 1
    assert before == {"logits"} and {name for _, name in again.store.files()} == {"logits", "hidden"}
    with pytest.raises(InputError, match="no 'hiden'|hiden"):
        made(fixed=True)[0].watch(["hiden"])


def test_a_loaded_teacher_can_be_given_other_taps(made):
    data = digits()
    teacher, loads = made(fixed=True)
    assert teacher.teach(batches(data)[0]).features == {} and loads == [1]
    teacher.watch(["hidden"])
    assert set(teacher.teach(batches(data)[0]).features) == {"hidden"} and loads == [1]


def test_an_ensemble_of_cached_members(made, tmp_path):
    data = digits()
    members = {
        name: Cached(lambda: Frozen(network(), TASK), Store.of(tmp_path, name, CONTENTS), True) for name in ("a", "b")
    }
    for one in members.values():
        fill(one, data, "train", rows=32)
    live = Ensemble({name: Frozen(network(), TASK) for name in members}, "probabilities")
    batch = batches(data)[0]
    assert torch.equal(Ensemble(members, "probabilities").teach(batch).logits, live.teach(batch).logits)


def test_no_room(made):
    data = digits(augment=Augment(flip=0.5))
    teacher, _ = made()
    needed = 4 * 10 * len(data.part("train")) * 5
    check_room(teacher, data, epochs=5, views=1, limit=needed)
    with pytest.raises(CannotKeep, match=r"would take 0.2 MB, more than teacher.cache_gb=0.0001; \+teacher.cache_gb=1"):
        check_room(teacher, data, epochs=5, views=1, limit=1e5)


class Sequences(nn.Module):
    def forward(self, inputs):
        return inputs.flatten(1)[:-1]


def test_answers_that_are_not_one_a_sample(tmp_path):
    data = digits()
    teacher = Cached(lambda: Frozen(Sequences(), TASK), Store.of(tmp_path, "t", CONTENTS), True)
    with pytest.raises(CannotKeep, match="logits has 31 entries for 32 samples"):
        fill(teacher, data, "train", rows=32)
    assert not teacher.store.files()


def test_a_batch_names_the_place_of_its_answers(made):
    teacher, _ = made()
    batch = Batch(torch.zeros(2, 1), None, torch.arange(2), epoch=4, further_views=(torch.zeros(2, 1),))
    assert teacher.slot_of(batch) == "train-e4-v0" and teacher.slot_of(batch.view(1)) == "train-e4-v1"
    assert teacher.slot_of(batch.replace(split="test")) == "test"
    assert made(fixed=True)[0].slot_of(batch.view(1)) == "train"
