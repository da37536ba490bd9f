"""kdlab check --memory: from overrides to an estimate, and what cannot be estimated."""

import re
import shlex
from pathlib import Path

import pytest

from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.training.estimating import estimate

PAGE = Path(__file__).parents[2] / "kdlab" / "models" / "LARGE.md"
DATA = ["task=causal_lm", "data=causal_text", "data.train=FILE", "data.tokenizer=NAME", "data.vocabulary=1000"]
SMALL = [
    *DATA,
    "data.length=64",
    "data.batch_size=8",
    "student=llama",
    "student.layers=2",
    "student.width=64",
    "student.heads=4",
    "strategy=supervised",
]
TAUGHT = [
    *SMALL[:-1],
    "loss=[ce,forward_kl]",
    "teacher=causal",
    "teacher.pretrained=HuggingFaceTB/SmolLM2-135M",
]


def sizes(*overrides):
    found = estimate(compose(list(overrides)))
    return found, {line.name: line.size for line in found.lines}


def test_one_device_holds_weights_gradients_and_states():
    found, lines = sizes(*SMALL)
    # embeddings, two layers of four and three matrices with two norms, the last norm
    number = 1000 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 256 + 2 * 64) + 64
    assert lines["student: gradients"] == 4 * number
    assert lines["student: states of AdamW"] == 8 * number + 4 * 20, "and the counter of steps of each parameter"
    assert 4 * number <= lines["student: weights"] <= 4 * number + 200, "and the frequencies of the positions"
    assert lines["logits and losses, all rows at once"] == 4 * 8 * 63 * 1000 * 4
    assert found.about[0] == f"student  llama: llama, 2 layers of width 64, {number:,} parameters"
    assert found.about[1] == "a batch  8 x 64 tokens on each of 1 device, trainer.precision=32-true"
    known = sum(lines.values())
    assert found.total == known and "MiB" in found.text()


def test_precision_devices_and_rows_at_once():
    plain, mixed, true, two, rows = (
        sizes(*SMALL, *more)[1]
        for more in (
            [],
            ["trainer.precision=bf16-mixed"],
            ["trainer.precision=bf16-true"],
            ["trainer.devices=2", "trainer.accelerator=cpu"],
            ["task.rows_at_once=32", "student.gradient_checkpointing=true"],
        )
    )
    assert true["student: gradients"] * 2 == plain["student: gradients"] == mixed["student: gradients"]
    assert mixed["student: values of the layers"] < plain["student: values of the layers"]
    # all matrices but the table of embeddings, which is not multiplied before the head
    assert mixed["student: weights in bfloat16, of a step"] == 2 * 2 * (4 * 64 * 64 + 3 * 64 * 256)
    assert two["student: DDP's copy of the gradients"] == two["student: gradients"]
    assert two["student: values of the layers"] * 2 == pytest.approx(plain["student: values of the layers"], rel=0.1)
    assert rows["logits and losses, 32 rows at a time"] == 4 * 1000 * (32 + 3 * 32)
    assert rows["student: values of the layers"] < plain["student: values of the layers"]


def test_a_teacher_is_whole_on_each_device_unless_it_is_served_or_kept():
    local, lines = sizes(*TAUGHT)
    assert lines["teacher: weights in float32"] == pytest.approx(4 * 134_515_008, rel=1e-3)
    assert lines["teacher: values of a layer"] > 0
    assert local.flops.teacher > local.flops.forward
    served = ["teacher=served", "teacher.address=http://localhost:8000", "teacher.model=NAME"]
    found, lines = sizes(*TAUGHT[:-2], *served)
    assert not any(name.startswith("teacher") for name in lines) and found.flops.teacher == 0
    assert found.about[1] == "teacher  NAME: on a server"
    keeping = ["teacher.cache=fixed", "teacher.cache_codec=hidden"]
    found, lines = sizes(*TAUGHT, *keeping)
    assert lines["teacher: its head (its answers are kept)"] == 4 * 49152 * 576 and found.flops.teacher == 0
    _, lines = sizes(*TAUGHT, "teacher.cache=fixed", "teacher.cache_codec=top_k")
    assert "teacher: weights in float32" in lines, "it is asked on validation and test"


def test_adapters_are_shown_beside_full_training():
    found, _ = sizes(*SMALL)
    (line,) = [one for one in found.lines if one.name == "student: states of AdamW"]
    ((typed, size),) = line.others.items()
    adapted, lines = sizes(*SMALL, typed.strip("'"))
    assert lines["student: states of AdamW"] == size < line.size / 10
    assert "of them trained" in adapted.about[0]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["student=mlp"], "--memory is for causal language models: task=causal_lm"),
        ([*SMALL[:-1], "strategy=online"], "strategy=online trains or keeps other networks"),
        ([*SMALL[:-1], "strategy=privileged"], "strategy=privileged trains or keeps other networks"),
        (
            [*DATA, "student=causal", "student.pretrained=meta-llama/Llama-3.1-9B", "strategy=supervised"],
            "student: the sizes of .meta-llama/Llama-3.1-9B. are not known without a download; did you mean",
        ),
        ([*SMALL, "trainer.precision=64-true"], "trainer.precision=64-true: --memory knows 32-true"),
        ([*SMALL, "student.heads=5"], "student: heads must divide width"),
        ([*SMALL, "data.vocabulary=null", "student.vocabulary=null"], "student: vocabulary: a new model needs"),
    ],
)
def test_what_cannot_be_estimated(overrides, words):
    with pytest.raises(InputError, match=words):
        estimate(compose(overrides))


def test_the_verb_prints_it_and_says_what_is_wrong(kdlab):
    code, out, err = kdlab("check", "--memory", *SMALL)
    assert code == 0 and "ok     task=causal_lm" in out and "student: states of AdamW" in out
    code, out, err = kdlab("check", "--memory", *SMALL, "student.heads=5")
    assert code == 2 and "heads must divide width" in out
    code, out, err = kdlab("check", "--memory")
    assert code == 2 and "--memory needs the overrides of a run; for example kdlab check --memory task=causal_lm" in err


@pytest.mark.slow
def test_the_page_shows_what_is_printed():
    """The examples of LARGE.md: a block of what is typed, then one of what comes out."""
    blocks = re.findall(
        r"```sh\nkdlab check --memory (.*?)\n```\n\n```text\n(.*?)\n```", PAGE.read_text("utf-8"), re.DOTALL
    )
    assert blocks
    for typed, printed in blocks:
        text = estimate(compose(shlex.split(typed))).text()
        assert text == printed
