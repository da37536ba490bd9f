"""Loaders of one's own: what a batch may be, the numbers of samples, workers, random numbers."""

import functools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, Subset, TensorDataset

import kdlab
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.library import Batches, prepared
from kdlab.library.loaders import UNKNOWN
from kdlab.library.numbering import labels_of

from .problem import ROWS, loader, network, samples, staged, states_equal

X, Y = samples()
FIRST = X[:16], Y[:16]


class ByMapping(nn.Module):
    """A network with two named inputs."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, left, right):
        return self.inner(torch.cat([left, right], 1))


class Mappings(Dataset):
    def __len__(self):
        return ROWS

    def __getitem__(self, number):
        return {"left": X[number, :4], "right": X[number, 4:], "labels": Y[number]}


class Stream(IterableDataset):
    def __len__(self):
        return ROWS

    def __iter__(self):
        yield from zip(X, Y)


class Noisy(Dataset):
    """Augmentation with the random numbers of torch, NumPy and Python."""

    def __len__(self):
        return ROWS

    def __getitem__(self, number):
        return X[number] + 0.1 * torch.randn(8) + 0.1 * float(np.random.rand()) + 0.1 * random.random(), int(Y[number])


class Strict(Dataset):
    """A data set that fetches several items at once."""

    def __len__(self):
        return ROWS

    def __getitem__(self, number):
        raise AssertionError("the DataLoader asks for several")

    def __getitems__(self, numbers):
        return [(X[number], Y[number]) for number in numbers]


def trained(train, student=None, **options):
    options = {"strategy": "supervised", "epochs": 2, "progress": "none", "lr": 0.05, **options}
    return kdlab.distill(student or network(), None, train, **options)


def test_the_kinds_of_batches_are_the_same_training():
    pairs = list(zip(X.split(16), Y.split(16)))
    alike = [
        loader(),
        pairs,
        [list(pair) for pair in pairs],
        [{"inputs": x, "target": y} for x, y in pairs],
        [Batch(x, y, torch.arange(16) + 16 * number) for number, (x, y) in enumerate(pairs)],
        DataLoader(Stream(), 16),
        DataLoader(Strict(), 16),
        loader(num_workers=0, pin_memory=False, drop_last=True),
    ]
    first, *others = [trained(one, loss={"ce": {}}).student for one in alike]
    assert all(states_equal(first, other) for other in others)


def test_inputs_that_are_dicts():
    made = trained(DataLoader(Mappings(), 16), ByMapping(), validation=DataLoader(Mappings(), 32))
    assert states_equal(made.student.inner, trained(loader()).student) and made.metrics["val/accuracy"] > 0.5


def test_numbers_of_samples():
    index = [batch.index for batch in Batches(loader())]
    assert torch.equal(torch.cat(index), torch.arange(ROWS))
    for shuffled in (loader(shuffle=True), loader(sampler=RandomSampler(range(ROWS)))):
        for batch in Batches(shuffled):
            assert torch.equal(batch.inputs, X[batch.index]) and torch.equal(batch.target, Y[batch.index])
    own = DataLoader(TensorDataset(X, Y), batch_sampler=BatchSampler(RandomSampler(range(ROWS)), 10, True))
    batches = list(Batches(own))
    assert len(batches) == len(Batches(own)) == 9 and torch.equal(batches[3].inputs, X[batches[3].index])
    assert all((batch.index == UNKNOWN).all() for batch in Batches(DataLoader(Stream(), 16)))
    evaluated = torch.cat([batch.index for batch in Batches(DataLoader(Stream(), 16), "test", "test")])
    assert torch.equal(evaluated, torch.arange(ROWS)), "the place in the loader, where there is no other number"
    pairs = list(zip(X.split(16), Y.split(16)))
    assert torch.equal(torch.cat([batch.index for batch in Batches(pairs)]), torch.arange(ROWS))


def test_batches_know_their_split_and_epoch():
    """Of a Batch of one's own, too: an ensemble may look at the labels of the training split, and of no other."""
    own = [Batch(*FIRST, torch.arange(16))]
    made = Batches(own, "validation", "validation")
    made.set_epoch(3)
    assert [(batch.split, batch.epoch) for batch in made] == [("validation", 3)] and own[0].split == "train"


