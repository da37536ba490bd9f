"""A teacher that names its classes in another order than the data, or by other names."""

import json
import shlex

import pytest
import torch

import kdlab
from kdlab import train
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.runs.identity import run_hash
from kdlab.training.assemble import assembled
from tests.data.text.texts import overrides
from tests.data.text.tiny_tokenizer import WORDS, tokenizer_folder

SIZES = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4}


def encoder_folder(folder, names, classes=None):
    """A saved BERT with weights that are a function of their places."""
    from transformers import BertConfig, BertForSequenceClassification

    labels = {"id2label": dict(enumerate(names))} if names else {"num_labels": classes}
    made = BertForSequenceClassification(BertConfig(vocab_size=33, max_position_embeddings=16, **SIZES, **labels))
    with torch.no_grad():
        for number, value in enumerate(made.parameters(), start=1):
            value.copy_((torch.arange(value.numel()) * number + 1).sin().view_as(value) * 2)
    made.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def typed(tmp_path):
    """The command line of a run whose teacher names its classes; the data have neg, pos."""

    def make(names, *more):
        folder = encoder_folder(tmp_path / "teacher", names, 2)
        given = [text for text in overrides(tmp_path, teacher=False) if text != "teacher=none"]
        return [*given, "teacher=encoder", f"teacher.pretrained={folder}", *more]

    return make


def test_its_outputs_come_in_the_order_of_the_data(typed):
    parts = assembled(compose(typed(["Pos", "NEG"])))
    assert parts.teacher.class_order == (1, 0)
    batch = parts.data.train_dataloader().first(4)
    raw = parts.teacher.network(**batch.inputs)
    assert torch.equal(parts.teacher.teach(batch).logits, raw[:, [1, 0]]) and not torch.equal(raw[:, 0], raw[:, 1])
    (line,) = [note for note in parts.notes if "order" in note]
    assert line == (
        "teacher: its classes are in the order Pos, NEG; its outputs are brought into the order of the data, neg, pos"
    )


@pytest.mark.parametrize("names", [None, ["0", "1"], ["neg", "pos"], ["LABEL_0", "LABEL_1"]])
def test_the_same_order_and_classes_without_names_are_left_alone(typed, names):
    parts = assembled(compose(typed(names)))
    assert parts.teacher.class_order is None and not [note for note in parts.notes if "order" in note]


def test_other_names_are_refused_and_the_line_works(typed):
    given = typed(["NEGATIVE", "POSITIVE"])
    with pytest.raises(InputError) as error:
        assembled(compose(given))
    told = str(error.value)
    assert "names its classes NEGATIVE, POSITIVE, and the data have neg, pos" in told
    cure = shlex.split(told.rpartition(": ")[2])
    assert cure == ["teacher.class_names=[neg,pos]"]
    assert assembled(compose([*given, *cure])).teacher.class_order is None
    assert assembled(compose([*given, "teacher.class_names=[pos,neg]"])).teacher.class_order == (1, 0)
    for wrong in ("[pos,good]", "[pos]"):
        with pytest.raises(InputError, match="it must hold each class of the data once"):
            assembled(compose([*given, f"teacher.class_names={wrong}"]))
    with pytest.raises(InputError, match="must be a list of names"):
        assembled(compose([*given, "teacher.class_names=pos"]))


def test_the_declared_order_counts_and_null_does_not(typed):
    given = typed(None)
    plain, turned = compose(given), compose([*given, "teacher.class_names=[pos,neg]"])
    assert plain["teacher"].pop("class_names") is None
    assert run_hash(plain) == run_hash(compose(given)) != run_hash(turned)


def test_kept_answers_have_the_order_of_the_data(typed, tmp_path):
    given = typed(["pos", "neg"], "data.pad_to=length", "teacher.cache=fixed")
    runs = [kdlab.train([*given, f"name={name}"]) for name in ("one", "two")]
    live = kdlab.train([*given, "teacher.cache=live", "name=live"])
    assert [json.loads((one.path / "run.json").read_text())["cache"]["computed"] for one in runs] == [1, 0]
    curves = {
        tuple(line.split(",")[0:3]) for one in (*runs, live) for line in [one.metrics_file.read_text().split()[-1]]
    }
    assert len(curves) == 1
    straight = encoder_folder(tmp_path / "straight", ["neg", "pos"])
    other = kdlab.train([*given, f"teacher.pretrained={straight}", "name=straight"])
    assert json.loads((other.path / "run.json").read_text())["cache"]["computed"] == 1, "not mixed up"


def test_a_student_is_not_evaluated_on_classes_in_another_order_or_on_other_tokens(kdlab, tmp_path):
    given = overrides(tmp_path, "strategy=supervised", teacher=False)
    run = train(given)
    assert kdlab("evaluate", str(run.path), "data.class_names=[neg,pos]")[0] == 0
    code, _, err = kdlab("evaluate", str(run.path), "data.class_names=[pos,neg]")
    assert code == 2 and "in the order neg, pos, and these data have them in the order pos, neg" in err
    assert "data.class_names=[neg,pos]" in err
    same, other = tokenizer_folder(tmp_path / "same"), tokenizer_folder(tmp_path / "other", WORDS[::-1])
    assert kdlab("evaluate", str(run.path), f"data.tokenizer={same}")[0] == 0, "the same files in another folder"
    code, _, err = kdlab("evaluate", str(run.path), f"data.tokenizer={other}")
    assert code == 2 and "the student learned other tokens; data.tokenizer=" in err

    taught = [text for text in given if text not in ("teacher=none", "strategy=supervised")]
    taught += ["teacher=run", f"teacher.run={run.path}"]
    for tokenizer, warnings in ((same, 0), (other, 1)):
        notes = assembled(compose([*taught, f"data.tokenizer={tokenizer}"])).notes
        assert len([line for line in notes if "learned the tokens of" in line]) == warnings, notes
    own = f"data.teacher_tokenizer={tmp_path / 'tokenizer'}"
    assert not [line for line in assembled(compose([*taught, f"data.tokenizer={other}", own])).notes if "token" in line]


def test_a_run_that_learned_the_classes_in_another_order(tmp_path):
    given = overrides(tmp_path, teacher=False)
    theirs = kdlab.train([*given, "strategy=supervised", "data.class_names=[pos,neg]", "name=theirs"])
    given = [text for text in given if text != "teacher=none"]
    parts = assembled(compose([*given, "teacher=run", f"teacher.run={theirs.path}"]))
    batch = parts.data.train_dataloader().first(8)
    raw = parts.teacher.network(**batch.inputs)
    assert torch.equal(parts.teacher.teach(batch).logits, raw[:, [1, 0]])
    # it learned: with its own order it would be wrong
    right = (parts.teacher.teach(batch).logits.argmax(1) == batch.target).float().mean()
    assert right > 0.5
