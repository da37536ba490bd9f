"""What labels of texts become."""

import math

import pytest
import torch

from kdlab.data import TextFiles
from kdlab.data.text.files import Table
from kdlab.data.text.labels import Meaning, meaning_of, numbers_of, word_labels
from kdlab.errors import InputError
from tests.data.text.texts import options, text_file


def meant(values, kind="auto", names=None, threshold=None):
    return meaning_of("data.label=l", table(values), values, kind, names, threshold)


def table(values):
    return Table("t.csv", {}, range(2, len(values) + 2), "line")


@pytest.mark.parametrize(
    "values, how, meaning, numbers",
    [
        (["b", "a", "b"], {}, Meaning("classes", ("a", "b")), [1, 0, 1]),
        (["0", "2", "1"], {}, Meaning("classes", ("0", "1", "2"), True), [0, 2, 1]),
        ([0, 1.0], {}, Meaning("classes", ("0", "1"), True), [0, 1]),
        ([True, False], {}, Meaning("classes", ("False", "True")), [1, 0]),
        (["0.5", "2"], {}, Meaning("values"), [0.5, 2]),
        (["1", "2"], {"kind": "values"}, Meaning("values"), [1, 2]),
        (["b", "a"], {"names": ["b", "a"]}, Meaning("classes", ("b", "a")), [0, 1]),
        (["1", "0"], {"names": ["no", "yes", "maybe"]}, Meaning("classes", ("no", "yes", "maybe"), True), [1, 0]),
        (["-0.1", "0", "0.1"], {"threshold": 0.0}, Meaning("classes", ("0", "1"), threshold=0.0), [0, 0, 1]),
        (["1", "x"], {}, Meaning("classes", ("1", "x")), [0, 1]),
        (["1", "inf"], {}, Meaning("classes", ("1", "inf")), [0, 1]),
    ],
)
def test_meanings(values, how, meaning, numbers):
    assert meant(values, **how) == meaning
    assert numbers_of("data.label=l", table(values), values, meaning) == numbers


def test_a_missing_label_stays_one():
    found = numbers_of("", table([1, None]), [1, None], Meaning("values"))
    assert found[0] == 1 and math.isnan(found[1])


@pytest.mark.parametrize(
    "values, how, message",
    [
        (["0", "1", "7", "7"], {}, "data.label=l: .*t.csv, lines 4, 5 have 7, where 2 would be next; data.class_names"),
        (["-1", "0"], {}, "t.csv, line 2 has -1, where 0 would be next"),
        (["0", "3"], {"names": ["a", "b"]}, "t.csv, line 3: there is no class '3'; the classes are 0 to 1"),
        (["pos", "poss"], {"names": ["neg", "pos"]}, "line 3: there is no class 'poss'; did you mean 'pos'"),
        (["0.5", "good"], {"kind": "values"}, "line 3: 'good' is not a number to predict"),
        (["0.5", "1e999"], {"kind": "values"}, "line 3: '1e999' is not a number to predict"),
        (["0.5", "-inf"], {"threshold": 0.0}, "line 3: '-inf' is not a number to compare"),
        (["0.5", "good"], {"threshold": 0.0}, "line 3: 'good' is not a number to compare with data.threshold"),
    ],
)
def test_faults_of_labels(values, how, message):
    with pytest.raises(InputError, match=message):
        numbers_of("data.label=l", table(values), values, meant(values, **how))


def test_a_class_of_test_that_train_does_not_have(tmp_path):
    train = text_file(tmp_path / "train.tsv")
    test = text_file(tmp_path / "test.tsv", [("good film", "pos"), ("bad film", "mixed")])
    with pytest.raises(InputError, match=r"test.tsv, line 3: there is no class 'mixed'; the classes are neg, pos"):
        TextFiles(train, test=test, **options(tmp_path)).setup()


def test_words():
    words, labels = ["good film", ["a", "b", "c"]], ["A N", ["N", "N", "A"]]
    meaning = meant(labels)
    assert meaning == Meaning("tokens", ("A", "N"))
    assert word_labels("data.label=l", table(words), words, labels, meaning) == [[0, 1], [1, 1, 0]]
    with pytest.raises(InputError, match="t.csv, line 3: 2 labels for 3 words"):
        word_labels("data.label=l", table(words), words, ["A N", "N N"], meaning)
    with pytest.raises(InputError, match="t.csv, line 2: there is no class 'X'"):
        word_labels("data.label=l", table(words), words, ["A X", "N N N"], meaning)


def test_a_class_that_is_no_finite_number():
    meaning = Meaning("classes", ("a", "b"), numeric=True)
    with pytest.raises(InputError, match="line 2: there is no class 'inf'; the classes are 0 to 1"):
        numbers_of("data.label=l", table(["inf"]), ["inf"], meaning)


def test_words_whose_label_does_not_count_or_is_missing():
    words, labels = [["a", "b", "c"], ["d"]], [[0, -100, 1], [1]]
    meaning = meant(labels)
    assert meaning == Meaning("tokens", ("0", "1"), True)
    assert word_labels("data.label=l", table(words), words, labels, meaning) == [[0, -100, 1], [1]]
    labels = [["A", "-100", "B"], ["B"]]
    assert word_labels("", table(words), words, labels, meant(labels)) == [[0, -100, 1], [1]]
    labels = [["A", None, "B"], ["B"]]
    assert meant(labels).names == ("A", "B")
    with pytest.raises(InputError, match="t.csv, line 2: a word has no label; give it -100"):
        word_labels("data.label=l", table(words), words, labels, meant(labels))


def test_labels_of_words_are_those_of_their_first_tokens(tmp_path):
    rows = [("the films is good", "D N V A"), ("bad actors", "A N")] * 20
    data = TextFiles(text_file(tmp_path / "t.tsv", rows), **options(tmp_path, label_kind="tokens", batch_size=4))
    data.setup()
    assert data.class_names == ("A", "D", "N", "V") and data.classes == 4
    seen = set()
    for batch in data.train_dataloader():
        assert batch.target.shape == batch.inputs["input_ids"].shape
        seen |= {tuple(row) for row in batch.target.tolist()}
    # [CLS] the film ##s is good [SEP], and [CLS] bad actor ##s [SEP] alone or filled up
    assert (-100, 1, 2, -100, 3, 0, -100) in seen
    assert seen <= {
        (-100, 1, 2, -100, 3, 0, -100),
        (-100, 0, 2, -100, -100),
        (-100, 0, 2, -100, -100, -100, -100),
    }
    stored = data._both()[0]
    assert stored.target.shape == (data.train_size, 16) and int((stored.target != -100).sum(1).min()) == 2


def test_numbers_to_predict(tmp_path):
    rows = [(text, number / 3) for number, text in enumerate(["good film", "bad plot"] * 20)]
    data = TextFiles(text_file(tmp_path / "t.tsv", rows), **options(tmp_path))
    batch = data.train_dataloader().first(3)
    assert data.classes == 1 and batch.target.shape == (3, 1) and batch.target.dtype == torch.float32
