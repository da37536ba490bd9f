"""kdlab generate: answers that do not depend on batches, are kept when it is killed, and train a student."""

import errno
import json
import os
import re
import shutil

import pytest
import torch

import kdlab
from kdlab.cli.generate import composed
from kdlab.cli.main import main
from kdlab.errors import InputError
from kdlab.generate import answering, generate, kept
from kdlab.models import CausalModel
from tests.data.text.characters import END, VOCABULARY, character_tokenizer, exchange
from tests.models.gguf_files import byte_tokenizer, write_gguf

PROMPTS = [f"{one}+{two}=" for one in (1, 22, 3) for two in (4, 555, 66666)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random model that often ends its answers, with its tokenizer, in a folder."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(3)
    network = CausalModel(
        architecture="llama", vocabulary=VOCABULARY + 4, layers=2, width=32, heads=2, positions=48, tied=False
    )
    with torch.no_grad():
        network.network.lm_head.weight.mul_(20)
        network.network.lm_head.weight[END] *= 1.7
        network.network.lm_head.weight[VOCABULARY:] *= 50  # columns that are no token, which would often be chosen
    network.network.save_pretrained(str(folder))
    character_tokenizer(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": one, "n": 7}) + "\n" for one in PROMPTS))
    return tmp_path


def words(model, *more):
    return [
        *([] if model is None else [f"teacher.pretrained={model}"]),
        "data.prompts=prompts.jsonl",
        "out=answers.jsonl",
        "sampling.max_tokens=12",
        "filter.truncated=false",
        "filter.empty=false",
        "progress=none",
        *more,
    ]


def made(model, *more, out="answers.jsonl"):
    generate(composed([*words(model, *more), f"out={out}"]))
    with open(out) as file:
        return [json.loads(line) for line in file]


def answers(rows):
    return [(row["index"], row["sample"], row["answer"], row["finish"]) for row in rows]


def test_answers_are_those_of_one_prompt_at_a_time(model, place):
    one = made(model, "data.batch_size=1", out="one.jsonl")
    assert [row["prompt"] for row in one] == PROMPTS and [row["index"] for row in one] == list(range(9))
    assert all("n" not in row for row in one)
    assert answers(made(model, "data.batch_size=4", "data.keep=[n]", out="four.jsonl")) == answers(one)
    with open("four.jsonl") as file:
        assert json.loads(file.readline())["n"] == 7
    reference = CausalModel(pretrained=str(model)).eval()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model))
    for row in one[:4]:
        ids = torch.tensor([tokenizer(row["prompt"])["input_ids"]])
        written = []
        for _ in range(12):
            token = int(reference(ids)[0, -1, :VOCABULARY].argmax())
            written.append(token)
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
            if token == tokenizer.eos_token_id:
                break
        assert row["answer"] == tokenizer.decode(written, skip_special_tokens=True) and row["tokens"] == len(written)


def test_draws_do_not_depend_on_the_batch_nor_on_the_other_prompts(model, place):
    drawn = ["sampling.temperature=1.5", "sampling.samples=3", "filter.duplicates=false"]
    one = made(model, *drawn, "data.batch_size=5", out="one.jsonl")
    assert len(one) == 27 and len({row["answer"] for row in one}) > 5
    assert answers(made(model, *drawn, "data.batch_size=2", out="two.jsonl")) == answers(one)
    few = made(model, *drawn, "data.limit=2", out="few.jsonl")
    assert answers(few) == answers(one)[:6]
    assert answers(made(model, *drawn, "sampling.seed=2", out="three.jsonl")) != answers(one)
    more = made(model, *drawn, "sampling.samples=4", out="one.jsonl")  # the first three are there already
    assert [row for row in answers(more) if row[1] < 3] == answers(one)


def test_killed_at_any_moment_it_resumes(model, place, monkeypatch, capsys):
    whole = made(model, "data.batch_size=2", out="whole.jsonl")
    add, calls = kept.Kept.add, []

    def killed(self, part):
        calls.append(len(part))
        if len(calls) == 3:
            with open(self.every, "a") as file:
                file.write('{"index": 4, "sam')  # a line that is half written
            raise KeyboardInterrupt
        add(self, part)

    monkeypatch.setattr(kept.Kept, "add", killed)
    assert main(["generate", *words(model, "data.batch_size=2")]) == 130
    assert "finished answers are kept, and the same command resumes" in capsys.readouterr().err
    assert not (place / "answers.jsonl").exists()
    calls.clear()
    monkeypatch.setattr(kept.Kept, "add", lambda self, part: (calls.append(len(part)), add(self, part)))
    assert main(["generate", *words(model, "data.batch_size=2")]) == 0
    assert sum(calls) == 5 and (place / "answers.jsonl").read_bytes() == (place / "whole.jsonl").read_bytes()
    assert "9 of 9 answers to 9 prompts" in capsys.readouterr().out
    assert len(whole) == 9

    calls.clear()
    monkeypatch.setattr("kdlab.generate.answering.build", None)  # the model is not needed to filter again
    assert main(["generate", *words(model, "filter.characters=1000")]) == 0
    assert not calls and "all were there already" in capsys.readouterr().out


