"""A causal student that was trained here answers the same in transformers and in lm-eval, and stops where it should."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import kdlab as package
from kdlab.data import Sums
from kdlab.export import huggingface, to_huggingface
from kdlab.models.generation import generate
from tests.data.text.characters import END, TEMPLATE, USER, VOCABULARY, character_tokenizer

SMALL = ["task=causal_lm", "student=llama", "student.layers=1", "student.heads=2", "strategy=supervised"]
SUMS = [*SMALL, "data=sums", "data.largest=9", "data.samples=80", "data.test_samples=20", "data.batch_size=8"]
SUMS += ["task.measured=[exact_match]", "task.longest_answer=4", "optimizer.lr=0.01", "progress=none"]


def test_a_student_of_sums_answers_in_transformers(workplace):
    """Its tokenizer is made by the data, and the config of a new llama would end texts at the digit 0."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = package.train([*SUMS, "student.width=16", "trainer.max_epochs=2"])
    folder = to_huggingface(run, workplace / "hf").folder
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert model.generation_config.eos_token_id == model.config.eos_token_id == tokenizer.eos_token_id == 1
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id == 0
    asked = ["7+8=", "3+9="]
    given = tokenizer(asked, return_tensors="pt")
    assert tokenizer.decode(given["input_ids"][0]) == asked[0]
    kept = {name: given[name] for name in ("input_ids", "attention_mask")}
    written = model.generate(**kept, max_new_tokens=6, do_sample=False)
    ours = generate(run.student, given["input_ids"], torch.tensor([4, 4]), most=6, end=1, temperature=0.0)
    assert written.tolist() == ours.tokens.tolist()
    assert torch.equal(model(**kept).logits, run.student(**kept))


def test_an_answer_of_a_chat_ends_as_its_template_writes_it(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    chats = [[{"role": "user", "content": f"{n}+1="}, {"role": "assistant", "content": str(n + 1)}] for n in range(40)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"chat": chat}) + "\n" for chat in chats))
    tokenizer = character_tokenizer(tmp_path / "tokenizer", template=TEMPLATE.replace("</s>", "<user>"))
    run = package.train(
        [
            *SMALL,
            *("data=causal_text", "data.messages=chat", "data.length=16", f"data.vocabulary={VOCABULARY}"),
            *(f"data.train={tmp_path / 'chats.jsonl'}", f"data.tokenizer={tokenizer}", "student.width=16"),
            *("trainer.max_epochs=1", "progress=none", f"paths.runs={tmp_path / 'runs'}", f"paths.data={tmp_path}"),
        ]
    )
    folder = to_huggingface(run, tmp_path / "hf").folder
    model, written = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert written.eos_token_id == END and model.generation_config.eos_token_id == [USER, END]
    text = written.apply_chat_template(chats[7][:1], tokenize=False, add_generation_prompt=True)
    assert text == "<user>7+1=<bot>", "the template is in the folder"


def test_what_pretrained_weights_name_still_ends_an_answer():
    """The tokenizer of Llama 3 names one of the three tokens that end its answers."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    model, tokenizer = (
        SimpleNamespace(config=SimpleNamespace(**dict(zip(names, (5, 6, None)))), generation_config=None),
        SimpleNamespace(**dict(zip(names, (7, 8, 9))), chat_template=None),
    )
    model.generation_config = SimpleNamespace(**dict(zip(names, (5, [6, 8, 4], None))))
    huggingface._name_special_tokens(model, tokenizer, pretrained=True, chats=False)
    assert model.generation_config.eos_token_id == [8, 6, 4] and model.generation_config.pad_token_id == 9
    assert vars(model.config) == {"bos_token_id": 5, "eos_token_id": 6, "pad_token_id": 9}
    huggingface._name_special_tokens(model, tokenizer, pretrained=False, chats=False)
    assert vars(model.config) == vars(model.generation_config) == dict(zip(names, (7, 8, 9)))


TASK = """\
task: sums
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  max_gen_toks: 4
  do_sample: false
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


@pytest.mark.slow
def test_lm_eval_measures_what_kdlab_does(workplace):
    pytest.importorskip("lm_eval", reason="lm_eval is in no extra: pip install lm_eval[hf]")
    run = package.train([*SUMS, "student.width=64", "trainer.max_epochs=30"])
    folder = to_huggingface(run, workplace / "hf").folder
    rows = [
        {"question": f"{one}+{other}=", "answer": str(one + other)}
        for one, other in Sums(largest=9, samples=80, test_samples=20).sums("test")
    ]
    (workplace / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (workplace / "tasks").mkdir()
    (workplace / "tasks" / "sums.yaml").write_text(TASK.format(file=workplace / "sums.jsonl"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={folder},dtype=float32"),
            *("--tasks", "sums", "--include_path", "tasks", "--device", "cpu", "--batch_size", "8"),
            *("--output_path", "results"),
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(workplace / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (workplace / "results").rglob("results_*.json")
    found = json.loads(results.read_text())["results"]["sums"]["exact_match,none"]
    assert found == pytest.approx(run.metrics["test/exact_match"]) and found > 0
