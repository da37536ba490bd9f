"""Several teachers, each of which answers rows of its own: every row has the answer of its member alone."""

import copy

import pytest
import torch
from torch import nn

import kdlab
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional import forward_kl
from kdlab.losses import ForwardKL, Hint
from kdlab.models import CausalModel
from kdlab.models.generation import Generated
from kdlab.objective import Objective
from kdlab.outputs import LazyLogits, Outputs, Sampled, TopK
from kdlab.strategies import Offline, OnPolicy
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.tasks import CausalLM, Classification
from kdlab.teachers import Frozen, PerTerm, Routed, Served, Teacher
from kdlab.teachers.joined import joined, unlike
from kdlab.training.preparation import prepare
from tests.strategies.prefixes import STRINGS, Prefixes, texts
from tests.teachers.small_server import SmallServer

WORDS = 11
#: the members of eight stored samples
ROUTES = torch.tensor([0, 1, 1, 0, 2, 0, 1, 2])


class Counted(Teacher):
    """Counts the rows that a teacher is asked about."""

    def __init__(self, teacher):
        self.teacher, self.asked = teacher, []

    def watch(self, taps):
        self.teacher.watch(taps)

    def teach(self, batch):
        self.asked.append(batch.index.tolist())
        return self.teacher.teach(batch)


class Says(Teacher):
    """Answers with these Outputs, whatever it is asked."""

    def __init__(self, outputs, gives_logits=True):
        self.outputs, self.gives_logits = outputs, gives_logits

    def watch(self, taps):
        if taps:
            raise InputError("it has no features")

    def teach(self, batch):
        return self.outputs


def network(seed, width):
    torch.manual_seed(seed)
    model = CausalModel(architecture="llama", vocabulary=WORDS, layers=2, width=width, heads=2, positions=16)
    with torch.no_grad():
        model.network.lm_head.weight.mul_(20)
    return model.eval()


@pytest.fixture(scope="module")
def networks():
    return {"maths": network(1, 8), "code": network(2, 12), "prose": network(3, 8)}


@pytest.fixture(scope="module")
def batch():
    """Eight texts of two to seven tokens after a prompt of one, in an order of their own."""
    generator = torch.Generator().manual_seed(4)
    index, lengths = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4]), torch.tensor([3, 8, 4, 8, 5, 6, 7, 3])
    mask = torch.arange(8) < lengths[:, None]
    ids = torch.randint(1, WORDS, (8, 8), generator=generator).masked_fill(~mask, 0)
    labels = ids.masked_fill(~mask, -100)
    labels[:, 0] = -100
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    rows = float((labels[:, 1:] != -100).sum())
    return Batch(inputs, labels, index, mask=mask.float(), normaliser=rows, position_normaliser=float(mask.sum()))


def routed(networks, task, names=("maths", "code", "prose")):
    members = {name: Counted(Frozen(networks[name], task)) for name in names}
    return members, Routed(members, {"train": ROUTES})


def alone(networks, task, batch):
    """The answer to each row by its member, asked about that row alone, at its own length ``(T, C)``."""
    found = []
    for place, sample in enumerate(batch.index.tolist()):
        one = Frozen(list(networks.values())[ROUTES[sample]], task)
        length = int(batch.mask[place].sum())
        cut = {name: value[place : place + 1, :length] for name, value in batch.inputs.items()}
        found.append(one.teach(Batch(cut, None, batch.index[place : place + 1])).logits[0])
    return found


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lazily", [True, False])
def test_each_row_has_the_answer_of_its_member_alone(networks, batch, lazily, monkeypatch):
    """Members of two widths, asked once each, about their own rows."""
    task = CausalLM(WORDS)
    if not lazily:
        monkeypatch.setattr(CausalModel, "lazily", None)
    members, teacher = routed(networks, task)
    outputs = teacher.teach(batch)
    assert outputs.is_lazy == lazily
    for place, wanted in enumerate(alone(networks, task, batch)):
        torch.testing.assert_close(outputs.logits[place, : len(wanted)], wanted, rtol=1e-4, atol=1e-5)
    assert {name: one.asked for name, one in members.items()} == {
        "maths": [[5, 0, 3]],
        "code": [[2, 1, 6]],
        "prose": [[7, 4]],
    }
    assert torch.equal(outputs.mask, batch.mask)


