"""Models with another tokenizer of as many tokens are refused before anything is written; columns beyond the tokenizer
have no probability in student, teacher and kept answers."""

import json
from types import SimpleNamespace

import pytest
import torch

import kdlab
from kdlab.batch import Batch
from kdlab.config.references import Network
from kdlab.data.text.tokenizers import Tokenizer
from kdlab.errors import InputError
from kdlab.losses import ForwardKL, JensenShannon
from kdlab.models import CausalModel
from kdlab.models.generation import generate
from kdlab.objective import Objective
from kdlab.outputs import Outputs
from kdlab.tasks import CausalLM
from kdlab.teachers import Frozen
from kdlab.training.teacher_tokens import refuse_teacher
from tests.data.text.characters import VOCABULARY, character_tokenizer, exchange, numbers
from tests.models.gguf_files import byte_tokenizer, write_gguf

SMALL = {"layers": 1, "width": 16, "heads": 2, "positions": 32}


def model(columns=VOCABULARY, seed=0, **options):
    torch.manual_seed(seed)
    found = CausalModel(architecture="llama", vocabulary=columns, **SMALL, **options).eval()
    with torch.no_grad():
        for value in found.parameters():
            value.mul_(4)
    return found


def saved(folder, columns=VOCABULARY, other=False, **options):
    """A model with its tokenizer; of ``other``, two numbers stand for other characters. Returns the folder."""
    model(columns, **options).network.save_pretrained(str(folder))
    character_tokenizer(folder)
    if other:
        exchange(folder)
    return str(folder)


@pytest.fixture
def overrides(tmp_path):
    lines = [json.dumps({"q": f"{one}+{two}=", "a": str(one + two)}) for one in range(0, 90, 9) for two in range(5)]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines) + "\n")
    return [
        *("task=causal_lm", "data=causal_text", f"data.train={tmp_path / 'sums.jsonl'}", "data.prompt=q"),
        *("data.answer=a", f"data.tokenizer={character_tokenizer(tmp_path / 'tokenizer')}", "data.length=16"),
        *(f"data.vocabulary={VOCABULARY}", "trainer.max_epochs=1", "progress=none"),
        *(f"paths.runs={tmp_path / 'runs'}", f"paths.data={tmp_path / 'data'}"),
    ]


STUDENT = ["student=llama", "student.layers=1", "student.width=16", "student.heads=2"]


def refused(tmp_path, overrides, words):
    with pytest.raises(InputError, match=words) as error:
        kdlab.train(overrides)
    assert len(error.value.problems) == 1
    assert not (tmp_path / "runs").exists()
    return str(error.value)


# -- other tokenizers --------------------------------------------------------------------------------------------------


def test_a_teacher_with_another_tokenizer_of_as_many_tokens_is_refused(tmp_path, overrides):
    name = saved(tmp_path / "theirs", other=True)
    said = refused(
        tmp_path,
        [*overrides, *STUDENT, "teacher=causal", f"teacher.pretrained={name}"],
        r"^teacher.pretrained=.*theirs: it learned other tokens than those of data.tokenizer=.*tokenizer: it makes "
        r"\[7, 6, 8, .*\] of '12345 678 .*tokenizer makes \[6, 7, 8, ",
    )
    assert f"; data.teacher_tokenizer={name} with a loss for other tokens, another teacher, or" in said
    assert said.endswith(f"data.tokenizer={name} data.vocabulary={VOCABULARY}")


def test_a_students_tokenizer_is_compared_too(tmp_path, overrides):
    name = saved(tmp_path / "mine", other=True)
    said = refused(
        tmp_path,
        [*overrides, "student=causal", f"student.pretrained={name}", "strategy=supervised"],
        "^student.pretrained=.*mine: it learned other tokens than those of data.tokenizer=.*: it makes",
    )
    assert said.endswith(f"; data.tokenizer={name} data.vocabulary={VOCABULARY}")
    teacher = saved(tmp_path / "theirs")
    peers = ["strategy=online", "+student@strategy.peers.other=causal", f"strategy.peers.other.pretrained={name}"]
    refused(
        tmp_path,
        [*overrides, "student=causal", f"student.pretrained={teacher}", *peers, "loss=[ce,mutual_kl]"],
        "^strategy.peers.other.pretrained=.*mine: it learned other tokens",
    )


