"""Runs whose teacher is routed by a column of the texts: who answers which row, what is recorded, what is refused."""

import csv
import json

import pytest
import torch

import kdlab
from kdlab.compare import comparison
from kdlab.config.check import check
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.runs.identity import run_hash
from kdlab.training.assemble import assembled
from kdlab.training.evaluation import evaluate
from kdlab.training.routing import rows_of_members
from tests.data.text.characters import VOCABULARY, character_tokenizer
from tests.data.text.texts import overrides as of_texts
from tests.data.text.texts import sentences, text_file

UP, DOWN = "abcdef", "fedcba"


def rows(number=60, **changed):
    """Letters up or down the alphabet after the same prompt: the source says which. ``changed`` replaces a row's."""
    found = []
    for start in range(number):
        source = "up" if start % 3 else "down"
        letters = ((UP if start % 3 else DOWN) * 3)[start % 6 : start % 6 + 4 + start % 4]
        found.append({"q": "=", "a": letters, "source": source, "other": start})
    for start, source in changed.items():
        found[int(start[1:])]["source"] = source
    return found


def written(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The texts, and a teacher that was trained on those of each source alone."""
    folder = tmp_path_factory.mktemp("letters")
    common = [
        *(
            "task=causal_lm",
            "data=causal_text",
            "data.prompt=q",
            "data.answer=a",
            "data.length=16",
            "data.batch_size=8",
        ),
        "data.validation=0.25",
        f"data.tokenizer={character_tokenizer(folder / 'tokenizer')}",
        *(f"data.vocabulary={VOCABULARY}", "student=llama", "student.layers=1", "student.heads=2"),
        *("optimizer=sgd", "optimizer.lr=0.1", "progress=none", "trainer.accelerator=cpu"),
        *(f"paths.runs={folder / 'runs'}", f"paths.data={folder / 'data'}"),
    ]
    teachers = {}
    for source, width in (("up", 16), ("down", 24)):
        own = written(folder / f"{source}.jsonl", [row for row in rows(180) if row["source"] == source])
        supervised = ["strategy=supervised", "trainer.max_epochs=15", "optimizer=adamw", "optimizer.lr=0.01"]
        more = [f"data.train={own}", f"student.width={width}", "name=teacher", *supervised]
        teachers[source] = kdlab.train([*common, *more])
    train = written(folder / "letters.jsonl", rows())
    given = [*common, f"data.train={train}", "student.width=16", "trainer.max_epochs=2", "loss=[ce,forward_kl]"]
    return folder, given, teachers


def members(teachers, names=None):
    """The overrides that name the members."""
    return [
        one
        for source, run in teachers.items()
        for one in (
            f"+teacher@teacher.members.{(names or {}).get(source, source)}=run",
            f"teacher.members.{(names or {}).get(source, source)}.run={run.path}",
        )
    ]


@pytest.fixture
def common(shared):
    _, given, teachers = shared
    return [*given, "teacher=routed", "teacher.column=source", *members(teachers)]


def curve(run):
    with open(run.metrics_file, newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


def test_each_row_learns_from_its_own(shared, common):
    """The first step's terms by hand, over the stored samples; and what the routes are."""
    parts = assembled(compose(common))
    stored = parts.data._both()
    for split, texts in zip(("train", "test"), stored):
        values = parts.data.column("teacher.column", "source")[split].values
        numbers = parts.teacher.routes[split].tolist()
        assert numbers == [["up", "down"].index(value) for value in values] and set(numbers) == {0, 1}
        # the texts themselves say it, too: up the alphabet, or down
        for number, (ids, labels) in zip(
            numbers, zip(texts.tokens.inputs(torch.arange(len(numbers)), 16)["input_ids"], texts.target)
        ):
            first, second = [int(token) for token in ids[labels != -100][:2]]
            assert (second - first) % 6 == (1 if number == 0 else 5)
    parts.data.seed = 1
    batch = next(iter(parts.data.train_dataloader()))
    outputs, names = parts.teacher.teach(batch), list(parts.teacher.members)
    for place, sample in enumerate(batch.index.tolist()):
        one = parts.teacher.members[names[parts.teacher.routes["train"][sample]]]
        alone = one.teach(batch.take(torch.tensor([place])))
        torch.testing.assert_close(outputs.logits[place], alone.logits[0], rtol=1e-4, atol=1e-4)
    student, task = parts.strategy.student, parts.task
    mine = task.align(task.network_outputs(student, batch), batch).logits.log_softmax(-1)
    theirs = task.align(outputs, batch).logits.log_softmax(-1)
    wanted = (theirs.exp() * (theirs - mine)).sum() / len(mine)
    found = parts.strategy.distill(batch.replace(normaliser=float(len(mine)))).loss.parts["forward_kl"]
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-4, atol=1e-5)


