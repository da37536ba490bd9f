"""A further column of the tables at the stored samples, however they are split, dropped and joined."""

import json

import pytest
import torch

from kdlab.data import CausalTextFiles, Digits, HuggingFaceTexts, Sums, TextFiles
from kdlab.errors import InputError
from tests.data.text.characters import character_tokenizer
from tests.data.text.texts import options, sentences, text_file

KEY = "teacher.column"


def written(path, number, first=0, without=()):
    """Texts that each have a value of their own; those in ``without`` have no text."""
    rows = [
        ("" if place in without else text, label, f"value {first + place}")
        for place, (text, label) in enumerate(sentences(number))
    ]
    return text_file(path, rows, ("text", "label", "origin"))


def tokens_of(stored):
    """The tokens of each stored sample."""
    ids = stored.tokens.ids
    return [ids.take(torch.tensor([place])).values.tolist() for place in range(len(stored.target))]


def test_values_stay_with_their_texts(tmp_path):
    """Test is held out of train, a validation file and texts without labels are joined to it, and rows are dropped."""
    given = {
        "validation_file": written(tmp_path / "validation.tsv", 10, 100),
        "unlabelled": written(tmp_path / "unlabelled.tsv", 8, 200),
        "faulty": "drop",
    }
    path = written(tmp_path / "train.tsv", 40, without=(3, 7))
    data = TextFiles(path, **options(tmp_path, **given))
    found = data.column(KEY, "origin")
    assert {split: len(column) for split, column in found.items()} == {"train": 30 + 10 + 8, "test": 8}
    tables = ((0, 40), (100, 10), (200, 8))
    every = {
        f"value {first + place}": text for first, number in tables for place, (text, _) in enumerate(sentences(number))
    }
    for stored, column in zip(data._both(), found.values()):
        assert len(set(column.values)) == len(column)
        for value, ids in zip(column.values, tokens_of(stored)):
            assert data.tokenizer.loaded(every[value])["input_ids"] == ids
    assert not {"value 3", "value 7"} & {*found["train"].values, *found["test"].values}
    train = found["train"]
    places = [train.origins[train.values.index(value)] for value in ("value 103", "value 207", "value 100")]
    assert train.places(places) == (f"{tmp_path / 'validation.tsv'}, lines 2, 5; {tmp_path / 'unlabelled.tsv'}, line 9")
    last = train.values[29]
    assert train.places([train.origins[29]]) == f"{path}, line {int(last.split()[1]) + 2}", (
        "also behind lines that were dropped"
    )


def test_values_are_texts_without_spaces_around(tmp_path):
    rows = [{"text": "ab", "origin": value} for value in (1, " b ", None, "", 2.5, "nan")] * 4
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"tokenizer": character_tokenizer(tmp_path / "tok"), "folder": str(tmp_path / "data"), "length": 8}
    data = CausalTextFiles(str(tmp_path / "train.jsonl"), batch_size=2, **given)
    found = [value for column in data.column(KEY, "origin").values() for value in column.values]
    assert sorted(map(str, found)) == sorted([*("1", "b", "2.5") * 4, *["None"] * 12])


def test_answers_that_are_left_out_take_their_values_along(tmp_path):
    rows = [{"q": "1+1=2+3" if place % 5 == 0 else "1+", "a": "2", "origin": str(place)} for place in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"tokenizer": character_tokenizer(tmp_path / "tok"), "folder": str(tmp_path / "data"), "length": 5}
    data = CausalTextFiles(
        str(tmp_path / "train.jsonl"), prompt="q", answer="a", faulty="drop", batch_size=2, validation=0.2, **given
    )
    found = [int(value) for column in data.column(KEY, "origin").values() for value in column.values]
    assert sorted(found) == [place for place in range(20) if place % 5]


def test_the_column_is_looked_for_before_tokens_are_made(tmp_path):
    data = TextFiles(written(tmp_path / "train.tsv", 40), **options(tmp_path))
    data.keep_column(KEY, "orign")
    with pytest.raises(InputError, match="teacher.column=orign: .*train.tsv has no column 'orign' .*mean 'origin'"):
        data.setup()
    assert not (tmp_path / "data" / ".tokens").exists()


def test_rows_that_were_read_without_it_are_read_again(tmp_path):
    """As for the teacher of a finished run, whose data are there already."""
    data = TextFiles(written(tmp_path / "train.tsv", 40), **options(tmp_path))
    data.setup()
    assert data.column(KEY, "origin")["test"].values[0].startswith("value ")
    rows = data.rows
    assert data.column(KEY, "origin")["train"].values and data.rows is rows


def test_a_column_of_a_data_set_of_hugging_face(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = sentences(40)
    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": names,
            "origin": datasets.Value("string"),
            "more": datasets.Value("string"),
        }
    )
    columns = {
        "text": [text for text, _ in rows],
        "label": [label for _, label in rows],
        "origin": [f"value {place}" for place in range(40)],
        "more": ["x"] * 40,
    }
    made = datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns, features=features)})
    monkeypatch.setattr(datasets, "load_dataset", lambda *of, **more: made)
    data = HuggingFaceTexts("some/set", test_split=None, **options(tmp_path))
    found = [int(value.split()[1]) for column in data.column(KEY, "origin").values() for value in column.values]
    assert sorted(found) == list(range(40)) and data.rows["train"].table.columns["more"] == ()


def test_packed_rows_and_other_data_have_none(tmp_path):
    given = {"tokenizer": character_tokenizer(tmp_path / "tok"), "folder": str(tmp_path / "data"), "length": 8}
    with pytest.raises(InputError, match="teacher.column=origin: data.packed=true puts several texts into one row"):
        CausalTextFiles("train.jsonl", packed=True, **given).keep_column(KEY, "origin")
    with pytest.raises(InputError, match="teacher.column=origin: Digits has no columns beside inputs and labels"):
        Digits().column(KEY, "origin")
    sums = Sums(largest=9, samples=60, test_samples=40, batch_size=8, folder=str(tmp_path / "data"))
    prompts = sums.column(KEY, "prompt")["test"].values
    assert prompts == [f"{one}+{other}=" for one, other in sums.sums("test")]
