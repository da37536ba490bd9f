"""Files of texts: formats, and what may be wrong with a file."""

import builtins
import json

import pytest

from kdlab.data import TextFiles
from kdlab.data.text.files import Reading, read_table
from kdlab.errors import InputError
from tests.data.text.texts import options

ROWS = [("good film", "pos"), ('a "bad", dull one', "neg")]


def written(tmp_path, name, content, **how):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table("data.train", str(path), Reading(**how))


CSV = 'text,label\n"good film",pos\n"a ""bad"", dull one",neg\n'
TSV = 'text\tlabel\ngood film\tpos\na "bad", dull one\tneg\n'
LINES = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)
LIST = json.dumps([{"text": text, "label": label} for text, label in ROWS])


@pytest.mark.parametrize(
    "name, content, numbers",
    [
        ("t.csv", CSV, [2, 3]),
        ("t.csv", "\ufeff" + CSV.replace("\n", "\r\n"), [2, 3]),
        ("t.tsv", TSV, [2, 3]),
        ("t.jsonl", LINES, [1, 2]),
        ("t.json", LIST, [1, 2]),
    ],
)
def test_formats(tmp_path, name, content, numbers):
    table = written(tmp_path, name, content)
    assert [*zip(table.column("data.text", "text"), table.column("data.label", "label"))] == ROWS
    assert list(table.numbers) == numbers


def test_a_field_with_a_line_break_and_a_long_one(tmp_path):
    table = written(tmp_path, "t.csv", 'text,label\n"two\nlines",a\n' + "x" * 200_000 + ",b\n")
    assert table.columns["text"][0] == "two\nlines" and len(table.columns["text"][1]) == 200_000
    assert list(table.numbers) == [2, 4], "the lines on which the rows begin"


def test_plain_text_and_names_for_columns(tmp_path):
    assert written(tmp_path, "t.txt", "one\r\ntwo\n\n").columns == {"text": ["one", "two"]}
    table = written(tmp_path, "t.tsv", '1\t0.5\tsay "no\n2\t-1\tb', columns=["id", "score", "text"])
    assert table.columns["text"] == ('say "no', "b") and list(table.numbers) == [1, 2]


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["a", "b"], "label": [1, None]}), tmp_path / "t.parquet")
    table = read_table("data.train", str(tmp_path / "t.parquet"), Reading())
    assert table.columns == {"text": ["a", "b"], "label": [1, None]} and table.places([1]).endswith("t.parquet, row 2")
    with pytest.raises(InputError, match="no Parquet file, or damaged"):
        written(tmp_path, "u.parquet", "no")


@pytest.mark.parametrize(
    "name, content, how, message",
    [
        ("t.csv", "text,label\n", {}, "t.csv: the file holds no rows"),
        ("t.csv", "", {}, "the file holds no rows"),
        ("t.doc", "x", {}, r"'.doc' is not known; known are .csv, .tsv"),
        ("t.csv", "text,label\na, b,c\nd,e\n", {}, "line 2: 3 fields, and its header has 2; put quotation marks"),
        ("t.tsv", "a\tb\n", {"columns": ["id"]}, "line 1: 2 fields, and data.columns names 1"),
        ("t.csv", "text,text\na,b\n", {}, "the header of the file names the column 'text' twice"),
        ("t.csv", 'text,label\n"a,b\n', {}, "line 2: unexpected end of data; data.quotes=false"),
        ("t.jsonl", '{"text": "a"}\n{"text": \n', {}, "line 2 is no JSON"),
        ("t.jsonl", '{"text": "a"}\n["b"]\n', {}, "line 2: no JSON object with named values"),
        ("t.txt", b"fine\ncaf\xe9\nna\xefve\n", {}, "lines 2, 3: .*utf-8; data.encoding=latin-1 .*data.errors=replace"),
        ("t.txt", b"fine", {"encoding": "utf-9"}, "data.encoding=utf-9.*unknown encoding.*data.encoding=utf-8"),
    ],
)
def test_faults_of_files(tmp_path, name, content, how, message):
    with pytest.raises(InputError, match=message):
        written(tmp_path, name, content, **how)


