"""Adapters of a pretrained encoder: what is trained, loaded again and exported; a distilled student is fine-tuned."""

import pytest
import torch

import kdlab
from kdlab.cli.main import main
from kdlab.errors import InputError
from kdlab.export.huggingface import to_huggingface
from kdlab.models import TextEncoder
from kdlab.models.lora import merged, plain_name
from tests.data.text.texts import overrides, sentences, text_file
from tests.training.test_class_order import encoder_folder

LORA = {"rank": 2, "alpha": 4, "targets": ["query", "value"]}


def test_adapters_and_head_are_trained_loaded_and_merged(tmp_path):
    folder = encoder_folder(tmp_path / "model", ["neg", "pos"])
    given = [text for text in overrides(tmp_path, teacher=False) if not text.startswith("student")]
    given += ["student=encoder", f"student.pretrained={folder}", "strategy=supervised"]
    run = kdlab.train([*given, "student.lora={rank: 2, alpha: 4, targets: [query,value]}"])
    student, before = kdlab.load(run.path).student, TextEncoder(folder, lora=LORA)
    changed = {
        name for name, value in student.state_dict().items() if not torch.equal(value, before.state_dict()[name])
    }
    lora = {name for name in before.state_dict() if "lora_" in name}
    head = {f"network.{part}" for part in ("classifier.weight", "classifier.bias")}
    pooler = {f"network.bert.pooler.dense.{part}" for part in ("weight", "bias")}
    assert len(lora) == 4 and changed == lora | head | pooler
    trained = sum(value.numel() for value in before.parameters() if value.requires_grad)
    assert trained == 4 * 8 + 2 * 4 + 2 + 4 * 4 + 4
    tokens = {"input_ids": torch.tensor([[2, 9, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    whole = merged(student)
    assert not [name for name in whole.state_dict() if "lora_" in name]
    torch.testing.assert_close(whole(**tokens), student.eval()(**tokens), rtol=1e-5, atol=1e-5)
    from transformers import AutoModelForSequenceClassification

    written = to_huggingface(run, tmp_path / "written")
    loaded = AutoModelForSequenceClassification.from_pretrained(written.folder).eval()
    assert written.difference == 0 and torch.equal(loaded(**tokens).logits, whole(**tokens))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"rnk": 2}, "lora has no option 'rnk'; did you mean 'rank'"),
        ({"rank": 0}, "lora.rank must be a whole number of at least 1, got 0"),
        ({"rank": 2, "targets": ["qery"]}, "no linear layers 'qery'; did you mean 'query'"),
        ({"rank": 2, "alpha": 0}, "lora.alpha must be a number greater than 0"),
    ],
)
def test_wrong_options(options, words):
    sizes = {"vocabulary": 9, "classes": 2, "layers": 1, "width": 4, "heads": 2}
    with pytest.raises(ValueError, match=words):
        TextEncoder(architecture="bert", **sizes, lora=options)


@pytest.mark.parametrize("architecture, adapted", [("bert", 2), ("distilbert", 2), ("roberta", 2), ("modernbert", 1)])
def test_names_of_layers(architecture, adapted):
    sizes = {"vocabulary": 9, "classes": 2, "layers": 1, "width": 4, "heads": 2}
    made = TextEncoder(architecture=architecture, **sizes, lora={"rank": 2})
    assert sum(name.endswith("lora_A.default.weight") for name in made.state_dict()) == adapted


def test_layers_of_the_head_get_no_adapters_and_are_trained():
    """A target may have the name of a layer of the head: RoBERTa has a layer dense in both."""
    sizes = {"vocabulary": 9, "classes": 2, "layers": 1, "width": 4, "heads": 2}
    made = TextEncoder(architecture="roberta", **sizes, lora={"rank": 2, "targets": ["dense"]})
    trained = {name for name, value in made.named_parameters() if value.requires_grad and "lora_" not in name}
    assert trained == {
        f"network.classifier.{one}.{part}" for one in ("dense", "out_proj") for part in ("weight", "bias")
    }
    assert sum(name.endswith("lora_A.default.weight") for name in made.state_dict()) == 3
    with pytest.raises(
        ValueError, match=r"no linear layers 'out_proj'.* \(outside its head it has dense, key, query, value\)"
    ):
        TextEncoder(architecture="roberta", **sizes, lora={"rank": 2, "targets": ["out_proj"]})