def test_filters_count_what_they_leave_out(model, place):
    (place / "prompts.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in [*PROMPTS, PROMPTS[1]]))
    drawn = ["sampling.temperature=1.5", "sampling.samples=4", "sampling.max_tokens=24"]
    rows = made(model, *drawn, "filter.duplicates=false")
    lengths = sorted(len(row["answer"]) for row in rows if row["finish"] == "stop")
    most = max(lengths[len(lengths) // 2], 1)
    summary = generate(composed(words(model, *drawn, "filter.truncated=true", f"filter.characters={most}")))
    counts = summary.counts
    assert counts["answers"] == 40 and counts["truncated"] == sum(row["finish"] == "length" for row in rows) > 0
    assert counts["too long"] == sum(length > most for length in lengths)
    assert counts["kept"] + counts["truncated"] + counts["too long"] + counts["duplicate"] == 40
    manifest = json.loads((place / "answers.manifest.json").read_text())
    assert manifest["status"] == "finished" and manifest["counts"] == dict(counts)
    assert manifest["teacher"]["licence"] == "apache-2.0" and manifest["prompts"]["number"] == 10
    assert manifest["sampling"]["max_tokens"] == 24 and len(manifest["identity"]["prompts"]) == 64
    assert made(model, out="greedy.jsonl")[-1]["index"] == 8, "the same prompt and answer again are left out"


def test_a_chat_is_written_by_the_template(model, place):
    rows = made(model, "data.chat=true", out="chat.jsonl")
    chats = [{"talk": [{"role": "user", "content": one}]} for one in PROMPTS]
    (place / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in chats))
    same = made(model, "data.messages=talk", out="messages.jsonl")
    assert answers(same) == answers(rows)
    assert (
        rows[0]["messages"]
        == same[0]["messages"]
        == [*chats[0]["talk"], {"role": "assistant", "content": same[0]["answer"]}]
    )


def test_a_student_learns_from_the_answers(model, place):
    made(model, "sampling.temperature=1.5", "sampling.samples=3", "filter.empty=true")
    run = kdlab.train(
        [
            *("task=causal_lm", "data=causal_text", "data.train=answers.jsonl", "data.prompt=prompt"),
            *("data.answer=answer", f"data.tokenizer={model}", f"data.vocabulary={VOCABULARY}", "data.length=48"),
            *("student=llama", "student.layers=1", "student.width=16", "student.heads=2", "strategy=supervised"),
            *("trainer.max_epochs=1", "progress=none", "data.batch_size=2", "data.validation=0.2"),
        ]
    )
    rows = made(None, "teacher=run", f"teacher.run={run.path}", out="student.jsonl")
    assert [row["prompt"] for row in rows] == PROMPTS
    manifest = json.loads((place / "student.manifest.json").read_text())
    assert manifest["teacher"]["name"] == str(run.path) and manifest["tokenizer"] == str(model)


def test_prompts_in_the_tokens_of_another_model_are_refused(model, place):
    exchange(character_tokenizer(place / "other"))
    words = (
        "^teacher.pretrained=.*: it learned other tokens than those of data.tokenizer=other: it makes .*; leave data"
    )
    with pytest.raises(InputError, match=words):
        made(model, "data.tokenizer=other")


def test_a_gguf_file_answers(place):
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    network = CausalModel(architecture="llama", vocabulary=320, layers=1, width=32, heads=2)
    file = write_gguf(place / "m.gguf", network.network, tokenizer)
    rows = made(file)
    assert len(rows) == 9 and json.loads((place / "answers.manifest.json").read_text())["teacher"]["licence"] == "mit"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lower_precision_rounds_weights_and_no_rotary_frequencies(model, place, monkeypatch, precision):
    seen = {}

    def network(source, config):
        found = loaded(source, config)
        seen.update({name: one.dtype for name, one in [*found.named_parameters(), *found.named_buffers()]})
        return found

    loaded = answering._network
    monkeypatch.setattr(answering, "_network", network)
    assert len(made(model, f"precision={precision}")) == 9
    buffers = {dtype for name, dtype in seen.items() if name.endswith("inv_freq")}
    assert buffers == {torch.float32}
    assert {dtype for name, dtype in seen.items() if name.endswith("weight")} == {getattr(torch, precision)}


def refused(capsys, model, *more, code=2):
    assert main(["generate", *words(model, *more)]) == code
    said = capsys.readouterr().err
    assert said.startswith("kdlab: ") and "Traceback" not in said and said.count("kdlab: ") == 1
    return said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["data.prompts=none.jsonl"], "data.prompts=none.jsonl: there is no such file"),
        (["data.prompts=empty.jsonl"], "data.prompts=empty.jsonl: the file holds no rows"),
        (["data.prompt=promt"], r"data.prompt=promt: prompts.jsonl has no column 'promt' .*did you mean 'prompt'"),
        (["data.keep=[m]"], "data.keep=m: prompts.jsonl has no column 'm'"),
        (["data.prompt=n"], "data.prompt=n: prompts.jsonl, .*a prompt must be a text"),
        (["data.prompts=half.jsonl"], "half.jsonl, line 2: the prompt is empty, or holds half of a surrogate pair"),
        (["data.messages=talk", "data.prompts=half.jsonl"], "half.jsonl, lines 1, 2: a chat is a list of messages"),
        (
            ["data.keep=[score]", "data.prompts=kept.jsonl"],
            "data.keep=score: kept.jsonl, line 1: 'nan' cannot be written",
        ),
        (["data.keep=[half]", "data.prompts=kept.jsonl"], "data.keep=half: kept.jsonl, line 1: .* cannot be written"),
        (["data.keep=n"], r"data.keep must be a list of columns, got 'n'; data.keep=\[n\]"),
        (["data.prompts=blank.jsonl", "data.faulty=drop", "data.limit=1"], "blank.jsonl has no prompt that can be"),
        (["data.prompts=blank.jsonl"], "blank.jsonl, line 1: the prompt is empty; data.faulty=drop"),
        (["data.messages=prompt"], "a chat is a list of messages with role and content"),
        (["sampling.max_tokens=40"], r"line.* more than the 48 tokens .*sampling.max_tokens=39 leaves room for all"),
        (["sampling.max_tokens=60"], "more than the 48 tokens that the model can read"),
        (["sampling.temprature=1"], "sampling.temprature.*did you mean 'temperature'"),
        (["+sampling.temprature=1"], "sampling.temprature: there is no such key; did you mean 'temperature'"),
        (["out=answers.csv"], r"out=answers.csv: .* a name that ends in .jsonl"),
        (["teacher=none"], "teacher: answers are generated by teacher=causal"),
        (["teacher=run", "teacher.run=nowhere"], "teacher.run: nowhere is no run directory"),
        (["teacher.pretrained=nowhere/at/all"], "there is no folder nowhere/at/all"),
        (["precision=float8"], "precision must be one of float32"),
        (["device=tpu9"], "device=tpu9: there is no such device"),
        (["data.batch_size=0"], "data.batch_size must be a whole number of at least 1"),
    ],
)
def test_bad_input_is_one_message(model, place, capsys, more, message):
    (place / "empty.jsonl").write_text("")
    (place / "blank.jsonl").write_text('{"prompt": " "}\n{"prompt": "1+1="}\n')
    half = (
        r'{"prompt": "1+1=", "talk": [{"role": "user", "content": "\ud83d"}]}' + "\n" + r'{"prompt": "\ud83d"}' + "\n"
    )
    (place / "half.jsonl").write_text(half)
    (place / "kept.jsonl").write_text(r'{"prompt": "1+1=", "score": NaN, "half": "\ud83d"}' + "\n")
    other = any(one.startswith("teacher=") for one in more)
    assert main(["generate", *words(None if other else model, *more)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("kdlab: ") and "Traceback" not in said
    assert re.search(message, said), said
    assert not list(place.glob("answers*"))


def test_columns_of_parquet_that_are_no_json_are_refused_before(model, place, capsys):
    import datetime
    import decimal

    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    values = {"day": datetime.date(2024, 1, 2), "price": decimal.Decimal("1.5"), "raw": b"x", "score": float("nan")}
    columns = {"prompt": ["1+1=", "2+2="], "id": [1, 2], **{name: [None, one] for name, one in values.items()}}
    parquet.write_table(pyarrow.table(columns), "prompts.parquet")
    for name in values:
        said = refused(capsys, model, "data.prompts=prompts.parquet", f"data.keep=[id,{name}]")
        assert f"data.keep={name}: prompts.parquet, row 2: " in said and "cannot be written as JSON" in said
    assert not list(place.glob("answers*"))
    assert len(made(model, "data.prompts=prompts.parquet", "data.keep=[id,day]", "data.limit=1")) == 1


def test_a_prompt_that_is_no_text_is_left_out_where_that_is_asked_for(model, place):
    (place / "prompts.jsonl").write_text(r'{"prompt": "\ud83d"}' + "\n" + '{"prompt": "1+1="}\n')
    rows = made(model, "data.faulty=drop")
    assert [(row["index"], row["prompt"]) for row in rows] == [(1, "1+1=")]


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.all.jsonl", "link.jsonl"])
def test_the_prompts_are_never_written_over(model, place, capsys, name):
    (place / "prompts.jsonl").rename(name)
    if name == "link.jsonl":
        (place / "answers.jsonl").symlink_to(name)
    before = (place / name).read_bytes()
    for fresh in ("true", "false"):
        said = refused(capsys, model, f"data.prompts={name}", f"fresh={fresh}")
        assert "is the file of prompts (data.prompts), and would be written over; choose another out=…" in said
    assert (place / name).read_bytes() == before


def test_missing_values_are_named_together(capsys):
    assert main(["generate"]) == 2
    said = capsys.readouterr().err
    for line in ("data.prompts has no value", "out has no value; give it with out=answers.jsonl", "teacher.pretrained"):
        assert line in said


def test_prompts_that_are_too_long_are_dropped_where_that_is_asked_for(model, place):
    summary = generate(composed(words(model, "sampling.max_tokens=40", "data.faulty=drop")))
    assert summary.counts["prompts left out"] == 1 and summary.counts["answers"] == 8


def test_answers_of_another_kind_are_not_mixed(model, place, capsys):
    made(model)
    before = (place / "answers.jsonl").read_bytes()
    for more, message in (
        (["sampling.max_tokens=11"], "sampling.max_tokens=12 (now 11)"),
        (["data.limit=3"], "prompts="),
        (["data.chat=true"], "data.chat=false (now true)"),
    ):
        said = refused(capsys, model, *more)
        assert message in said and "Choose another out=…, or fresh=true throws them away" in said
    assert (place / "answers.jsonl").read_bytes() == before
    assert main(["generate", *words(model, "sampling.max_tokens=11", "fresh=true")]) == 0
    (place / "answers.manifest.json").unlink()
    assert "no manifest says what it holds" in refused(capsys, model)


def test_a_model_in_another_place_is_the_same_and_another_one_is_not(model, place, capsys):
    made(model)
    before = (place / "answers.jsonl").read_bytes()
    shutil.copytree(model, place / "moved")
    assert main(["generate", *words("moved")]) == 0
    assert "all were there already" in capsys.readouterr().out and (place / "answers.jsonl").read_bytes() == before
    config = json.loads((place / "moved" / "config.json").read_text())
    (place / "moved" / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert "the teacher's content=" in refused(capsys, "moved")


def test_a_full_disk_keeps_what_is_finished(model, place, capsys, monkeypatch):
    written = []

    def full(self, part):
        if written:
            real = open(self.every, "ab", buffering=0)

            class Full:
                def __enter__(self):
                    return self

                def __exit__(self, *error):
                    real.close()

                def seek(self, *place):
                    return real.seek(*place)

                def write(self, content):
                    if len(content) > 10:
                        return real.write(content[:10])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            monkeypatch.setattr(kept, "open", lambda *arguments, **options: Full(), raising=False)
        written.append(len(part))
        add(self, part)

    add = kept.Kept.add
    monkeypatch.setattr(kept.Kept, "add", full)
    said = refused(capsys, model, "data.batch_size=4", code=1)
    assert "No space left" in said and "Finished answers are kept; the same command resumes" in said
    lines = (place / "answers.all.jsonl").read_text().splitlines()
    assert len(lines) == 4 and all(json.loads(line) for line in lines)
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert main(["generate", *words(model)]) == 0


def test_answers_of_a_command_with_fresh_resume_without_it(model, place, capsys, monkeypatch):
    def full(self, part):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "answers.all.jsonl")

    def interrupted(self, part):
        raise KeyboardInterrupt

    for add, code in ((full, 1), (interrupted, 130)):
        monkeypatch.setattr(kept.Kept, "add", add)
        assert "the same command without fresh=true resumes" in refused(capsys, model, "fresh=true", code=code)
        assert "the same command resumes" in refused(capsys, model, code=code)


def test_no_answer_left_is_said(model, place, capsys):
    said = refused(capsys, model, "sampling.max_tokens=1", "filter.truncated=true", "filter.empty=true")
    assert "filter: no answer is left of 9" in said and "answers.all.jsonl" in said


def test_a_damaged_line_is_named(model, place, capsys):
    made(model)
    lines = (place / "answers.all.jsonl").read_text().splitlines()
    (place / "answers.all.jsonl").write_text("\n".join([lines[0], "{", *lines[2:]]) + "\n")
    assert "answers.all.jsonl, line 2: this is no answer that kdlab wrote" in refused(capsys, model)
    with pytest.raises(InputError, match="is damaged"):
        (place / "answers.manifest.json").write_text("[]")
        generate(composed(words(model)))