def test_logits_at_the_rows_are_those_of_all_positions(networks, batch):
    """The head of each row's member is applied to the rows that count alone, a part of them at a time."""
    task = CausalLM(WORDS, rows_at_once=3)
    teacher = routed(networks, task)[1]
    rows = task.align(teacher.teach(batch), batch)
    assert rows.is_lazy and rows.answer.rows_at_once == 3
    counts = task.answered(batch.labels) != -100
    whole = teacher.teach(batch).logits[counts]
    for start in range(0, len(whole), 3):
        part = rows.answer.head(rows.answer.hidden[start : start + 3])
        torch.testing.assert_close(part, whole[start : start + 3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows_at_once", [None, 4])
def test_the_gradient_is_that_of_a_loop_over_the_rows(networks, batch, rows_at_once):
    """Offline distillation by hand: each text with its own teacher."""
    task, student = CausalLM(WORDS, rows_at_once=rows_at_once), network(9, 8)
    student.requires_grad_(True)
    terms = {"forward_kl": ForwardKL(temperature=2.0, temperature_squared=False)}
    strategy = Offline(
        student=student,
        teacher=routed(networks, task)[1],
        objective=Objective(terms, {"forward_kl": 0.5}),
        task=task,
        optimization=OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=0.1)),
    )
    prepare(strategy, batch, 8, batch.labels)
    parameters = [value for value in student.parameters() if value.requires_grad]
    found = torch.autograd.grad(strategy.train().distill(batch).loss.total, parameters)
    total, count = 0.0, 0
    for place, theirs in enumerate(alone(networks, task, batch)):
        length = len(theirs)
        mine = student(**{name: value[place : place + 1, :length] for name, value in batch.inputs.items()})[0]
        total = total + forward_kl(mine[:-1], theirs[:-1], 2.0).sum()
        count += length - 1
    assert count == batch.normaliser
    for one, wanted in zip(found, torch.autograd.grad(0.5 * total / count, parameters)):
        torch.testing.assert_close(one, wanted, rtol=1e-3, atol=1e-5)


def test_a_batch_of_one_member_and_a_batch_without_rows(networks, batch):
    """A process may have no row of a member, or no row at all."""
    task = CausalLM(WORDS)
    members, teacher = routed(networks, task)
    own = batch.take(torch.tensor([0, 3, 6]))
    torch.testing.assert_close(teacher.teach(own).logits, Frozen(networks["maths"], task).teach(own).logits)
    assert not members["code"].asked and not members["prose"].asked
    torch.testing.assert_close(teacher.teach(batch).logits[[0, 3, 6]], teacher.teach(own).logits, rtol=1e-4, atol=1e-5)

    class Linear(nn.Module):
        def forward(self, input_ids, attention_mask=None):
            return torch.zeros(*input_ids.shape, WORDS)

    empty = Routed({"a": Frozen(Linear(), task), "b": Frozen(Linear(), task)}, {"train": ROUTES % 2})
    assert empty.teach(batch.take(torch.tensor([], dtype=torch.long))).logits.shape == (0, 8, WORDS)


def test_features_of_members_of_one_width(networks, batch):
    task = CausalLM(WORDS)
    alike = {"maths": networks["maths"], "code": networks["prose"]}
    teacher = Routed({name: Frozen(one, task) for name, one in alike.items()}, {"train": ROUTES % 2})
    teacher.prepare({"hint": ("hidden1",)})
    features = teacher.teach(batch).features["hidden1"]
    for place, sample in enumerate(batch.index.tolist()):
        one = Frozen(list(alike.values())[ROUTES[sample] % 2], task)
        one.watch(["hidden1"])
        wanted, length = one.teach(batch).features["hidden1"][place], int(batch.mask[place].sum())
        torch.testing.assert_close(features[place, :length], wanted[:length], rtol=1e-4, atol=1e-5)


