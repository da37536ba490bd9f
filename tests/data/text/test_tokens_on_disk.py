"""Texts that stay on disk: the same batches as in memory, bounded memory, what is kept when a process ends early."""

import json
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch

import kdlab
from kdlab.cache.inputs import inputs_digest
from kdlab.config.compose import compose
from kdlab.data import CausalTextFiles, HuggingFaceCausalTexts, Sums
from kdlab.data.text import causal, on_disk, sources
from kdlab.data.text.causal_tokens import CausalTokenising
from kdlab.data.text.views import View
from kdlab.errors import InputError
from kdlab.runs.identity import run_hash
from kdlab.tasks import CausalLM
from tests.data.text.characters import VOCABULARY, character_tokenizer
from tests.data.text.tiny_tokenizer import tokenizer_folder

ROWS = [
    {
        "text": "abcdef0123456789"[: 1 + number * 7 % 16] * (1 + number % 3),
        "q": f"{number}+{number % 5}=",
        "a": str(number + number % 5),
        "chat": [
            {"role": "user", "content": f"{number}+1"},
            {"role": "assistant", "content": str(number + 1)},
            {"role": "user", "content": "a" * (number % 4)},
            {"role": "assistant", "content": "bc"},
        ],
    }
    for number in range(60)
]
PLAIN, ANSWERS, CHATS = {}, {"prompt": "q", "answer": "a"}, {"messages": "chat"}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few rows, and a note after each."""
    monkeypatch.setattr(sources, "CHARACTERS", 300)
    monkeypatch.setattr(on_disk, "_SECONDS", 0.0)
    monkeypatch.setattr(causal, "_AT_ONCE", 7)


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def make(tmp_path):
    """Makes a data set of rows: on disk, unless it is asked for in memory."""
    tokenizer = character_tokenizer(tmp_path / "tokenizer", begin=True)

    def made(rows=ROWS, in_memory=False, **options):
        return CausalTextFiles(
            written(tmp_path / "train.jsonl", rows),
            **{
                "tokenizer": tokenizer,
                "length": 24,
                "batch_size": 4,
                "evaluation_batch_size": 5,
                "folder": str(tmp_path / "data"),
                "in_memory": in_memory,
                **options,
            },
        )

    return made


def batches(data):
    """All that a run is given in two epochs, and of validation and test."""
    data.seed, data.row_counts = 1, CausalLM(VOCABULARY).row_counts
    training = data.train_dataloader()
    for epoch in (0, 1):
        training.sampler.set_epoch(epoch)
        yield from training
    yield from data.val_dataloader()
    yield from data.test_dataloader()


def same_batches(one, other):
    compared = 0
    for mine, theirs in zip(batches(one), batches(other), strict=True):
        for name in ("inputs", "teacher_inputs"):
            left, right = getattr(mine, name), getattr(theirs, name)
            assert (left is None) == (right is None)
            if left is not None:
                assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)
        assert torch.equal(mine.labels, theirs.labels) and torch.equal(mine.index, theirs.index)
        assert torch.equal(mine.mask, theirs.mask) and mine.labels.dtype == theirs.labels.dtype
        for name in ("normaliser", "rows", "sample_normaliser", "position_normaliser"):
            assert getattr(mine, name) == getattr(theirs, name), name
        compared += 1
    return compared


@pytest.mark.parametrize("files", [False, True], ids=["parts of train", "files of their own"])
@pytest.mark.parametrize(
    "options",
    [
        {**PLAIN, "packed": True},
        {**PLAIN, "packed": True, "length": 7, "end": False},
        {**ANSWERS, "packed": True},
        {**CHATS, "packed": True, "length": 64},
        PLAIN,
        {**ANSWERS, "buckets": True, "pad_to": 8},
        {**ANSWERS, "teacher_pad_to": "length", "fraction": 0.5},
        {**CHATS, "faulty": "drop", "length": 9},
    ],
    ids=str,
)
def test_the_batches_are_those_in_memory(make, tmp_path, options, files):
    more = {}
    if files:
        more = {
            "validation_file": written(tmp_path / "validation.jsonl", ROWS[7:25]),
            "test": written(tmp_path / "test.jsonl", ROWS[20:31]),
        }
    memory, disk = make(in_memory=True, **options, **more), make(**options, **more)
    assert same_batches(memory, disk) > 5
    assert isinstance(disk._both()[0].tokens.ids, View) and not isinstance(memory._both()[0].tokens.ids, View)
    assert memory.notes() == disk.notes() and memory.facts == disk.facts
    for name in ("longest", "longest_for_teacher", "longest_prompt", "train_size", "vocabulary"):
        assert getattr(memory, name) == getattr(disk, name), name
    assert torch.equal(memory.position_counts(), disk.position_counts())
    assert torch.equal(*(torch.cat([*data.label_blocks()]) for data in (memory, disk)))
    assert inputs_digest(memory) == inputs_digest(disk), "kept answers of a teacher go on being found"


def test_what_is_on_disk_takes_no_memory(make):
    sizes = []
    for where in (True, False):
        data = make([{"text": "abcdef" * 500}] * 20, in_memory=where, length=4000)
        data.setup()
        sizes.append(data.stored_bytes())
    assert sizes[0] > 20 * 3000 * 12 and sizes[1] < 20 * 300


def test_a_teacher_with_another_tokenizer(make, tmp_path):
    other = character_tokenizer(tmp_path / "other", begin=False)
    pair = [make(in_memory=where, teacher_tokenizer=other, **ANSWERS) for where in (True, False)]
    assert same_batches(*pair) > 10 and pair[1].longest_for_teacher == pair[0].longest_for_teacher


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "parquet"])
def test_other_files(make, tmp_path, kind):
    texts = [row["text"] for row in ROWS]
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"text": texts}), path)
    else:
        path.write_text(("" if kind == "txt" else "text\n") + "\n".join(texts) + "\n")
    tokenizer = make().tokenizer.name
    options = {"tokenizer": tokenizer, "length": 24, "batch_size": 4, "folder": str(tmp_path / "data")}
    pair = [CausalTextFiles(str(path), in_memory=where, **options) for where in (True, False)]
    assert same_batches(*pair) > 10


def test_data_sets_of_hugging_face(make, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    made = datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows) for name, rows in (("train", ROWS), ("test", ROWS[:9]))}
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    options = {"tokenizer": make().tokenizer.name, "length": 64, "batch_size": 4, "folder": str(tmp_path / "data")}
    for form in (PLAIN, ANSWERS, CHATS):
        pair = [HuggingFaceCausalTexts("some/set", in_memory=where, **form, **options) for where in (True, False)]
        assert same_batches(*pair) > 10
    with pytest.raises(InputError, match="data.text=txet: some/set, split train has no column 'txet'.*did you mean"):
        HuggingFaceCausalTexts("some/set", in_memory=False, text="txet", **options).setup()


def test_where_texts_are_is_chosen_by_their_size_and_is_no_part_of_a_run(make, tmp_path, monkeypatch):
    assert not make(in_memory=None).on_disk and not Sums().on_disk
    monkeypatch.setattr(causal, "LARGE", 1000)
    assert make(in_memory=None).on_disk and not make(in_memory=True).on_disk and not Sums().on_disk
    with pytest.raises(ValueError, match="in_memory must be true, false or null"):
        make(in_memory="yes")
    given = ["task=causal_lm", "data=causal_text", f"data.train={tmp_path / 'train.jsonl'}", "student=llama"]
    given += [f"data.tokenizer={tmp_path / 'tokenizer'}", "data.vocabulary=24", "strategy=supervised"]
    hashes = {run_hash(compose([*given, f"data.in_memory={value}"])) for value in ("null", "true", "false")}
    del (without := compose(given))["data"]["in_memory"]
    assert hashes == {run_hash(without)}


@pytest.mark.parametrize(
    "more",
    [
        ["strategy=supervised", "data.packed=true", "data.text=q"],
        ["strategy=privileged", "strategy.longest=4", "data.prompt=q", "data.answer=a", "student.positions=64"],
    ],
    ids=str,
)
def test_a_run_has_the_same_numbers(make, tmp_path, more):
    make()
    weights = []
    for where in ("true", "false"):
        run = kdlab.train(
            [
                *("task=causal_lm", "data=causal_text", "student=llama", "student.layers=1"),
                *("student.width=16", "student.heads=2", "trainer.max_epochs=2", "progress=none", "data.length=16"),
                *(f"data.train={tmp_path / 'train.jsonl'}", f"data.tokenizer={tmp_path / 'tokenizer'}"),
                *(f"data.vocabulary={VOCABULARY}", "data.batch_size=8", f"data.in_memory={where}", *more),
                *(f"paths.runs={tmp_path / where}", f"paths.data={tmp_path / 'data'}"),
            ]
        )
        weights.append((run.student.state_dict(), {k: v for k, v in run.metrics.items() if k.startswith("test/")}))
    (one, scores), (other, again) = weights
    assert scores == again and all(torch.equal(value, other[name]) for name, value in one.items())


# -- what is kept ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tokenised(monkeypatch):
    """The numbers of texts that were tokenised at a time."""
    counts, made = [], CausalTokenising.made
    monkeypatch.setattr(
        CausalTokenising, "made", lambda self, texts, pairs=None: counts.append(len(texts)) or made(self, texts, pairs)
    )
    return counts


def test_tokens_are_made_once(make, tokenised, monkeypatch):
    first = make(packed=True)
    first.setup()
    assert sum(tokenised) == 60 and len(tokenised) > 3
    tokenised.clear()
    for options in ({}, {"length": 16}, {"faulty": "drop"}, {"batch_size": 8}):
        make(packed=True, **options).setup()
    assert not tokenised
    make().setup()
    assert sum(tokenised) == 60, "texts that are cut have others"
    monkeypatch.setattr(sources.FileSource, "blocks", lambda _: pytest.fail("the texts are not needed"))
    make(packed=True).setup()


def folder_of(data):
    (made,) = {one.path for one in data._made.values()}
    return made


@pytest.mark.parametrize("damage", ["ids", "ends", "tokens.json"])
def test_damaged_tokens_are_made_again(make, tokenised, damage):
    data = make()
    data.setup()
    path = folder_of(data) / damage
    path.write_bytes(path.read_bytes()[:-3])
    tokenised.clear()
    assert same_batches(make(in_memory=True), make()) > 10
    assert sum(tokenised) == 120


def _child(work):
    """Runs ``work`` in a forked process, and returns how that ended."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def test_a_killed_process_is_followed_by_the_next(make, tokenised, monkeypatch):
    """It is killed while a block is written: between two of its arrays."""
    write, calls = on_disk._write, []

    def killing(file, values):
        calls.append(1)
        if len(calls) == 14:  # four arrays a block
            write(file, values[: len(values) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(file, values)

    monkeypatch.setattr(on_disk, "_write", killing)
    assert os.WIFSIGNALED(_child(lambda: make().setup()))
    monkeypatch.setattr(sources, "CHARACTERS", 170)  # blocks need not be those of before
    monkeypatch.setattr(on_disk, "_write", write)
    data = make()
    before = json.loads((folder_of(data) / "tokens.json").read_text())
    assert not before["complete"] and 0 < before["rows"] < 60
    data.setup()
    assert sum(tokenised) == 60 - before["rows"], "what was done is not made again"
    assert same_batches(make(in_memory=True), make()) > 10


def test_an_interrupted_process_keeps_whole_blocks(make, tokenised, monkeypatch):
    write, calls = on_disk._write, []

    def interrupted(file, values):
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        write(file, values)

    monkeypatch.setattr(on_disk, "_SECONDS", 1000.0)
    monkeypatch.setattr(on_disk, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make().setup()
    monkeypatch.setattr(on_disk, "_write", write)
    done = sum(tokenised[:2])
    tokenised.clear()
    data = make()
    data.setup()
    assert sum(tokenised) == 60 - done and same_batches(make(in_memory=True), data) > 10


def test_a_full_disk(make, tokenised):
    """Here the system refuses to write more than 1,500 bytes into a file."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    data = make(packed=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, old[1]))
    try:
        with pytest.raises(InputError) as caught:
            data.setup()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    done = json.loads((folder_of(data) / "tokens.json").read_text())["rows"]
    assert f"those of {done} rows are kept, and are not made again" in str(caught.value) and 0 < done < 60
    assert "cannot be written (File too large)" in str(caught.value) and "data.folder=FOLDER" in str(caught.value)
    tokenised.clear()
    assert same_batches(make(packed=True, in_memory=True), make(packed=True)) > 5
    assert sum(tokenised) == 60 + 60 - done


def test_a_small_file_system(make, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system (tmpfs) needs root, outside of a restricted container")
    try:
        rows = [{"text": "abcdef" * 4}] * 400
        with pytest.raises(InputError, match=r"\(No space left on device\).*Free some space"):
            make(rows, folder=str(small)).setup()
        assert list((small / ".tokens").iterdir())
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_folder_that_cannot_be_written(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"data.folder=.*file: the tokens of data.train=.* cannot be written \(Not a dir"
    ):
        make(folder=str(tmp_path / "file")).setup()
    assert make(folder=str(tmp_path / "file"), in_memory=True).train_size > 0


def test_two_processes_at_once(make, tmp_path, monkeypatch):
    """Each text is tokenised by one of them, and both have the right tokens."""
    made, log = CausalTokenising.made, tmp_path / "log"

    def noted(self, texts, pairs=None):
        with open(log, "a") as file:
            file.write(f"{len(texts)} {os.getpid()}\n")
        return made(self, texts, pairs)

    monkeypatch.setattr(CausalTokenising, "made", noted)
    wanted = make(in_memory=True)
    wanted.setup()
    log.unlink()
    data = [make() for _ in range(3)]

    def work(number):
        (tmp_path / f"digest{number}").write_text(inputs_digest(data[number]))

    children = []
    for number in (0, 1):
        child = os.fork()
        if not child:
            try:
                work(number)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert {(tmp_path / f"digest{number}").read_text() for number in (0, 1)} == {inputs_digest(wanted)}
    assert sum(int(line.split()[0]) for line in log.read_text().splitlines()) == 60


# -- faulty rows -------------------------------------------------------------------------------------------------------


def both_messages(make, rows, **options):
    """The message of texts on disk, which is that of texts in memory."""
    found = []
    for where in (True, False):
        with pytest.raises(InputError) as caught:
            make(rows, in_memory=where, **options).setup()
        found.append(str(caught.value))
    assert found[0] == found[1]
    return found[1]


def changed(**by_number):
    """Rows of which some have another value: ``row5={...}``."""
    return [{**row, **by_number.get(f"row{number}", {})} for number, row in enumerate(ROWS)]


def test_faulty_rows_are_named_over_all_blocks(make):
    rows = changed(row2={"text": " "}, row30={"text": None}, row59={"text": ""})
    assert "lines 3, 31, 60: no text; data.faulty=drop leaves out such rows" in both_messages(make, rows)
    pair = [make(rows, in_memory=where, faulty="drop", packed=True) for where in (True, False)]
    assert same_batches(*pair) > 5 and pair[0].notes() == pair[1].notes()
    assert "data.train: 3 of 60 rows are left out" in "\n".join(pair[1].notes())
    assert "lines 3, 31, 60: no text" in both_messages(make, rows, packed=True), "although their tokens are kept"
    assert "every row is without a text" in both_messages(make, [{"text": ""}] * 50, faulty="drop")
    lists = changed(row8={"text": ["a", "b"]}, row40={"text": {"a": 1}})
    assert "lines 9, 41: the value is of type list, and no text" in both_messages(make, lists)
    chats = changed(row7={"chat": [{"role": "user", "content": "a"}]}, row50={"chat": "no"})
    assert "lines 8, 51: a chat is a list of messages" in both_messages(make, chats, messages="chat", length=64)
    missing = [{"txt": "a", **({"q": "b"} if number else {})} for number in range(40)]
    assert "has no column 'text' (it has txt, q); did you mean 'txt'" in both_messages(make, missing)
    assert "has no column 'answers'" in both_messages(make, ROWS, prompt="q", answer="answers")


def test_texts_without_a_token_to_predict_and_long_ones(make):
    rows = changed(**{f"row{number}": {"q": "1+1=2+3+4+5"} for number in (3, 20, 21, 40, 41, 42, 58)})
    options = {**ANSWERS, "length": 9}
    message = both_messages(make, rows, **options)
    assert "lines 4, 21, 22, 41, 42 and 2 more: no token is left to predict within data.length=9" in message
    pair = [make(rows, in_memory=where, faulty="drop", **options) for where in (True, False)]
    assert same_batches(*pair) > 10 and pair[0].notes() == pair[1].notes()
    assert "texts of data.train are longer than 9 tokens" in both_messages(make, ROWS, length=9, truncate=False)


def test_a_template_that_cannot_be_used_names_the_chat(make, tmp_path):
    changing = "{% for m in messages %}{{ m['content'] }}{% if m['content'] == '40' %}{{ messages|length }}{% endif %}"
    tokenizer = character_tokenizer(tmp_path / "changing", template=changing + "{% endfor %}")
    assert "(chat 40, message 4)" in both_messages(make, ROWS, tokenizer=tokenizer, **CHATS)


def test_the_problems_of_all_files_are_listed(make, tmp_path):
    (tmp_path / "test.txt").write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(InputError) as caught:
        make(changed(row5={"text": ""}), test=str(tmp_path / "test.txt")).setup()
    assert len(caught.value.problems) == 2 and "train.jsonl, line 6: no text" in str(caught.value)
    assert "line 2: bytes that are not data.encoding=utf-8" in str(caught.value)


# -- memory ------------------------------------------------------------------------------------------------------------

MEASURED = """
import sys
from kdlab.data import CausalTextFiles
from kdlab.data.text import sources

def peak():
    with open("/proc/self/status") as file:  # ru_maxrss would begin with the peak of the process that started this one
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024

def batches(path):
    data = CausalTextFiles(path, **options)
    data.setup()
    return sum(len(batch) for batch in data.train_dataloader())

sources.CHARACTERS = 2**17
small, large, tokenizer, folder, in_memory = sys.argv[1:]
options = dict(tokenizer=tokenizer, folder=folder, length=64, packed=True, end=False, batch_size=16)
options["in_memory"] = in_memory == "True"
batches(small)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak is that from now on
before = peak()
print(batches(large), peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory as Linux gives it")
def test_memory_is_bounded(tmp_path):
    """Beyond what a small file takes, an epoch of a large one takes less than half of its size on disk, and more
    than twice its size in memory."""
    tokenizer = tokenizer_folder(tmp_path / "tokenizer")
    for name, count in (("small", 600), ("large", 20_000)):  # each word is one token
        with open(tmp_path / f"{name}.txt", "w") as file:
            for number in range(count):
                file.write(" ".join(f"{number:04}{word}" * 20 for word in "abcdefghijkl") + "\n")
    size = (tmp_path / "large.txt").stat().st_size / 2**20
    grown, samples = {}, {}
    for where in (True, False):
        files = [str(tmp_path / name) for name in ("small.txt", "large.txt")]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *files, tokenizer, str(tmp_path / f"data{where}"), str(where)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        samples[where], grown[where] = (float(one) for one in done.stdout.split())
    assert samples[True] == samples[False] > 1000
    assert grown[False] < size / 2 < 2 * size < grown[True], (size, grown)