def test_options_of_the_loader_are_kept():
    def collate(items):
        return torch.stack([x for x, _ in items]) * 2, torch.tensor([int(y) for _, y in items])

    generator = torch.Generator().manual_seed(3)
    given = loader(shuffle=True, collate_fn=collate, generator=generator, drop_last=True, batch_size=20, timeout=0)
    made = Batches(given)
    assert made.loader.batch_sampler is given.batch_sampler and made.loader.generator is generator
    assert made.batch_size == 20 and made.size == ROWS and len(made) == 4
    first = next(iter(made))
    assert torch.equal(first.inputs, 2 * X[first.index])
    generator.manual_seed(3)
    assert torch.equal(first.target, next(iter(given))[1]), "the same draw as without kdlab"


@pytest.mark.slow
def test_workers_of_a_loader():
    with_workers = loader(shuffle=True, num_workers=1, generator=torch.Generator().manual_seed(1))
    without = loader(shuffle=True, generator=torch.Generator().manual_seed(1))
    # one epoch: prefetching workers draw one more permutation at its end
    one, other = (trained(each, epochs=1).student for each in (with_workers, without))
    assert states_equal(one, other) and not states_equal(one, network())


def test_augmentation_follows_from_the_seed():
    def after(drawn):
        student = network()
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(drawn)
        student = trained(DataLoader(Noisy(), 16, shuffle=True), student).student
        return student, (torch.rand(1).item(), np.random.rand(), random.random())

    one, drawn = after(1)
    other, _ = after(2)
    assert states_equal(one, other)
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    assert drawn == (torch.rand(1).item(), np.random.rand(), random.random()), "the caller's numbers go on as before"


def test_a_second_view_in_the_batches():
    batches = [{"inputs": x, "target": y, "further_views": (x + 0.01,)} for x, y in zip(X.split(16), Y.split(16))]
    made = trained(batches, strategy="dlb", validation=loader(40, 3), epochs=4)
    assert made.metrics["val/accuracy"] > 0.7
    assert prepared(network(), None, batches, strategy="ema", epochs=1).strategy.views == 2


def test_images_that_are_mixed_already(workplace):
    """Two halves: batches that hold partner and share, and a kdlab loader that mixes."""
    batches = []
    for x, y in zip(X.split(16), Y.split(16)):
        mixed = {
            "inputs": (x + x.flip(0)) / 2,
            "target": y,
            "partner_target": y.flip(0),
            "share": torch.full((16,), 0.5),
        }
        batches.append(mixed)
    teacher = network(2, 32)
    made = kdlab.distill(network(), teacher, batches, strategy="funmatch", epochs=1, progress="none")
    assert list(made.record["weights"]) == ["kd"] and made.curve[0]["train/loss_kd"] > 0
    made = kdlab.distill(network(), None, batches, strategy="supervised", epochs=1, progress="none", scheduler=None,
                         optimizer=functools.partial(torch.optim.SGD, lr=1e-9))  # fmt: skip
    said, want = network(), 0.0
    for batch in batches:
        loss = nn.functional.cross_entropy
        want += (
            loss(said(batch["inputs"]), batch["target"]) + loss(said(batch["inputs"]), batch["partner_target"])
        ) / 12
    assert made.curve[0]["train/loss_ce"] == pytest.approx(float(want), rel=1e-4)


def test_labels_of_data_sets():
    class Torchvision(Dataset):
        targets = Y.tolist()

        def __len__(self):
            return ROWS

        def __getitem__(self, number):
            return X[number], self.targets[number]

    assert torch.equal(labels_of(Torchvision()), Y) and torch.equal(labels_of(Subset(Torchvision(), [5, 2])), Y[[5, 2]])
    assert labels_of(Mappings()) is None and labels_of(TensorDataset(X, Y, Y)) is None
    crd = {"ce": {}, "crd": {"negatives": 4}}
    given = prepared(staged(), staged(2), DataLoader(Mapped(), 16), loss=crd, labels=Y, epochs=1)
    found = prepared(staged(), staged(2), DataLoader(Torchvision(), 16), loss=crd, epochs=1)
    for made in (given, found):
        assert torch.equal(made.strategy.objective.terms["crd"].label, Y)


class Mapped(Dataset):
    def __len__(self):
        return ROWS

    def __getitem__(self, number):
        return {"inputs": X[number], "label": Y[number]}


CRD = {"ce": {}, "crd": {"negatives": 4}}


