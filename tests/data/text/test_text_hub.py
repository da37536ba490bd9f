"""Data sets of Hugging Face: from a folder, and what is refused."""

import pytest

from kdlab.data import HuggingFaceTexts
from kdlab.errors import InputError
from tests.data.text.texts import options, sentences

datasets = pytest.importorskip("datasets")


@pytest.fixture
def loaded(monkeypatch):
    """Puts splits in the place of what ``datasets`` would load."""

    def put(names=("negative", "positive"), **splits):
        names = datasets.ClassLabel(names=list(names))
        features = datasets.Features({"text": datasets.Value("string"), "label": names})
        made = datasets.DatasetDict(
            {
                name: datasets.Dataset.from_dict(
                    {"text": [text for text, _ in rows], "label": [label for _, label in rows]}, features=features
                )
                for name, rows in splits.items()
            }
        )
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)

    return put


ROWS = [(text, int(label == "pos")) for text, label in sentences(40)]


def test_splits_and_class_names(tmp_path, loaded):
    loaded(train=ROWS, validation=ROWS[:10], test=ROWS[:6])
    data = HuggingFaceTexts("some/set", validation_split="validation", **options(tmp_path))
    train, test = data._both()
    assert data.class_names == ("negative", "positive") and data.classes == 2
    assert (len(train.target), len(test.target), len(data.part("validation"))) == (50, 6, 10)
    assert train.target[:4].tolist() == [1, 0, 1, 0]


def test_labels_that_the_data_set_keeps_back(tmp_path, loaded):
    """GLUE's test splits have -1 for each label."""
    loaded(train=ROWS, test=[(text, -1) for text, _ in ROWS[:7]])
    with pytest.raises(InputError, match=r"some/set \(sst2\), split test, rows 1, 2, 3, 4, 5 and 2 more: no label"):
        HuggingFaceTexts("some/set", "sst2", **options(tmp_path)).setup()


@pytest.mark.parametrize(
    "names, given, found, numbers",
    [
        (["1", "0"], None, ("1", "0"), [1, 0]),  # names that look like numbers of classes
        (["negative", "positive"], ["positive", "negative"], ("positive", "negative"), [0, 1]),  # another order
        (["negative", "positive"], ["bad", "good"], ("bad", "good"), [1, 0]),  # other names
    ],
)
def test_which_class_a_number_of_the_data_set_is(tmp_path, loaded, names, given, found, numbers):
    loaded(names, train=ROWS, test=ROWS[:6])
    data = HuggingFaceTexts("some/set", **options(tmp_path, class_names=given))
    assert data.class_names == found and data._both()[1].target[:2].tolist() == numbers


def test_numbers_of_classes_as_values(tmp_path, loaded):
    loaded(train=ROWS, test=ROWS[:6])
    data = HuggingFaceTexts("some/set", **options(tmp_path, label_kind="values"))
    assert data.classes == 1 and data._both()[1].target[:2].tolist() == [[1.0], [0.0]]
    data = HuggingFaceTexts("some/set", **options(tmp_path, threshold=-0.5))
    assert data.class_names == ("0", "1") and data._both()[1].target[:2].tolist() == [1, 1]


def test_names_of_the_classes_of_words(tmp_path, monkeypatch):
    names = datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER", "I-PER"]))
    features = datasets.Features({"text": datasets.Sequence(datasets.Value("string")), "label": names})
    rows = {"text": [["good", "film"], ["bad"]] * 20, "label": [[1, -100], [0]] * 20}
    made = datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features=features)})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    data = HuggingFaceTexts("some/set", test_split=None, **options(tmp_path, label_kind="tokens"))
    assert data.class_names == ("O", "B-PER", "I-PER")  # also the one that train does not have
    assert {tuple(row[:4]) for row in data._both()[0].target.tolist()} == {(-100, 1, -100, -100), (-100, 0, -100, -100)}


def test_samples_without_labels_need_labelled_ones(tmp_path):
    with pytest.raises(ValueError, match="unlabelled_split is for texts beside labelled ones"):
        HuggingFaceTexts("some/set", unlabelled_split="unsupervised", **options(tmp_path, label=None))


def test_a_split_that_is_not_there(tmp_path, loaded):
    loaded(train=ROWS)
    with pytest.raises(InputError, match=r"data.test_split=test: some/set has no such split \(it has train\); .*=null"):
        HuggingFaceTexts("some/set", **options(tmp_path)).setup()
    data = HuggingFaceTexts("some/set", test_split=None, **options(tmp_path))
    assert data.train_size == 32


@pytest.mark.parametrize(
    "error, message",
    [
        (ConnectionError("no route"), "The Hugging Face hub cannot be reached.*data.dataset=FOLDER"),
        (
            ValueError("BuilderConfig 'x' not found. Available: ['a']"),
            "it cannot be loaded: BuilderConfig 'x' not found",
        ),
    ],
)
def test_what_cannot_be_loaded(tmp_path, monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match=message):
        HuggingFaceTexts("some/set", **options(tmp_path)).setup()