def test_runs_that_learned_other_tokens_are_refused(tmp_path, overrides):
    name = saved(tmp_path / "theirs", other=True)
    same = [one for one in overrides if not one.startswith(("data.tokenizer", "paths.runs"))]
    runs = f"paths.runs={tmp_path / 'others'}"
    run = kdlab.train([*same, f"data.tokenizer={name}", runs, *STUDENT, "strategy=supervised"])
    refused(
        tmp_path,
        [*overrides, *STUDENT, "teacher=run", f"teacher.run={run.path}"],
        f"^teacher.run={run.path}: it learned other tokens than those of data.tokenizer=",
    )
    refused(
        tmp_path,
        [*overrides, *STUDENT, "strategy=supervised", "initial=run", f"student.initial.run={run.path}"],
        f"^student.initial.run={run.path}: it learned other tokens .* So its embeddings",
    )
    layers = ["strategy=supervised", "initial=teacher_layers", f"student.initial.of={{run: {run.path}}}"]
    refused(tmp_path, [*overrides, *STUDENT, *layers], "^student.initial.of.run=.*: it learned other tokens")
    found = kdlab.train([*overrides, *STUDENT, *layers, "student.initial.embeddings=false"])
    assert found.read().initial["new"] == ["network.model.embed_tokens.weight"]


def data_of(ours, theirs=None):
    return SimpleNamespace(tokenizer=ours, teacher_tokenizer=theirs)


def reference(name, target="kdlab.models.CausalModel"):
    return Network("teacher", {"_target_": target, "pretrained": name})


def test_the_teachers_own_tokens_are_accepted_and_only_those(tmp_path):
    ours = Tokenizer("data.tokenizer", character_tokenizer(tmp_path / "ours"))
    name = saved(tmp_path / "theirs", other=True)
    own, notes = Tokenizer("data.teacher_tokenizer", name), []
    refuse_teacher(reference(name), data_of(ours, own), notes.append)
    refuse_teacher(reference(saved(tmp_path / "same")), data_of(ours), notes.append)
    refuse_teacher(reference(name, "kdlab.models.TextEncoder"), data_of(ours), notes.append)
    with pytest.raises(InputError, match="of data.teacher_tokenizer=.*ours: .*; data.teacher_tokenizer=.*theirs$"):
        refuse_teacher(reference(name), data_of(own, ours), notes.append)
    assert notes == []


def test_a_model_without_a_tokenizer_is_not_compared_and_a_damaged_one_is_a_warning(tmp_path):
    ours, notes = Tokenizer("data.tokenizer", character_tokenizer(tmp_path / "ours")), []
    model().network.save_pretrained(str(tmp_path / "alone"))
    refuse_teacher(reference(str(tmp_path / "alone")), data_of(ours), notes.append)
    refuse_teacher(reference(str(tmp_path / "alone")), None, notes.append)
    assert notes == []
    (tmp_path / "alone" / "tokenizer.json").write_text("{")
    refuse_teacher(reference(str(tmp_path / "alone")), data_of(ours), notes.append)
    assert "teacher.pretrained=" in notes[0] and "warning: its tokenizer cannot be read" in notes[0]