TOKENS = {"input_ids": torch.tensor([[2, 9, 11, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}


@pytest.mark.parametrize("new_head", [False, True])
def test_a_distilled_student_is_fine_tuned_by_adapters_and_exported(tmp_path, new_head):
    """Adapters and head move, and the distilled weights stay. The exported model has both in one."""
    small = ["student.layers=1", "student.width=4", "student.heads=2", "student.intermediate=4"]
    given = [text for text in overrides(tmp_path) if not text.startswith("student")]
    given += ["student=bert", "data.vocabulary=33", *small]
    distilled = kdlab.train([*given, "loss=[kd]", "name=distilled"])
    tuned = [text for text in given if not text.startswith("teacher")]
    tuned += ["teacher=none", "strategy=supervised", "student.lora={rank: 4}", "name=tuned"]
    with pytest.raises(InputError, match="student.lora: the weights of this student are random.*student.lora=null"):
        kdlab.train(tuned)
    tuned += ["initial=run", f"student.initial.run={distilled.path}"]
    if new_head:
        rows = [(text, ("neg", "pos", "mixed")[place % 3]) for place, (text, _) in enumerate(sentences(60))]
        more = text_file(tmp_path / "three.tsv", rows)
        tuned = [text for text in tuned if not text.startswith(("data.train", "data.classes"))]
        tuned += [f"data.train={more}", "data.classes=3", "student.initial.new_head=true"]
    still = kdlab.train([*tuned, "optimizer.lr=0", "optimizer.weight_decay=0", "name=still"])
    before, begun = (kdlab.load(run.path).student.eval() for run in (distilled, still))
    if not new_head:
        assert torch.equal(begun(**TOKENS), before(**TOKENS)), "it begins with the outputs of the distilled student"
    run = kdlab.train(tuned)
    student = kdlab.load(run.path).student.eval()
    old, new = before.state_dict(), student.state_dict()
    moved = {name for name, value in new.items() if not torch.equal(value, begun.state_dict()[name])}
    assert {name for name in moved if "lora_" not in name} == {
        f"network.{name}"
        for name in (
            "classifier.weight",
            "classifier.bias",
            *(f"bert.pooler.dense.{part}" for part in ("weight", "bias")),
        )
    }
    assert sum("lora_" in name for name in moved) == 4
    kept = {plain_name(name): value for name, value in new.items() if "lora_" not in name and name not in moved}
    assert kept and all(torch.equal(value, old[name]) for name, value in kept.items())
    assert main(["export", str(run.path), "--to", "hf", "--folder", str(tmp_path / "model")]) == 0
    from transformers import AutoModelForSequenceClassification

    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    assert not [name for name in loaded.state_dict() if "lora_" in name]
    torch.testing.assert_close(loaded(**TOKENS).logits, student(**TOKENS), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(student(**TOKENS), begun(**TOKENS), rtol=1e-3, atol=1e-4)


def test_a_distilled_student_is_fine_tuned(tmp_path):
    small = ["student.layers=1", "student.width=4", "student.heads=2", "student.intermediate=4"]
    given = [text for text in overrides(tmp_path) if not text.startswith("student")]
    given += ["student=bert", "data.vocabulary=33", *small]
    distilled = kdlab.train([*given, "loss=[kd]", "data.drop_last=false"])
    own = [text for text in given if not text.startswith("teacher")]
    tuned = [*own, "teacher=none", "strategy=supervised", "initial=run", f"student.initial.run={distilled.path}"]
    still = kdlab.train([*tuned, "optimizer.lr=0", "optimizer.weight_decay=0", "name=still"])
    begun, ended = (kdlab.load(run.path).student.state_dict() for run in (distilled, still))
    assert all(torch.equal(value, ended[name]) for name, value in begun.items()), "it begins with the distilled weights"
    run = kdlab.train([*tuned, "name=tuned"])
    moved = kdlab.load(run.path).student.state_dict()
    assert run.finished and any(not torch.equal(value, moved[name]) for name, value in begun.items())