class Wrong(Mapped):
    targets = (1 - Y).tolist()


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (iter(loader()), {}, "train is an iterator, which ends after one epoch"),
        (TensorDataset(X, Y), {}, r"train is a data set; give a loader: torch.utils.data.DataLoader\(train"),
        (X, {}, "train must be a DataLoader, or a list of batches, got Tensor"),
        ([], {}, "train: the loader has no batch"),
        ([(X, Y, Y)], {}, r"a batch must be a pair \(inputs, target\), a dict or a kdlab.Batch, got a tuple of 3"),
        ([X], {}, "got a Tensor; change the collate_fn"),
        ([{"x": X}], {}, "must hold its labels as one of target, labels, label"),
        ([{"x": X, "label": Y, "labels": Y}], {}, "must hold its labels as one of"),
        ([{"inputs": X, "pixels": X, "label": Y}], {}, '"pixels", which is no field of kdlab.Batch'),
        ([(X, [0, 1])], {}, r"the labels of a batch must be a tensor \(samples,\), got list"),
        ([(X, Y[:5])], {}, r"inputs of shape \(96, 8\) and 5 labels"),
        ([(X, Y.float())], {}, r"class numbers \(samples,\), got torch.float32"),
        ([(X, nn.functional.one_hot(Y))], {}, r"class numbers \(samples,\), got torch.int64 of shape \(4, 2\)"),
        ([(X, Y + 1)], {}, "labels of a batch go from 1 to 2, and not from 0 to 1, as of 2 classes"),
        ([(X, Y)], {"validation": [(X, Y - 1)]}, "validation: the labels of a batch go from -1 to"),
        ([(X, Y)], {"test": [X]}, "test: a batch must be a pair"),
        (DataLoader(Stream(), 16), {"loss": CRD}, "loss.crd: it remembers samples by their number"),
        (DataLoader(Stream(), 16), {"strategy": "ps_kd", "teacher": None}, "strategy: it remembers samples"),
        (DataLoader(Stream(), 16), {"strategy": "cs_kd", "teacher": None}, "strategy: it remembers samples"),
        ([(X, Y)], {"strategy": "cs_kd", "teacher": None}, "the loader must be a DataLoader"),
        (DataLoader(Mapped(), 16), {"loss": CRD}, r"give labels=torch.tensor\(\[…\]\)"),
        (DataLoader(Mapped(), 16), {"loss": CRD, "labels": Y[:9]}, "labels must be one for each of the 96 samples"),
        (DataLoader(Wrong(), 16), {"loss": CRD}, r"train: sample 0 has the label \d in its batch, and another one"),
        (loader(sampler=list(range(0, 90, 3))), {"loss": CRD}, r"list reads 30 of 96 samples.*Subset\(dataset"),
        (loader(), {"strategy": "dlb", "teacher": None}, "strategy: it compares 2 augmented views of each batch"),
        (loader(), {"strategy": "ema", "teacher": None}, r'or choose strategy=\{"ema": \{"views": "same"\}\}'),
    ],
)  # fmt: skip
def test_refusals(train, options, message):
    options = {"teacher": staged(2), **options}
    student = staged()
    with pytest.raises(InputError, match=message):
        kdlab.distill(student, options.pop("teacher"), train, epochs=1, progress="none", **options)
    assert states_equal(student, staged()), "nothing was trained"


def test_a_list_of_batches_with_numbers_of_their_own():
    batches = [
        {"inputs": x, "target": y, "index": 2 * i}
        for x, y, i in zip(*(one.split(16) for one in (X, Y, torch.arange(ROWS))))
    ]
    made = prepared(staged(), staged(2), batches, loss=CRD, epochs=1)
    term = made.strategy.objective.terms["crd"]
    assert len(term.label) == 2 * ROWS - 1 and sorted(term.order.tolist()) == list(range(0, 2 * ROWS, 2))
    assert torch.equal(term.label[::2], Y) and made.train.size == 2 * ROWS - 1


def test_labels_that_change_later_stop_the_training():
    """Classes are checked in every batch, and not only in the first."""
    with pytest.raises(InputError, match="labels of a batch go from 0 to 7"):
        trained([FIRST, (X[:2], torch.tensor([0, 7]))])


def test_a_collation_that_drops_samples():
    def dropping(items):
        items = items[:-1] if len(items) > 4 else items
        return torch.stack([x for x, _ in items]), torch.stack([y for _, y in items])

    with pytest.raises(InputError, match="collate_fn made a batch of 15 labels of 16 samples"):
        trained(loader(collate_fn=dropping))
