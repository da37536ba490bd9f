"""What may be wrong with texts, tokenizers and encoders."""

import json
from pathlib import Path

from .table import Mistake, Place

TEXTS = [
    "train",
    "strategy=supervised",
    "trainer.max_epochs=1",
    "data=text",
    "data.train=train.tsv",
    "data.classes=2",
    "data.tokenizer=tokenizer",
    "data.length=16",
    "data.batch_size=8",
]
BERT = [
    *TEXTS,
    "data.vocabulary=33",
    "student=bert",
    "student.layers=1",
    "student.width=4",
    "student.heads=2",
    "student.intermediate=4",
]
ENCODER = [*TEXTS, "student=encoder", "student.pretrained=model"]
TAUGHT = [text for text in BERT if text != "strategy=supervised"]
CAUSAL = [
    *("train", "trainer.max_epochs=1", "task=causal_lm", "data=causal_text", "data.train=train.tsv", "data.length=16"),
    *("data.tokenizer=tokenizer", "data.vocabulary=33", "data.end=false"),
]
SMALL = ["student=llama", "student.layers=1", "student.width=8", "student.heads=2"]
OF_MODEL = ["teacher=causal", "teacher.pretrained=model"]
MEMBER = ["+teacher@teacher.members.bad=trained"]
SUMS = ["train", "task=causal_lm", "data=sums", "student=llama", "student.layers=1", "student.width=16"]
SUMS += ["student.heads=2", "strategy=supervised", "trainer.max_epochs=1"]


def _texts(rows=None, change=None, **tokenizer):
    """A file of texts of two classes and a tokenizer, then ``change(folder)``."""

    def setup(place: Place) -> None:
        from tests.data.text.texts import text_file
        from tests.data.text.tiny_tokenizer import tokenizer_folder

        text_file(place.folder / "train.tsv", rows)
        tokenizer_folder(place.folder / "tokenizer", **tokenizer)
        if change is not None:
            change(place.folder)

    return setup


def _rows(changed):
    """Rows of texts with classes 0 and 1; ``changed`` replaces some of them."""
    rows = [(f"the film is {'good' if number % 2 else 'bad'}", number % 2) for number in range(40)]
    for number, row in changed.items():
        rows[number] = row
    return rows


def _model(names=("neg", "pos")):
    """Saves a small BERT in the folder ``model``."""

    def change(folder: Path) -> None:
        from transformers import BertConfig, BertForSequenceClassification

        sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4}
        config = BertConfig(vocab_size=33, max_position_embeddings=16, id2label=dict(enumerate(names)), **sizes)
        BertForSequenceClassification(config).save_pretrained(folder / "model")

    return change


def _causal(words: slice = slice(None, None, -1)):
    """Saves a small causal language model in the folder ``model``, with a tokenizer of the same words in another
    order."""

    def change(folder: Path) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        from tests.data.text.tiny_tokenizer import WORDS, tokenizer_folder

        sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
        config = LlamaConfig(vocab_size=33, max_position_embeddings=32, tie_word_embeddings=True, **sizes)
        LlamaForCausalLM(config).save_pretrained(folder / "model")
        tokenizer_folder(folder / "model", WORDS[words])

    return change


def _half_written(folder: Path) -> None:
    _model()(folder)
    (folder / "model" / "model.safetensors").unlink()


