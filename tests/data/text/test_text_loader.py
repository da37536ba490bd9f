"""Batches of texts: padding, masks, buckets, normalisers, splits, and a second tokenizer for the teacher."""

import inspect

import pytest
import torch

from kdlab.data import HuggingFaceTexts, MaskTokens, TextFiles
from kdlab.data.loader import Share
from kdlab.data.text.loader import bucketed
from kdlab.data.text.texts import TextData
from kdlab.errors import InputError
from kdlab.functional import cross_entropy, reduce
from kdlab.teachers import Frozen
from tests.data.text.texts import BagOfTokens, options, sentences, text_file, trained_bag
from tests.data.text.tiny_tokenizer import tokenizer_folder
from tests.tasks.tagging import Tagging


def texts(tmp_path, rank=0, world=1, accumulate=1, **more):
    data = TextFiles(text_file(tmp_path / "t.tsv"), **options(tmp_path, **more))
    data.share = Share(rank, world, accumulate)
    data.setup()
    return data


def epoch_of(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_a_batch_is_as_long_as_its_longest_text(tmp_path):
    data = texts(tmp_path)
    lengths = data._both()[0].tokens.ids.lengths
    for batch in epoch_of(data):
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        assert ids.dtype == mask.dtype == torch.int64 and ids.shape == (len(batch), int(lengths[batch.index].max()))
        assert torch.equal(batch.mask, mask.float()) and torch.equal(mask.sum(1), lengths[batch.index])
        assert torch.equal(ids != 0, mask.bool())  # 0 is [PAD]


@pytest.mark.parametrize("pad_to, widths", [("length", {16}), (8, {8, 16}), (5, {10, 15, 16})])
def test_other_paddings(tmp_path, pad_to, widths):
    data = texts(tmp_path, pad_to=pad_to, batch_size=2)
    found = {batch.inputs["input_ids"].shape[1] for batch in epoch_of(data)}
    assert found <= widths and len(found) > (pad_to != "length")


def test_the_order_of_buckets():
    lengths = torch.arange(100) * 37 % 23
    rows = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    order = bucketed(rows, lengths, 8, seed=1, epoch=2, window=4)
    assert torch.equal(order.sort().values, torch.arange(100)) and torch.equal(order[96:], rows[96:])
    assert torch.equal(order, bucketed(rows, lengths, 8, seed=1, epoch=2, window=4))
    assert not torch.equal(order, bucketed(rows, lengths, 8, seed=1, epoch=3, window=4))
    spread = [int(lengths[batch].max() - lengths[batch].min()) for batch in order[:96].view(12, 8)]
    without = [int(lengths[batch].max() - lengths[batch].min()) for batch in rows[:96].view(12, 8)]
    assert sum(spread) < sum(without) / 2
    # 12 batches, of windows of 4: each batch is within one window
    window = {int(row): place // 32 for place, row in enumerate(rows[:96])}
    batches = [{window[int(row)] for row in batch} for batch in order[:96].view(12, 8)]
    assert all(len(one) == 1 for one in batches) and [one.pop() for one in batches] != sorted([0, 1, 2] * 4)


def test_buckets_of_an_epoch(tmp_path):
    plain, data = texts(tmp_path), texts(tmp_path, buckets=True)
    padded = [sum(int((1 - b.mask).sum()) for b in epoch_of(one)) for one in (plain, data)]
    assert padded[1] < padded[0] / 2
    index = [torch.cat([batch.index for batch in epoch_of(data, epoch)]) for epoch in (0, 0, 1)]
    assert torch.equal(index[0], index[1]) and not torch.equal(index[0], index[2])
    assert torch.equal(index[0].sort().values, data.part("train"))
    for batch in epoch_of(data):  # each sample has its own text and label
        again = data.train_dataloader().batch(batch.index[:1])
        length = int(batch.mask[0].sum())
        assert again.inputs["input_ids"][0].tolist() == batch.inputs["input_ids"][0, :length].tolist()
        assert again.target[0] == batch.target[0]


@pytest.mark.parametrize("buckets", [False, True])
@pytest.mark.parametrize("world, accumulate", [(1, 3), (2, 1), (2, 3)])
def test_normalisers_with_uneven_lengths(tmp_path, buckets, world, accumulate):
    """The sums of an optimiser step are the means over its samples and positions, however they are shared."""
    network = trained_bag()

    def sums(batches):
        found = torch.zeros(2, dtype=torch.float64)
        for batch in batches:
            rows = cross_entropy(network(**batch.inputs), batch.target)
            places = network.embedding(batch.inputs["input_ids"]).sum(-1).flatten()
            found[0] += reduce(rows, *batch.weighting("row", len(rows))).item()
            found[1] += reduce(places, *batch.weighting("position", len(places))).item()
        return found

    whole = epoch_of(texts(tmp_path, buckets=buckets))
    shares = [epoch_of(texts(tmp_path, rank, world, accumulate, buckets=buckets)) for rank in range(world)]
    network.requires_grad_(False)
    for step in range(0, len(whole) - accumulate + 1, accumulate):
        mine = whole[step : step + accumulate]
        samples, positions = sum(len(one) for one in mine), sum(float(one.mask.sum()) for one in mine)
        values = torch.cat([cross_entropy(network(**one.inputs), one.target) for one in mine])
        places = sum(float((network.embedding(one.inputs["input_ids"]).sum(-1) * one.mask).sum()) for one in mine)
        expected = torch.tensor([values.sum().item() / samples, places / positions], dtype=torch.float64)
        shared = sum(sums(share[step : step + accumulate]) for share in shares) / (world * accumulate)
        assert torch.allclose(shared, expected, rtol=1e-5)


def test_labels_of_words_have_a_normaliser_too(tmp_path):
    rows = [("the films is good", "D N V A"), ("bad actors", "A N"), ("film", "N")] * 20
    data = TextFiles(text_file(tmp_path / "t.tsv", rows), **options(tmp_path, label_kind="tokens"))
    task = Tagging(3)
    data.row_counts = task.row_counts
    data.setup()
    for batch in epoch_of(data):
        assert batch.normaliser == int((batch.target != -100).sum())
        assert batch.sample_normaliser == len(batch) and batch.position_normaliser == batch.mask.sum()
        assert int(task.align_batch(batch).weights.sum()) == batch.normaliser


def test_splits(tmp_path):
    data = texts(tmp_path, test_fraction=0.2, validation=0.25)
    train, test = data._both()
    assert (len(train.target), len(test.target)) == (48, 12) and test.target.bincount().tolist() == [6, 6]
    assert len(data.part("validation")) == 2 * 6
    other = texts(tmp_path, test_fraction=0.2, split_seed=1)
    assert not torch.equal(other._both()[1].tokens.ids.values, test.tokens.ids.values)
    held = text_file(tmp_path / "held.tsv", sentences(10))
    data = texts(tmp_path, validation_file=held, test=text_file(tmp_path / "test.tsv", sentences(6)))
    train, test = data._both()
    assert data.part("validation").tolist() == list(range(60, 70)) and len(data.part("train")) == 60
    assert len(test.target) == 6 and len(train.tokens) == 70


def test_a_process_without_a_sample_of_the_last_batch(tmp_path):
    """Three samples of validation in batches of two, for two processes: the last batch has one sample."""
    held = text_file(tmp_path / "held.tsv", sentences(3))
    parts = [texts(tmp_path, rank, 2, validation_file=held, evaluation_batch_size=2) for rank in (0, 1)]
    sizes = [[len(batch) for batch in data.val_dataloader()] for data in parts]
    assert sizes == [[1, 1], [1, 0]]


def test_movie_snippets(tmp_path):
    """id, score and text without a header line; bytes of two encodings."""
    rows = [f"{number}\t{(-1) ** number * 2.5}\ta ''good\" film {number}".encode() for number in range(40)]
    rows[7] = b"7\t-2.5\tcaf\xe9"
    (tmp_path / "snippets.tsv").write_bytes(b"\n".join(rows))
    given = options(tmp_path, columns=["id", "score", "text"], label="score", threshold=0.0)
    with pytest.raises(InputError, match="snippets.tsv: line 8: bytes that are not data.encoding=utf-8"):
        TextFiles(str(tmp_path / "snippets.tsv"), **given).setup()
    data = TextFiles(str(tmp_path / "snippets.tsv"), errors="replace", **given)
    data.setup()
    assert data.classes == 2 and data._both()[0].target.bincount().tolist() == [16, 16]


def test_without_labels(tmp_path):
    (tmp_path / "t.txt").write_text("\n".join(text for text, _ in sentences(40)))
    data = TextFiles(str(tmp_path / "t.txt"), **options(tmp_path, label=None))
    batch = data.train_dataloader().first(3)
    assert batch.target is None and data.classes == data.vocabulary == 33 and batch.inputs["input_ids"].shape[0] == 3


def test_another_tokenizer_for_the_teacher(tmp_path):
    theirs = tokenizer_folder(tmp_path / "theirs", words=["good", "bad", "film"])
    data = texts(tmp_path, teacher_tokenizer=theirs)
    batch = data.train_dataloader().first(4)
    assert batch.teacher_inputs["input_ids"].max() < 9 < batch.inputs["input_ids"].max()
    network = trained_bag(vocabulary=9)
    from kdlab.tasks import Classification

    teacher = Frozen(network, Classification(2))
    answer = teacher.teach(batch)
    assert torch.equal(answer.logits, network(**batch.teacher_inputs))
    assert torch.equal(teacher.teach(batch.part(1, 3)).logits, answer.logits[1:3])
    with pytest.raises(IndexError):
        teacher.teach(batch.replace(teacher_inputs=None))
    assert BagOfTokens()(**batch.inputs).shape == (4, 2)


def seen(data):
    loader, found = data.train_dataloader(), []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        found += list(loader)
    found += [*data.val_dataloader(), *data.test_dataloader()]
    return [
        tensor
        for one in found
        for tensor in (*one.inputs.values(), *(one.teacher_inputs or {}).values(), one.target, one.index, one.labelled)
        if tensor is not None
    ]


TOKENIZERS = {"pad_token": "[MASK]", "teacher_tokenizer": "other", "tokenizer": "other"}
# argument -> what both have, and another value than its default
CHANGES = {
    **{name: ({}, value) for name, value in TOKENIZERS.items()},
    "batch_size": ({}, 5),
    "evaluation_batch_size": ({}, 3),
    "validation": ({}, 0.3),
    "split_seed": ({}, 1),
    "fraction": ({}, 0.5),
    "omit_classes": ({"class_names": ["neg", "pos", "mixed"]}, [0]),
    "drop_last": ({}, True),
    "text": ({}, "second"),
    "text_pair": ({}, "second"),
    "label": ({}, "score"),
    "label_kind": ({"label": "score", "length": 16}, "values"),
    "class_names": ({}, ["pos", "neg"]),
    "threshold": ({"label": "score"}, 1.0),
    "length": ({}, 9),
    "faulty": ({}, None),
    "test_fraction": ({}, 0.4),
    "pad_to": ({}, "length"),
    "teacher_pad_to": ({}, "length"),
    "buckets": ({}, True),
    "masking": ({"label": None}, MaskTokens()),
    "labelled": ({}, 20),
    "rest": ({"labelled": 20}, "dropped"),
    "unlabelled": ({}, "other.tsv"),
    "test": ({}, "other.tsv"),
    "validation_file": ({}, "other.tsv"),
    "errors": ({}, None),
    "encoding": ({}, None),
    "columns": ({}, ["text", "label", "second", "score"]),
    "quotes": ({}, True),
}
#: tested elsewhere: they refuse, or name what cannot be had without a network
ELSEWHERE = {"truncate", "faulty", "errors", "encoding", "tokenizer_revision", "train", "folder"}
#: of every data set, and not for texts
NOT_FOR_TEXTS = {"augment", "mixing", "augment_seed", "replicas", "options", "self"}


def test_every_argument_has_its_line():
    named = {name for kind in TextFiles.__mro__ if kind.__module__.startswith("kdlab.") for name in _parameters(kind)}
    assert named - NOT_FOR_TEXTS == set(CHANGES) | ELSEWHERE
    assert set(inspect.signature(TextData.__init__).parameters) - {"self"} <= named
    assert issubclass(HuggingFaceTexts, TextData)


def _parameters(kind):
    return inspect.signature(kind.__init__).parameters if "__init__" in vars(kind) else ()


@pytest.mark.parametrize("argument", sorted(set(CHANGES) - ELSEWHERE))
def test_every_argument_changes_the_batches(tmp_path, argument):
    both, changed = CHANGES[argument]
    rows = [(f'"{text}"', label, "a fun plot", place % 3) for place, (text, label) in enumerate(sentences(60))]
    header = ("text", "label", "second", "score")
    path = text_file(tmp_path / "t.tsv", rows, header)
    text_file(tmp_path / "other.tsv", rows[:20], header)
    tokenizer_folder(tmp_path / "other", words=["good", "bad"])
    if changed in ("other", "other.tsv"):
        changed = str(tmp_path / changed)

    def made(**more):
        data = TextFiles(path, **options(tmp_path, **{**both, **more}))
        data.setup()
        return data

    if argument == "columns":  # the header line is then a row
        assert made(columns=changed).train_size > made().train_size
        return
    one, again, other = seen(made()), seen(made()), seen(made(**{argument: changed}))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert len(one) != len(other) or any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"length": 0}, "length must be at least 1"),
        ({"label_kind": "class"}, "label_kind must be one of auto, classes, values, tokens"),
        ({"faulty": "skip"}, "faulty must be one of refuse, drop"),
        ({"test_fraction": 1.0}, "test_fraction must lie between 0 and 1"),
        ({"pad_to": "short"}, "pad_to must be longest, length or a number"),
        ({"threshold": 0.0, "label_kind": "values"}, "threshold=0.0 makes two classes"),
        ({"class_names": ["a", "a"]}, "class_names must differ"),
        ({"text_pair": "b", "label_kind": "tokens"}, "text_pair cannot be combined with label_kind=tokens"),
        ({"augment": lambda *_: None}, "augment and mixing are for images"),
    ],
)
def test_arguments_out_of_range(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        TextFiles("t.csv", **options(tmp_path, **wrong))