def test_the_tokenizer_in_a_gguf_file_is_compared(tmp_path):
    pytest.importorskip("gguf")
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(str(tmp_path / "folder"))
    ours, network = Tokenizer("data.tokenizer", str(tmp_path / "folder")), model(len(tokenizer)).network
    same = write_gguf(tmp_path / "same.gguf", network, tokenizer)
    other = write_gguf(tmp_path / "other.gguf", network, tokenizer, split="smollm")
    alone = write_gguf(tmp_path / "alone.gguf", network)
    for name in (same, alone):
        refuse_teacher(reference(name), data_of(ours), pytest.fail)
    with pytest.raises(InputError, match=r"teacher.pretrained=.*other.gguf: it learned other tokens .* of '12345 678"):
        refuse_teacher(reference(other), data_of(ours), pytest.fail)


# -- columns beyond the tokenizer --------------------------------------------------------------------------------------

IDS = torch.tensor([numbers("12+3=15")[:6], numbers("9+4=13")])
BATCH = Batch({"input_ids": IDS}, IDS, torch.arange(2), split="train")


def padded(folder, columns, seed):
    """A model whose columns beyond the tokenizer would have large logits."""
    network = model(columns, seed, tied=False).network
    with torch.no_grad():
        network.lm_head.weight[VOCABULARY:] = 50 * network.lm_head.weight[:1]
    network.save_pretrained(str(folder))
    character_tokenizer(folder)
    return str(folder)


@pytest.mark.parametrize("rows_at_once", [None, 3])
@pytest.mark.parametrize("loss", [ForwardKL(), JensenShannon()])
def test_columns_beyond_the_tokenizer_hold_no_mass(loss, rows_at_once, tmp_path):
    """Student and teacher have 27 and 30 columns for 24 tokens, as 151,936 and 152,064 for those of Qwen2.5."""
    student, teacher = (
        CausalModel(pretrained=padded(tmp_path / str(columns), columns, columns), vocabulary=VOCABULARY).eval()
        for columns in (27, 30)
    )
    task = CausalLM(VOCABULARY, rows_at_once=rows_at_once)
    rows = task.align_batch(BATCH)
    mine = task.align(task.network_outputs(student, BATCH), BATCH)
    theirs = task.align(Frozen(teacher, task).teach(BATCH), BATCH)
    objective = Objective({"term": loss}, {"term": 1.0})
    value = objective(mine, theirs, rows).total
    value.backward()
    logits = [one.network(input_ids=IDS).logits[:, :-1, :VOCABULARY].flatten(0, 1) for one in (student, teacher)]
    wanted = loss(Outputs(logits[0]), Outputs(logits[1].detach()), rows).mean()
    torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-6)
    gradient = student.network.lm_head.weight.grad
    assert gradient.shape == (27, 16) and not gradient[VOCABULARY:].any() and gradient[:VOCABULARY].any()
    made = generate(student, IDS, torch.tensor([3, 4]), most=5, end=None, temperature=1.0, index=torch.arange(2))
    assert int(made.tokens.max()) < VOCABULARY


def test_runs_of_padded_models_live_and_kept(tmp_path, overrides):
    student, teacher = (padded(tmp_path / str(columns), columns, columns) for columns in (27, 30))
    command = [
        *(*overrides, "student=causal", f"student.pretrained={student}", "teacher=causal", "optimizer.weight_decay=0"),
        *("data.pad_to=length", "data.validation=0.03"),  # too few to judge a teacher
        *(f"teacher.pretrained={teacher}", "loss=[ce,forward_kl]"),
    ]
    live = kdlab.train([*command, "teacher.cache=live", "name=live"])
    kept = kdlab.train([*command, "teacher.cache=fixed", "teacher.cache_codec=hidden", "name=kept"])
    assert kept.metrics["train/loss"] == pytest.approx(live.metrics["train/loss"], rel=1e-5)
    assert live.metrics["test/kl_to_teacher"] > 0
    assert live.student(IDS).shape[-1] == VOCABULARY
    before = CausalModel(pretrained=student).network.lm_head.weight
    after = live.student.network.lm_head.weight
    assert torch.equal(after[VOCABULARY:], before[VOCABULARY:]) and not torch.equal(after[:5], before[:5])