def _pickled(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    _model()(folder)
    weights = folder / "model" / "model.safetensors"
    torch.save(load_file(weights), folder / "model" / "pytorch_model.bin")
    weights.unlink()


def _own_code(folder: Path) -> None:
    (folder / "model").mkdir()
    config = {"model_type": "theirs", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "model" / "config.json").write_text(json.dumps(config))


def _offline(place: Place) -> None:
    """HF_HUB_OFFLINE=1, which is read when huggingface_hub is imported."""
    import huggingface_hub.constants

    _texts()(place)
    place.patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


MISTAKES = [
    Mistake(
        "column of texts that is not there",
        [*BERT, "data.text=texts"],
        ["data.text=texts: train.tsv has no column 'texts'", "did you mean 'text'"],
        setup=_texts(),
        given="train.tsv has the columns text and label",
    ),
    Mistake(
        "column of labels that is not there",
        [*BERT, "data.label=labels"],
        ["data.label=labels", "did you mean 'label'"],
        setup=_texts(),
        given="train.tsv has the columns text and label",
    ),
    Mistake(
        "rows without text",
        BERT,
        ["data.text=text: train.tsv, lines 4, 6: no text", "data.faulty=drop"],
        setup=_texts(_rows({2: ("", 0), 4: (" ", 1)})),
        given="lines 4 and 6 have no text",
    ),
    Mistake(
        "label out of range",
        BERT,
        ["data.classes=2, but the data have 3", "train.tsv, lines 7, 9"],
        setup=_texts(_rows({5: ("the film is fine", 2), 7: ("the film is dull", 2)})),
        given="lines 7 and 9 have the label 2",
    ),
    Mistake(
        "file of texts that is not there",
        [*BERT, "data.train=trian.tsv"],
        ["data.train=trian.tsv: there is no such file", "train.tsv"],
        setup=_texts(),
        given="train.tsv",
    ),
    Mistake(
        "student that reads no tokens",
        TEXTS,
        ["student=mlp: kdlab.models.MLP has no input input_ids", "student=bert data.vocabulary=33"],
        setup=_texts(),
        given="texts",
    ),
    Mistake(
        "number of tokens left out",
        [*TEXTS, "student=bert"],
        ["data.vocabulary has no value", "give it with data.vocabulary=33"],
        setup=_texts(),
        given="texts",
    ),
    Mistake(
        "tokenizer without a pad token",
        BERT,
        ["data.tokenizer=tokenizer: the tokenizer has no pad token", "data.pad_token="],
        setup=_texts(pad=False),
        given="a tokenizer saved without one",
    ),
    Mistake(
        "text longer than the model",
        [*BERT, "student.positions=14"],
        ["student: a text has 16 tokens, and the model has positions for 14", "data.length=14 cuts"],
        setup=_texts(),
        given="texts of up to 16 tokens",
    ),
    Mistake(
        "text longer than is allowed",
        [*BERT, "data.length=8", "data.truncate=false"],
        ["of 60 texts of data.train are longer than 8 tokens", "data.truncate=true cuts them"],
        setup=_texts(),
        given="texts of up to 16 tokens",
    ),
    Mistake(
        "teacher that names other classes",
        [*TAUGHT, "teacher=encoder", "teacher.pretrained=model"],
        ["names its classes NEGATIVE, POSITIVE, and the data have neg, pos", "'teacher.class_names=[neg,pos]'"],
        setup=_texts(change=_model(("NEGATIVE", "POSITIVE"))),
        given="model/config.json names the classes NEGATIVE and POSITIVE",
    ),
    Mistake(
        "teacher trained on other tokens",
        [*TAUGHT, "data.teacher_tokenizer=theirs"],
        ["data.teacher_tokenizer=theirs: teacher.student=bert_wide is trained on the tokens of data.tokenizer"],
        setup=_texts(),
        given="texts",
    ),
    Mistake(
        "teacher with another tokenizer",
        [*CAUSAL, *SMALL, *OF_MODEL],
        ["teacher.pretrained=model: it learned other tokens than those of data.tokenizer=tokenizer", "another teacher"],
        setup=_texts(change=_causal()),
        given="model has a tokenizer of as many tokens",
    ),
    Mistake(
        "student with another tokenizer",
        [*CAUSAL, "strategy=supervised", "student=causal", "student.pretrained=model"],
        ["student.pretrained=model: it learned other tokens", "data.tokenizer=model data.vocabulary=33"],
        setup=_texts(change=_causal()),
        given="model has a tokenizer of as many tokens",
    ),
    Mistake(
        "student with more heads than the teacher",
        [*CAUSAL, *SMALL, "student.heads=4", *OF_MODEL, "initial=teacher_layers"],
        ["student.initial: the student has heads 4 and the teacher 2", "student.heads=2 student.key_value_heads=2"],
        setup=_texts(change=_causal(slice(None))),
        given="model has 2 heads",
    ),
    Mistake(
        "model that is half written",
        ENCODER,
        ["'model' has a config.json and no weights", "only half written"],
        setup=_texts(change=_half_written),
        given="model holds no weights",
    ),
    Mistake(
        "model with code of its own",
        ENCODER,
        ["brings Python code of its own", "trust_remote_code=true"],
        setup=_texts(change=_own_code),
        given="model/config.json names code",
    ),
    Mistake(
        "weights that are stored as pickles",
        ENCODER,
        ["'model' has its weights only in pytorch_model.bin", "allow_pickle=true"],
        setup=_texts(change=_pickled),
        given="model holds pytorch_model.bin",
    ),
    Mistake(
        "model of the hub without a network",
        [*TEXTS, "student=encoder", "student.pretrained=nobody/nothing"],
        ["'nobody/nothing' is neither a folder with a saved model nor reachable on the Hugging Face hub"],
        setup=_offline,
        given="HF_HUB_OFFLINE=1",
    ),
    Mistake(
        "tokenizer of the hub without a network",
        [*BERT, "data.tokenizer=nobody/nothing"],
        ["data.tokenizer=nobody/nothing", "nor reachable on the Hugging Face hub", "data.tokenizer=FOLDER"],
        setup=_offline,
        given="HF_HUB_OFFLINE=1",
    ),
    Mistake(
        "rows without a teacher",
        [*TAUGHT, "teacher=routed", "teacher.column=label", *MEMBER, "teacher.routes={0: bad}"],
        ["teacher.column=label: train.tsv, lines 3, 5", "no member is for '1'", "'teacher.routes={0: bad, 1: bad}'"],
        setup=_texts(_rows({})),
        given="train.tsv has the labels 0 and 1",
    ),
    Mistake(
        "column that names teachers and is not there",
        [*TAUGHT, "teacher=routed", "teacher.column=labels", *MEMBER],
        ["teacher.column=labels: train.tsv has no column 'labels'", "did you mean 'label'"],
        setup=_texts(),
        given="train.tsv has the columns text and label",
    ),
    Mistake(
        "seeds of answers that are not drawn",
        [*SUMS, "task.measured=[rouge_l]", "task.answer_seeds=[1,2]"],
        ["task.answer_seeds=[1, 2]: greedy answers do not depend on a seed", "task.answer_temperature=1 draws them"],
    ),
    Mistake(
        "drawn answers that nothing measures",
        [*SUMS, "task.answer_temperature=1"],
        ["task.answer_temperature=1: no metric of generated answers is measured", "'task.measured=[rouge_l]'"],
    ),
    Mistake(
        "student with weights of few bits",
        [*(one for one in SUMS if "student" not in one), "student=causal", "student.pretrained=m", "+student.bits=8"],
        ["student.bits=8: rounded weights cannot be trained; student.bits=null"],
    ),
]