def test_what_is_known_of_a_part_of_the_words():
    """Members that give two and three words; entries that name no word fill up the shorter ones."""

    def target(k, number):
        logs = torch.full((2, 1, k), -float(number))
        return TopK(ids=torch.full((2, 1, k), k), classes=9, log_probabilities=logs, log_tail=torch.full((2, 1), -0.5))

    found = joined([(torch.tensor([0, 3]), Outputs(target(2, 1))), (torch.tensor([2, 1]), Outputs(target(3, 2)))], 4)
    assert found.sparse.ids[:, 0].tolist() == [[2, 2, 0], [3, 3, 3], [3, 3, 3], [2, 2, 0]]
    assert found.sparse.log_probabilities[:, 0, 2].tolist() == [-float("inf"), -2, -2, -float("inf")]
    assert found.sparse.log_tail.tolist() == [[-0.5]] * 4 and found.sparse.shape == (4, 1, 9)

    drawn = [
        Sampled(
            ids=torch.ones(1, 1, k, dtype=torch.long), classes=9, weights=torch.ones(1, 1, k), entropy=torch.ones(1, 1)
        )
        for k in (1, 2)
    ]
    found = joined([(torch.tensor([place]), Outputs(one)) for place, one in enumerate(drawn)], 2)
    assert found.sparse.weights[:, 0].tolist() == [[1, 0], [1, 1]]


def test_numbers_of_samples_are_measured_when_they_are_asked_for():
    asked = []

    class Later(dict):
        def __getitem__(self, name):
            asked.append(name)
            return super().__getitem__(name)

    logits = torch.zeros(1, 2)
    parts = [
        (torch.tensor([1]), Outputs(logits, samples=Later(exact_match=torch.tensor([1.0])))),
        (torch.tensor([0]), Outputs(logits, samples=Later(exact_match=torch.tensor([0.0]), other=torch.zeros(1)))),
    ]
    samples = joined(parts, 2).samples
    assert list(samples) == ["exact_match"] and not asked
    assert samples["exact_match"].tolist() == [0.0, 1.0]


def test_half_precision_and_full_precision_members_keep_their_own():
    heads = [lambda states: states.sum(-1, keepdim=True), lambda states: (states * 3).sum(-1, keepdim=True)]
    kinds = (torch.bfloat16, torch.float32)
    parts = [
        (torch.tensor([number]), Outputs(LazyLogits(torch.full((1, 2), 1.0 + number, dtype=kind), heads[number])))
        for number, kind in enumerate(kinds)
    ]
    lazy = joined(parts, 2).answer
    assert lazy.hidden.dtype == torch.float32 and lazy.dense().tolist() == [[2.0], [12.0]]
    assert lazy.detach().dense().tolist() == [[2.0], [12.0]]


# -- answers of the student --------------------------------------------------------------------------------------------


def on_policy(**options):
    """A student of five words, and two teachers by the sample's number."""
    task = CausalLM(5)
    members = {name: Counted(Frozen(Prefixes(seed), task)) for name, seed in (("even", 2), ("odd", 3))}
    teacher = Routed(members, {"train": torch.arange(40) % 2})
    strategy = OnPolicy(
        student=Prefixes(1),
        teacher=teacher,
        objective=Objective({"forward_kl": ForwardKL()}, {"forward_kl": 1.0}),
        task=task,
        optimization=OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=0.1)),
        longest=3,
        **options,
    )
    batch = texts(STRINGS[:8])
    prepare(strategy, batch, 40, STRINGS[:8].new_full((40, 4), 1).index_fill(1, torch.tensor([0]), -100))
    return members, strategy.train(), batch


def by_hand(step):
    """The loss of a step on own answers: each text with the teacher of its sample."""
    seen, total, count = step.batch, 0.0, 0
    student = Prefixes(1)
    for place, sample in enumerate(seen.index.tolist()):
        ids = seen.inputs["input_ids"][place : place + 1]
        mine, theirs = (model(ids)[0, :-1].log_softmax(-1) for model in (student, Prefixes(2 + sample % 2)))
        counts = seen.labels[place, 1:] != -100
        total, count = total + (theirs.exp() * (theirs - mine)).sum(-1)[counts].sum(), count + int(counts.sum())
    return total / count


