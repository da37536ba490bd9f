"""The experiments on GLUE fit their data: each is put together with tiny networks, on rows with GLUE's columns."""

import pytest
import torch

from kdlab.config.compose import compose
from kdlab.training.assemble import assembled
from tests.data.text.tiny_tokenizer import SPECIAL, WORDS, tokenizer_folder

datasets = pytest.importorskip("datasets")
VOCABULARY = len(SPECIAL) + len(WORDS) + 1
#: task -> its columns, the names of its classes
TASKS = {
    "cola": (["sentence"], ["unacceptable", "acceptable"]),
    "sst2": (["sentence"], ["negative", "positive"]),
    "mrpc": (["sentence1", "sentence2"], ["not_equivalent", "equivalent"]),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"]),
    "stsb": (["sentence1", "sentence2"], None),
    "mnli": (["premise", "hypothesis"], ["entailment", "neutral", "contradiction"]),
    "qnli": (["question", "sentence"], ["entailment", "not_entailment"]),
    "rte": (["sentence1", "sentence2"], ["entailment", "not_entailment"]),
    "wnli": (["sentence1", "sentence2"], ["not_entailment", "entailment"]),
}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A tiny encoder with twelve layers, and its tokenizer, in one folder."""
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("pretrained")
    tokenizer_folder(folder, types=True)
    sizes = {"hidden_size": 16, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, **sizes)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def rows(monkeypatch):
    """Puts rows with a task's columns in the place of what ``datasets`` would load."""
    asked = []

    def load(name, task, revision=None):
        asked.append((name, task))
        columns, names = TASKS[task]
        train = {
            column: [f"{WORDS[(row + shift) % len(WORDS)]} {WORDS[row * 3 % len(WORDS)]}" for row in range(80)]
            for shift, column in enumerate(columns)
        }
        train["label"] = (
            [row % 6 * 0.9 for row in range(80)] if names is None else [row % len(names) for row in range(80)]
        )
        train["idx"] = list(range(80))
        label = datasets.Value("float32") if names is None else datasets.ClassLabel(names=names)
        text = {column: datasets.Value("string") for column in columns}
        features = datasets.Features({**text, "label": label, "idx": datasets.Value("int32")})
        whole = datasets.Dataset.from_dict(train, features=features)
        hidden = whole.map(lambda row: {"label": -1}, features=features)
        ends = ("_matched", "_mismatched") if task == "mnli" else ("",)
        parts = {f"{split}{end}": data for end in ends for split, data in (("validation", whole), ("test", hidden))}
        return datasets.DatasetDict({"train": whole, **parts})

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


@pytest.mark.parametrize("task", TASKS)
def test_an_experiment_and_its_teacher_fit_together(task, pretrained, rows, workplace):
    small = [f"data.tokenizer={pretrained}", f"data.vocabulary={VOCABULARY}", "data.length=32"]
    small += ["data.validation=0.2", "data.batch_size=8"]
    theirs = [*small, f"student.pretrained={pretrained}"]
    teacher = assembled(compose([f"experiment=glue/teacher/{task}", *theirs]))
    classes = 1 if TASKS[task][1] is None else len(TASKS[task][1])
    assert rows[0] == ("nyu-mll/glue", task)
    assert teacher.data.facts.classes == classes == teacher.strategy.student.network.config.num_labels
    headline = {"cola": "mcc", "mrpc": "f1", "qqp": "f1", "stsb": "spearman"}.get(task, "accuracy")
    assert teacher.task.headline.name == headline
    given = ", ".join(f'"{option}"' for option in theirs)
    mine = ["student.width=16", "student.heads=2", f"student.vocabulary={VOCABULARY}"]
    parts = assembled(compose([f"experiment=glue/{task}", *small, *mine, f"teacher.overrides=[{given}]"]))
    student = parts.strategy.student.network
    assert student.config.num_hidden_layers == 6 and student.config.num_labels == classes
    batch = parts.data.train_dataloader().first(4)
    loss = parts.strategy.distill(batch).loss
    assert list(loss.parts) == (["mse", "logit_mse"] if task == "stsb" else ["ce", "kd"])
    assert torch.isfinite(torch.as_tensor(loss.total))