def test_a_run_and_its_record(shared, common, capsys):
    _, given, teachers = shared
    run = kdlab.train([*common, "name=whole"])
    said = capsys.readouterr().out
    assert "teacher up: answers the rows with source=up: " in said and "teacher: a teacher by source (up, down)" in said
    record = run.record["teacher"]
    assert record["column"] == "source" and record["name"] == "a teacher by source (up, down)"
    counts = record["rows"]
    assert {name: sum(one.values()) for name, one in counts.items()} == {"up": 40, "down": 20}
    assert [one["hash"] for one in record["runs"]] == [teachers["up"].hash, teachers["down"].hash]
    for name, member in record["members"].items():
        assert member["name"] == str(teachers[name].path) and member["identity"]["run"] == teachers[name].hash
        assert member["parameters"] > 0 and member["validation_nll"] < 1.5, "it is measured on its own rows"
    whole, weights = record["validation_nll"], {name: one["validation"] for name, one in counts.items()}
    least, most = sorted(member["validation_nll"] for member in record["members"].values())
    assert least <= whole <= most and min(weights.values()) > 0
    assert record["test"]["nll"] < 1.5 and {"test/kl_to_teacher", "test/agreement"} <= set(run.metrics)
    assert run.read().teacher.rows == counts and run.read().teacher.column == "source"
    table = comparison([run]).rows
    assert [row.role for row in table] == ["teacher", "variant"] and table[0].label == record["name"]
    # what one member says of all rows is worse
    parts = assembled(compose(common))
    answers = {name: member.teach for name, member in parts.teacher.members.items()}
    for one in evaluate(answers, parts.data.val_dataloader(), parts.task).values():
        assert one.metrics["nll"] > whole + 0.5


def test_accumulated_batches(common):
    """A batch may hold no row of a member."""
    one = kdlab.train([*common, "name=one", "data.batch_size=9"])
    three = [*common, "name=three", "data.batch_size=3", "trainer.accumulate_grad_batches=3", "task.rows_at_once=3"]
    assert curve(kdlab.train(three)) == pytest.approx(curve(one), rel=1e-3)


@pytest.mark.slow
def test_two_processes(common):
    one, two = (
        kdlab.train([*common, "data.batch_size=4", "data.drop_last=true", *more])
        for more in (["name=alone"], ["name=both", "trainer.devices=2", "trainer.strategy=ddp"])
    )
    assert curve(two) == pytest.approx(curve(one), rel=1e-4)


