"""Files that are read a block at a time: the same rows and the same messages as of whole files."""

import json

import pytest

from kdlab.data.text import sources
from kdlab.data.text.files import Reading, read_table
from kdlab.data.text.sources import FileSource, some_rows
from kdlab.errors import InputError

LONG = [f"text {number} " + "of some words " * (number % 4) for number in range(40)]
CSV = "text,label\n" + "".join(f'"{text}, ""quoted""\nin two lines",{number}\n' for number, text in enumerate(LONG))
TSV = "text\tlabel\n" + "".join(f'{text} "\t{number}\n' for number, text in enumerate(LONG))
LINES = "\n\n".join(json.dumps({"text": text, "label": number}) for number, text in enumerate(LONG)) + "\n\n"
LIST = json.dumps([{"text": text} for text in LONG], indent=1)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(sources, "CHARACTERS", 100)


def source(path, **how):
    return FileSource("data.train", str(path), Reading(**how), ["text"])


def in_blocks(path, **how):
    return [*source(path, **how).blocks()]


@pytest.mark.parametrize(
    ("name", "content", "how"),
    [
        ("t.csv", CSV, {}),
        ("t.csv", "\ufeff" + CSV.replace("\n", "\r\n"), {}),
        ("t.csv", TSV.replace("\t", ",").replace('"', ""), {"quotes": False, "columns": ["text", "label"]}),
        ("t.tsv", TSV, {}),
        ("t.tsv", TSV.replace("\n", "\r\n"), {}),
        ("t.jsonl", LINES, {}),
        ("t.json", "\ufeff" + LINES, {}),
        ("t.txt", "\ufeff" + "\r\n".join(LONG) + "\r\n \n\n", {}),
        ("t.txt", "\n".join([*LONG, "", "the last line\r"]), {}),
    ],
)
def test_blocks_are_the_whole_file(tmp_path, name, content, how):
    path = tmp_path / name
    path.write_bytes(content.encode())
    whole, blocks = read_table("data.train", str(path), Reading(**how)), in_blocks(path, **how)
    assert len(blocks) > 5 and {block.unit for block in blocks} == {whole.unit}
    assert [number for block in blocks for number in block.numbers] == list(whole.numbers)
    for column, values in whole.columns.items():
        assert [value for block in blocks for value in block.columns[column]] == list(values)


def test_other_encodings(tmp_path):
    path = tmp_path / "t.txt"
    for encoding in ("latin-1", "utf-16"):
        path.write_bytes("\n".join(f"caf\xe9 {text}" for text in LONG).encode(encoding))
        blocks = in_blocks(path, encoding=encoding)
        assert [text for block in blocks for text in block.columns["text"]] == [f"caf\xe9 {text}" for text in LONG]
    path.write_bytes(b"caf\xe9\n")
    assert in_blocks(path, errors="replace")[0].columns["text"] == ["caf\ufffd"]


def test_a_list_of_objects_is_read_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ROWS", 7)
    path = tmp_path / "t.json"
    path.write_text(LIST)
    blocks = in_blocks(path)
    assert [len(block) for block in blocks] == [7, 7, 7, 7, 7, 5] and blocks[1].numbers[0] == 8
    assert [text for block in blocks for text in block.columns["text"]] == LONG


def test_parquet(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr(sources, "_PARQUET_ROWS", 6)
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"text": LONG, "label": range(40)}), path, row_group_size=15)
    blocks = in_blocks(path)
    assert [text for block in blocks for text in block.columns["text"]] == LONG and len(blocks) > 5
    assert [number for block in blocks for number in block.numbers] == [*range(1, 41)]
    assert all(block.columns["label"] == () for block in blocks), "other columns are not read"
    path.write_bytes(b"no")
    with pytest.raises(InputError, match="no Parquet file, or damaged"):
        in_blocks(path)


FAULTS = [
    ("t.csv", "text,label\n" + "a,b\n" * 90 + "c,d,e\n" + "f\n", {}),
    ("t.csv", "text,text\na,b\n", {}),
    ("t.csv", 'text,label\n"a,b\n', {}),
    ("t.tsv", "a\tb\n", {"columns": ["id"]}),
    ("t.jsonl", '{"text": "a"}\n' * 50 + '{"text": \n', {}),
    ("t.jsonl", '{"text": "a"}\n["b"]\n' * 50, {}),
    ("t.txt", b"fine\n" * 9000 + b"caf\xe9\nna\xefve\n", {}),
    ("t.txt", b"fine", {"encoding": "utf-9"}),
    ("t.doc", "x", {}),
    ("trian.txt", None, {}),
]


@pytest.mark.parametrize(("name", "content", "how"), FAULTS)
def test_the_messages_are_those_of_whole_files(tmp_path, name, content, how):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "train.txt").write_text("a")
    with pytest.raises(InputError) as of_blocks:
        in_blocks(path, **how)
    with pytest.raises(InputError) as of_all:
        read_table("data.train", str(path), Reading(**how))
    assert str(of_blocks.value) == str(of_all.value)


def test_what_decides_the_rows(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("text\na\n")
    first = source(path).identity()
    assert source(path, columns=["text"]).identity() != first != source(path, quotes=True).identity()
    assert source(path, quotes=False).identity() == first, "what is read by default"
    assert source(path).size == 7
    path.write_text("text\nb\n")
    assert source(path).identity() != first


def test_some_rows_of_a_table(tmp_path):
    (tmp_path / "t.txt").write_text("a\nb\nc\n")
    table = some_rows(read_table("data.train", str(tmp_path / "t.txt"), Reading()), 1)
    assert table.columns == {"text": ["b", "c"]} and list(table.numbers) == [2, 3] and len(table) == 2