def test_other_encodings(tmp_path):
    content = "caf\xe9\n".encode("latin-1")
    assert written(tmp_path, "t.txt", content, encoding="latin-1").columns["text"] == ["caf\xe9"]
    assert written(tmp_path, "t.txt", content, errors="replace").columns["text"] == ["caf\ufffd"]


def test_missing_files_are_listed_together(tmp_path):
    (tmp_path / "train.csv").write_text(CSV)
    data = TextFiles(str(tmp_path / "trian.csv"), test=str(tmp_path / "none" / "t.csv"), **options(tmp_path))
    with pytest.raises(InputError) as error:
        data.setup()
    assert "data.train=" in str(error.value) and "did you mean 'train.csv'?" in str(error.value)
    assert "data.test=" in str(error.value) and f"there is no folder {tmp_path / 'none'}" in str(error.value)
    with pytest.raises(InputError, match="this is a folder"):
        TextFiles(str(tmp_path), **options(tmp_path)).setup()


def test_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"")
    real = builtins.__import__

    def without(name, *arguments, **named):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'kdlab\[text\]'"):
        read_table("data.train", str(tmp_path / "t.parquet"), Reading())


@pytest.mark.parametrize(
    "key, name, message",
    [
        ("text", "txet", r"data.text=txet: .*has no column 'txet' \(it has text, label\); did you mean 'text'"),
        ("label", "lable", "data.label=lable: .*did you mean 'label'"),
        ("text_pair", "other", "data.text_pair=other: .*has no column 'other'"),
    ],
)
def test_unknown_columns(tmp_path, key, name, message):
    (tmp_path / "t.csv").write_text(CSV)
    with pytest.raises(InputError, match=message):
        TextFiles(str(tmp_path / "t.csv"), **options(tmp_path, **{key: name})).setup()


def test_rows_without_text_or_label(tmp_path):
    rows = [(f"good film {number}", "pos" if number % 2 else "neg") for number in range(40)]
    rows[3] = ("  ", "pos")
    rows[5] = ("film", "NaN")
    rows[7] = ("", "")
    lines = ["text\tlabel", *("\t".join(row) for row in rows)]
    (tmp_path / "t.tsv").write_text("\n".join(lines))
    with pytest.raises(InputError) as error:
        TextFiles(str(tmp_path / "t.tsv"), **options(tmp_path)).setup()
    assert [*map(str, error.value.problems)] == [
        f"data.text=text: {tmp_path}/t.tsv, lines 5, 9: no text; data.faulty=drop leaves out such rows",
        f"data.label=label: {tmp_path}/t.tsv, lines 7, 9: no label; data.faulty=drop leaves out such rows",
    ]
    data = TextFiles(str(tmp_path / "t.tsv"), faulty="drop", **options(tmp_path))
    assert "data.train: 3 of 40 rows are left out" in "\n".join(data.notes())
    assert data.train_size + len(data._both()[1].target) == 37


@pytest.mark.parametrize(
    "value, more, found",
    [
        (["good", "film"], {"label_kind": "classes"}, "list"),
        ({"en": "good film"}, {}, "dict"),
        ({"en": "good film"}, {"label_kind": "tokens"}, "dict"),
    ],
)
def test_values_that_are_no_texts(tmp_path, value, more, found):
    """Their spelling in Python, with brackets and quotation marks, became the tokens."""
    labels = (["a", "b"], ["a"]) if more.get("label_kind") == "tokens" else ("a", "b")
    rows = [{"text": text, "label": label} for text, label in zip(("good film", value), labels)]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    data = TextFiles(str(path), **options(tmp_path, class_names=["a", "b"], **more))
    with pytest.raises(InputError, match=f"data.text=text: .*t.jsonl, line 2: the value is of type {found}, and no"):
        data.setup()
