"""Privileged context: what the teacher reads, whose weights it has, and what is refused."""

import pytest
import torch

import kdlab
from kdlab.errors import InputError
from kdlab.losses import ForwardKL
from kdlab.models import CausalModel
from kdlab.objective import Objective
from kdlab.strategies import Privileged
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.tasks import CausalLM
from kdlab.training.preparation import prepare
from tests.strategies.prefixes import texts
from tests.strategies.test_on_policy import SMALL

WORDS = 7
ANSWERS = torch.tensor([[3, 4, 1], [5, 1, 1], [6, 6, 1]])


def strategy_of(batch, **options):
    torch.manual_seed(0)
    lora = options.pop("lora", None)
    sizes = {"layers": 1, "width": 8, "heads": 2, "vocabulary": WORDS, "positions": 32}
    student = CausalModel(architecture="llama", **sizes, lora=lora)
    with torch.no_grad():
        for value in student.parameters():
            value.mul_(8)  # answers that depend on the context
    strategy = Privileged(
        student=student,
        teacher=None,
        objective=Objective({"forward_kl": ForwardKL()}, {"forward_kl": 1.0}),
        task=CausalLM(WORDS, end_tokens=(1,)),
        optimization=OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=0.1)),
        **{"longest": 3, "share": 1.0, **options},
    )
    prepare(strategy, batch, len(batch), batch.target)
    return strategy.train()


@pytest.fixture
def batch():
    found = texts(ANSWERS)
    return found.replace(mask=found.mask.float())


def test_the_teacher_reads_prompt_answer_and_prompt(batch):
    strategy = strategy_of(batch, teaches="student")
    step = strategy.distill(batch)
    own = step.batch
    total, count = 0.0, 0
    strategy.student.eval()
    for row in range(3):
        length = int(own.inputs["attention_mask"][row].sum())
        text = own.inputs["input_ids"][row, :length]
        context = batch.inputs["input_ids"][row]
        theirs = strategy.student(torch.cat([context, text])[None])[0, len(context) :].log_softmax(-1)
        mine = strategy.student(text[None])[0].log_softmax(-1)
        total = total + (theirs.exp() * (theirs - mine)).sum(-1)[: length - 1].sum()  # the prompt is one token
        count += length - 1
    torch.testing.assert_close(step.loss.total.detach(), (total / count).detach(), rtol=1e-5, atol=1e-6)
    assert step.loss.total > 1e-4


def test_whose_weights_teach(batch):
    strategy = strategy_of(batch, teaches="average", decay=0.5)
    before = {name: value.clone() for name, value in strategy.student.state_dict().items()}
    with torch.no_grad():
        for value in strategy.student.parameters():
            value += 1.0
    strategy.stepped = True
    strategy.after_step(strategy.distill(batch), batch)
    average = strategy.average.network.state_dict()
    assert all(torch.allclose(average[name], value + 0.5) for name, value in before.items() if value.dim())
    initial = strategy_of(batch, teaches="initial")
    with torch.no_grad():
        for value in initial.student.parameters():
            value += 1.0
    initial.stepped = True
    initial.after_step(initial.distill(batch), batch)
    kept = initial.average.network.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in before.items())
    assert set(initial.networks()) == {"student"}


def test_the_base_without_adapters_teaches(batch):
    strategy = strategy_of(batch, teaches="base", lora={"rank": 2})
    plain = strategy.taught_by(batch).logits.clone()
    learned = {name for name, value in strategy.student.named_parameters() if value.requires_grad}
    with torch.no_grad():
        for name, value in strategy.student.named_parameters():
            if "lora_B" in name:
                value += 1.0
    assert torch.equal(strategy.taught_by(batch).logits, plain), "adapters change nothing"
    strategy.teaches = "student"
    assert not torch.allclose(strategy.taught_by(batch).logits, plain)
    assert learned == {name for name, value in strategy.student.named_parameters() if value.requires_grad}
    assert all("lora_" in name for name in learned)


def test_a_run_and_what_is_refused(workplace):
    common = [*SMALL, "strategy=privileged", "strategy.longest=4"]
    first = kdlab.train([*SMALL, "strategy=supervised", "name=first"])
    run = kdlab.train([*common, "initial=run", f"student.initial.run={first.path}", "trainer.max_epochs=1"])
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in state} == {"student", "average"}
    for options, words in (
        (["teacher=run", f"teacher.run={first.path}"], "the student is its own teacher, so there is no other"),
        (["+strategy.capacity=3", "strategy.share=adaptive"], "strategy.share=adaptive learns from earlier answers"),
        (["+strategy.teacher_mix=0.2"], "strategy.teacher_mix: the answers are the student's own, since it is its own"),
        (["strategy.teaches=base"], "strategy.teaches=base is the student without its adapters, and it has none"),
        (["student.positions=12"], "context, prompt and answer have up to 14 tokens, and the student has positions"),
    ):
        with pytest.raises(InputError, match=words):
            kdlab.train([*common, *options])