def test_on_own_answers(common):
    run = kdlab.train(
        [*common, "strategy=on_policy", "strategy.share=0.7", "strategy.longest=5", "loss=[jensen_shannon]", "name=own"]
    )
    with open(run.metrics_file, newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert 0 < float(row["train/own"]) <= 1 and 0 < float(row["train/acceptance"]) <= 1


def test_what_is_kept_is_each_members_own(shared, common):
    """The most probable words of all members are kept; all words of them are the live run."""
    live = kdlab.train([*common, "teacher.cache=live", "name=live"])
    codec = ["teacher.cache=fixed", "teacher.cache_codec=top_k", f"+teacher.cache_k={VOCABULARY}"]
    kept = kdlab.train([*common, *codec, "name=kept"])
    assert curve(kept) == pytest.approx(curve(live), rel=1e-4)
    assert len(list((shared[0] / "runs" / ".cache").glob("*/"))) == 2 and kept.record["cache"]["passes"] == 4
    for codec in ("dense", "hidden"):
        with pytest.raises(InputError, match="teacher.cache=fixed: each member answers rows of its own, so the last"):
            kdlab.train([*common, "teacher.cache=fixed", f"teacher.cache_codec={codec}", "data.pad_to=length"])


def test_text_encoders(tmp_path):
    """Classes of texts, by two networks that were trained with different seeds."""
    given = [one for one in of_texts(tmp_path, teacher=False) if not one.startswith("teacher=")]
    lines = [(*row, "ab"[place // 2 % 2]) for place, row in enumerate(sentences(60))]
    given.append(f"data.train={text_file(tmp_path / 'own.tsv', lines, ('text', 'label', 'origin'))}")
    more = ["teacher=none", "strategy=supervised", "name=teacher", "trainer.max_epochs=12"]
    teachers = {name: kdlab.train([*given, *more, f"seed={seed}"]) for name, seed in (("a", 5), ("b", 6))}
    routed = [*given, "teacher=routed", "teacher.column=origin", *members(teachers)]
    parts = assembled(compose(routed))
    batch = next(iter(parts.data.train_dataloader()))
    logits, numbers = parts.teacher.teach(batch).logits, parts.teacher.numbers("train", batch.index).tolist()
    assert set(numbers) == {0, 1} and not parts.teacher.teach(batch).is_lazy
    for row, number in enumerate(numbers):
        alone = list(parts.teacher.members.values())[number].teach(batch).logits[row]
        torch.testing.assert_close(logits[row], alone, rtol=1e-5, atol=1e-6)
    record = kdlab.train(routed).record
    assert {name: sum(one.values()) for name, one in record["teacher"]["rows"].items()} == {"a": 30, "b": 30}
    assert record["teacher"]["test"]["accuracy"] > 0.7 and record["metrics"]["test/agreement"] > 0.5


# -- which member ------------------------------------------------------------------------------------------------------


def counts_of(overrides):
    """How many rows of all splits each member answers, and the notes for the user."""
    parts = assembled(compose(overrides))
    found = rows_of_members(parts.teacher, parts.data)
    return {name: sum(one.values()) for name, one in found.items()}, parts.notes


def test_other_values_are_routed_by_name_and_by_default(shared):
    folder, given, teachers = shared
    changed = written(folder / "changed.jsonl", rows(r3="left", r4="right", r7=" up ", r9=None))
    begun = [*given, f"data.train={changed}", "teacher=routed", "teacher.column=source"]
    named = [*begun, *members(teachers)]
    found, notes = counts_of([*named, "teacher.routes={left: down, right: up}", "teacher.default=up"])
    assert found == {"up": 41, "down": 19} and not [line for line in notes if "teacher.members" in line]
    # the members have other names than the values
    other = [*begun, *members(teachers, {"up": "rising", "down": "falling"})]
    found, _ = counts_of([*other, "teacher.routes={up: rising, down: falling}", "teacher.default=falling"])
    assert found == {"rising": 39, "falling": 21}
    found, notes = counts_of([*other, "teacher.default=falling"])
    assert found == {"rising": 0, "falling": 60}
    assert "teacher.members.rising: warning: no training row is its own, so nothing is learned from it" in notes


def test_rows_without_a_member_are_named(shared):
    folder, given, teachers = shared
    changed = written(folder / "strange.jsonl", rows(r3="left", r4="left", r9=None))
    named = [*given, f"data.train={changed}", "teacher=routed", "teacher.column=source", *members(teachers)]
    with pytest.raises(InputError) as refused:
        kdlab.train([*named, "name=refused"])
    one, other = sorted(refused.value.problems, key=lambda problem: "empty" in problem)
    assert one.startswith(f"teacher.column=source: {changed}, lines 4, 5: no member is for 'left'")
    assert "no member is for 'left' (teacher.members has up, down); 'teacher.routes={left: up}' names one" in one
    assert other.endswith(
        "line 10: the column is empty, so no member answers; teacher.default=up takes all rows that have none"
    )
    assert not (folder / "runs" / "refused").exists()
    with pytest.raises(InputError, match="'teacher.routes={down: down, left: up}' names one"):
        kdlab.train([*named, "teacher.routes={down: down}", "teacher.default=null"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["teacher.column=sources"],
            r"teacher.column=sources: .*letters.jsonl has no column 'sources' .* did you mean",
        ),
        (["data.packed=true"], "teacher.column=source: data.packed=true puts several texts into one row.*packed=false"),
        (["teacher.default=upp"], "teacher.default: there is no member 'upp'; did you mean 'up'"),
        (["teacher.routes={left: dwon}"], "teacher.routes.left: there is no member 'dwon'; did you mean 'down'"),
        (["teacher.routes=[up]"], "teacher.routes must map values of the column to members"),
        (["+teacher.average=logits"], "teacher.average: with teacher.column one member answers a row"),
        (
            ["loss=[ce,hidden_mse]", *(f"loss.hidden_mse.{one}_tap=hidden1" for one in ("student", "teacher"))],
            "teacher.members.down: its 'hidden1' has the shape .* a loss on features needs members of one width",
        ),
    ],
)
def test_what_does_not_fit_is_refused(shared, common, more, words):
    with pytest.raises(InputError, match=words):
        kdlab.train([*common, *more, "name=refused"])
    assert not (shared[0] / "runs" / "refused").exists()


def test_data_without_columns_are_refused():
    named = ["teacher=routed", "teacher.column=source", "+teacher@teacher.members.up=trained"]
    with pytest.raises(InputError, match="teacher.column=source: Digits has no columns beside inputs and labels; take"):
        assembled(compose(named))


# -- the config --------------------------------------------------------------------------------------------------------

TWO = ["teacher=routed", "teacher.column=source", "teacher.members={a: {run: x}, b: {run: y}}"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["teacher=routed", "teacher.column=source"], "teacher.members: a routed teacher needs members, by the values"),
        (
            ["teacher=routed", "teacher.column=source", "teacher.members.maths.run=RUN"],
            "no such member; a new one is added with a plus sign: +teacher.members.maths.run=RUN",
        ),
        (["teacher=routed", *TWO[2:]], "teacher.column has no value; give it with teacher.column=…"),
        ([*TWO[:1], "teacher.column=3", *TWO[2:]], "teacher.column must be the name of a column of the data, got 3"),
        (
            ["teacher=ensemble", "+teacher.default=first"],
            "teacher.default: it is for a teacher that is routed by a col",
        ),
        (
            [*TWO, "+teacher.members.c={members: {d: {run: z}}, column: e}"],
            "teacher.members.c.column: a member of a te",
        ),
        (
            [*TWO[:2], "+teacher@teacher.members.c=run", "teacher.members.c.run=z", "teacher.members.c.cache=fixed"],
            "no key 'cache'",
        ),
    ],
)
def test_what_the_config_says_is_checked(overrides, words):
    with pytest.raises(InputError) as refused:
        check(compose(overrides))
    assert any(words in problem for problem in refused.value.problems), refused.value.problems


def test_members_are_composed_from_the_files_of_teachers(shared):
    """What such a file says of kept answers is left out: the teacher as a whole says that."""
    _, given, _ = shared
    named = ["teacher=routed", "teacher.column=source"]
    group = [
        *(f"+teacher@teacher.members.{name}=run" for name in "ab"),
        *(f"teacher.members.{name}.run={name}" for name in "ab"),
    ]
    found = compose([*given, *named, *group])
    assert found["teacher"]["members"]["a"] == {"run": "a", "which": "last", "normalisation": None}
    served = [
        "+teacher@teacher.members.c=served",
        "teacher.members.c.address=http://localhost:1",
        "teacher.members.c.model=m",
    ]
    causal = ["+teacher@teacher.members.d=causal", "teacher.members.d.pretrained=name"]
    members = compose([*given, *named, *served, *causal])["teacher"]["members"]
    assert members["c"]["vocabulary"] == members["d"]["vocabulary"] == VOCABULARY and "cache" not in members["c"]
    check(compose([*given, *named, *group, *served, *causal]))


def test_the_column_the_members_and_the_routes_are_part_of_the_identity(common):
    def digest(*overrides):
        return run_hash(compose([*common, *overrides]))

    different = [
        digest(),
        digest("teacher.column=other"),
        digest("teacher.default=up"),
        digest("teacher.routes={left: up}"),
        digest("teacher.routes={left: down}"),
        digest("teacher.members.up.which=best"),
    ]
    assert len(set(different)) == len(different)
    assert digest("teacher.routes={up: up}") == digest() == digest("teacher.cache=live")