def test_own_answers_go_to_the_teacher_of_their_prompt():
    members, strategy, batch = on_policy(share=1)
    for one in members.values():
        one.asked.clear()
    step = strategy.distill(batch)
    torch.testing.assert_close(step.loss.total, by_hand(step))
    assert [one.asked for one in members.values()] == [[[0, 2, 4, 6]], [[1, 3, 5, 7]]]


def test_earlier_answers_go_to_the_teacher_of_their_prompt():
    """Answers from the memory are to other prompts than those of the batch."""
    members, strategy, batch = on_policy(share="adaptive", capacity=6)
    answers = torch.cat([torch.zeros(6, 1, dtype=torch.long), STRINGS[50:56]], 1)
    lengths = torch.full((6,), 1), torch.full((6,), 3)
    strategy.replay.keep(
        Generated(answers, *lengths, torch.ones(6, dtype=torch.bool)), torch.tensor([9, 11, 13, 20, 22, 24])
    )
    strategy._decided, strategy.steps_done = (3, "earlier"), 3
    for one in members.values():
        one.asked.clear()
    step = strategy.distill(batch)
    assert set(step.batch.index.tolist()) <= {9, 11, 13, 20, 22, 24} and len(step.batch.index) == 8
    torch.testing.assert_close(step.loss.total, by_hand(step))
    assert sorted(sum((sum(one.asked, []) for one in members.values()), [])) == sorted(step.batch.index.tolist())


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_routes_by_split(networks, batch):
    task = CausalLM(WORDS)
    members = {"maths": Frozen(networks["maths"], task), "code": Frozen(networks["code"], task)}
    calls = []
    teacher = Routed(
        members, lambda: calls.append(1) or {"train": torch.tensor([0, 1, -1, 1]), "test": torch.tensor([1])}
    )
    assert not calls
    assert teacher.counts("train", torch.tensor([0, 1, 3])) == {"maths": 1, "code": 2}
    assert teacher.numbers("validation", torch.tensor([3, 0])).tolist() == [1, 0], "it is held out of train"
    assert teacher.numbers("test", torch.tensor([0])).tolist() == [1] and calls == [1]
    own = batch.replace(index=torch.tensor([3, 0, 1, 1, 0, 3, 1, 0]))
    assert teacher.own("maths", own).tolist() == [1, 4, 7]
    with pytest.raises(InputError, match="no member answers sample 2 of train"):
        teacher.numbers("train", torch.tensor([1, 2]))
    with pytest.raises(InputError, match="there are routes of 1 samples of test"):
        teacher.numbers("test", torch.tensor([1]))
    with pytest.raises(InputError, match="there are routes of none of this split"):
        Routed(members, {"test": torch.tensor([1])}).numbers("train", torch.tensor([0]))
    assert copy.deepcopy(teacher) is teacher and teacher.parameter_count is None


def test_members_that_cannot_be_rows_of_one_batch():
    dense = Says(Outputs(torch.zeros(2, 3)))
    part = TopK(ids=torch.zeros(2, 1).long(), classes=3, log_probabilities=torch.zeros(2, 1), log_tail=torch.zeros(2))
    hot = Outputs(copy.copy(part))
    hot.answer.temperature = 2.0
    problems = unlike({"a": dense.outputs, "b": Outputs(part)})
    assert problems == [
        "b: its answers are the most probable classes at temperature 1, and those of a are all logits; all members "
        "must answer in one way: networks alone, or servers alone (teacher=served)"
    ]
    assert "the most probable classes at temperature 2" in unlike({"a": Outputs(part), "b": hot})[0]
    with pytest.raises(InputError, match="of some members all logits are known, and of others a part"):
        joined([(torch.tensor([0, 1]), dense.outputs), (torch.tensor([2, 3]), Outputs(part))], 4)
    served = Says(Outputs(part), gives_logits=False)
    assert not Routed({"a": dense, "b": served}, {}).gives_logits and Routed({"a": dense}, {}).gives_logits
    with pytest.raises(InputError, match="at least one member"):
        Routed({}, {})
    with pytest.raises(InputError, match="teacher.members.b: it has a teacher for each term of the loss"):
        Routed({"a": dense, "b": PerTerm({"c": dense}, {"kd": "c"})}, {})
    with pytest.raises(InputError, match="at most 256 members, got 257"):
        Routed({str(number): dense for number in range(257)}, {})


def test_members_are_compared_before_anything_is_trained(networks, batch):
    """Also where the first batch holds no row of one of them."""
    task = CausalLM(WORDS)
    members = {name: Frozen(networks[name], task) for name in ("maths", "code")}
    strategy = Offline(
        student=network(9, 8),
        teacher=Routed(members, {"train": torch.zeros(8, dtype=torch.long)}),
        objective=Objective({"hint": Hint("hidden1", "hidden1")}, {"hint": 1.0}),
        task=task,
        optimization=OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=0.1)),
    )
    with pytest.raises(InputError, match=r"members.code: its 'hidden1' has the shape \(8, 12\), and .*maths \(8, 8\)"):
        prepare(strategy, batch, 8, batch.labels)
    with pytest.raises(InputError, match="teacher.members.maths: tap 'nothing'"):
        strategy.teacher.prepare({"hint": ("nothing",)})


def test_members_on_servers(networks, batch):
    """Each server is asked about its own texts, and gives as many words as it was asked for."""
    task, routes, given = CausalLM(WORDS), ROUTES % 2, (4, 6)
    own = {name: networks[name] for name in ("maths", "code")}
    with SmallServer(own["maths"]) as one, SmallServer(own["code"]) as other:
        served = {name: Served(server.address, "tiny", WORDS, k) for name, server, k in zip(own, (one, other), given)}
        found = task.align(Routed(served, {"train": routes}).teach(batch), batch).sparse
    assert [member.cost["texts"] for member in served.values()] == [5, 3]
    local = Routed({name: Frozen(one, task) for name, one in own.items()}, {"train": routes})
    logs = task.align(local.teach(batch), batch).logits.log_softmax(-1)
    for row, sample in enumerate(task.align_batch(batch).index.tolist()):
        k = given[routes[sample]]
        values, places = logs[row].topk(k)
        assert found.ids[row, :k].tolist() == places.tolist()
        torch.testing.assert_close(found.log_probabilities[row, :k], values, rtol=1e-4, atol=1e-4)
        assert found.log_probabilities[row, k:].isneginf().all()
        torch.testing.assert_close(found.log_tail[row].exp(), 1 - values.exp().sum(), rtol=1e-3, atol=1e-5)


def test_networks_and_loaders_of_your_own():
    """By the numbers of the samples in their data sets, which ``kdlab.distill`` gives."""
    torch.manual_seed(0)
    inputs = torch.randn(64, 4)
    data = torch.utils.data.TensorDataset(inputs, (inputs[:, 0] > 0).long())
    train = torch.utils.data.DataLoader(data, 16, shuffle=True)
    asked = {"a": [], "b": []}

    class Noted(nn.Linear):
        def __init__(self, name):
            super().__init__(4, 2)
            self.name = name

        def forward(self, given):
            asked[self.name].append(given)
            return super().forward(given)

    members = {name: Frozen(Noted(name), Classification(2)) for name in asked}
    routes = dict.fromkeys(("train", "validation"), torch.arange(64) % 2)
    made = kdlab.distill(
        nn.Linear(4, 2), Routed(members, routes), train, train, loss=["ce", "kd"], epochs=1, progress="none"
    )
    assert 0 <= made.metrics["val/accuracy"] <= 1
    for number, name in enumerate(asked):
        own = {tuple(row.tolist()) for row in inputs[number::2]}
        tried = {tuple(row.tolist()) for row in inputs[:4]}  # before training, all members are asked about a few
        seen = {tuple(row.tolist()) for given in asked[name] for row in given}
        assert own <= seen <= own | tried
