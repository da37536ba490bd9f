"""On-policy distillation: whose answers are learned from, the expected gradient, the normaliser, and the curve."""

import itertools

import pytest
import torch

import kdlab
from kdlab.errors import InputError
from kdlab.losses import DKD, CrossEntropy, ForwardKL, PolicyGradient, ReverseKL
from kdlab.models.generation import Generated
from kdlab.runs.curve import MetricsFile
from kdlab.strategies import OnPolicy
from kdlab.strategies.measured import MeanLosses
from kdlab.strategies.replay import Replay
from kdlab.training.preparation import prepare
from tests.strategies.prefixes import STRINGS, Prefixes, made, probabilities, texts


def gkd(**options):
    always = options.get("share") == 1  # then cross-entropy would never count
    terms = {"reverse_kl": ReverseKL()} if always else {"ce": CrossEntropy(), "reverse_kl": ReverseKL()}
    return made(OnPolicy, terms, texts(STRINGS[:4]), teacher=Prefixes(2), **options)


# -- whose answers -----------------------------------------------------------------------------------------------------


def drawn(strategy, steps=400, epochs_done=lambda step: 0.0):
    found = []
    for step in range(steps):
        strategy.steps_done, strategy.epochs_done = step, epochs_done(step)
        found.append(strategy.whose())
    return found


def test_lambda_is_drawn_once_a_step_by_the_seed():
    first = drawn(gkd(share=0.3, seed=5))
    assert first == drawn(gkd(share=0.3, seed=5)) != drawn(gkd(share=0.3, seed=6))
    assert abs(first.count("own") / 400 - 0.3) < 4.5 * (0.3 * 0.7 / 400) ** 0.5
    assert set(drawn(gkd(share=1))) == {"own"} and set(drawn(gkd(share=0))) == {"data"}
    # within a step of several batches, a schedule moves on and the decision stays
    strategy = gkd(share={"schedule": "linear", "start": 0.0, "end": 1.0, "epochs": 1})
    strategy.steps_done, strategy.epochs_done = 3, 0.0
    assert strategy.whose() == "data"
    strategy.epochs_done = 1.0
    assert strategy.whose() == "data"
    strategy.steps_done = 4
    assert strategy.whose() == "own"


def test_a_linear_schedule_and_a_warm_up():
    linear = {"schedule": "linear", "start": 0.0, "end": 1.0, "epochs": 4}
    found = drawn(gkd(share=linear, warm_up=1.0), 800, lambda step: step / 200)
    assert set(found[:200]) == {"data"}
    shares = [found[begin : begin + 200].count("own") / 200 for begin in (200, 400, 600)]
    assert all(abs(share - wanted) < 0.16 for share, wanted in zip(shares, (0.375, 0.625, 0.875)))


def test_labels_are_learned_from_the_data_alone_and_samples_from_own_answers_alone():
    terms = {"ce": CrossEntropy(), "dkd": DKD(), "minillm": PolicyGradient(), "forward_kl": ForwardKL()}
    batch = texts(STRINGS[10:30])
    strategy = made(OnPolicy, terms, batch, teacher=Prefixes(2), share=0.5)
    for whose, names in (("data", ["ce", "dkd", "forward_kl"]), ("own", ["minillm", "forward_kl"])):
        strategy._decided = (0, whose)
        step = strategy.distill(batch)
        assert list(step.loss.parts) == names
        assert (step.batch is None) == (whose == "data")
    assert not torch.equal(step.batch.labels, batch.labels) and (step.batch.labels[:, 0] == -100).all()


# -- gradients ---------------------------------------------------------------------------------------------------------


def whole_answers(student, teacher):
    q, p = probabilities(student)[0], probabilities(teacher)[0]
    return (q.exp() * (q - p)).sum()


def each_position(student, teacher):
    """Reverse KL at each position of the student's answers, whose probabilities are constants."""
    q, p = (probabilities(model)[1] for model in (student, teacher))
    return ((q.exp() * (q - p)).sum(-1).sum(1) * probabilities(student)[0].exp().detach()).sum()


@pytest.mark.parametrize(
    "term, wanted",
    [
        (ReverseKL(), each_position),
        (PolicyGradient(1.0, "none", 1.0), whole_answers),
        (PolicyGradient(1.0, "none", 0.0), whole_answers),
        (PolicyGradient(0.0, "none", 0.0), each_position),
    ],
    ids=["gkd", "minillm", "minillm sampled", "sampled"],
)
def test_steps_have_the_expected_gradient_over_all_strings(term, wanted):
    """30 steps of 400 sampled answers: z-scores of all 155 parameters, with a margin."""
    student, teacher = Prefixes(1), Prefixes(2)
    batch = texts(torch.zeros(400, 3, dtype=torch.long))
    strategy = made(OnPolicy, {"term": term}, batch, student=student, teacher=teacher, share=1)
    parameters, found = list(student.parameters()), []
    for step in range(30):
        strategy.steps_done = step
        gradients = torch.autograd.grad(strategy.distill(batch).loss.total, parameters)
        found.append(torch.cat([one.flatten() for one in gradients]))
    found = torch.stack(found)
    exact = torch.cat([one.flatten() for one in torch.autograd.grad(wanted(student, teacher) / 3, parameters)])
    error = found.std(0) / 30**0.5
    assert ((found.mean(0) - exact).abs() < 6 * error + 1e-6).all()
    assert error.max() < 0.2 * exact.abs().max(), "the test could see a wrong gradient"


def test_the_mean_is_over_all_tokens_of_unequal_answers():
    """Every answer ends with token 4, so lengths differ; padding changes nothing."""
    batch = texts(STRINGS[:40])
    strategy = made(OnPolicy, {"forward_kl": ForwardKL()}, batch, teacher=Prefixes(2), share=1)
    strategy.task.end_tokens = (4,)
    step = strategy.distill(batch)
    seen = step.batch
    mine, theirs = (model(seen.inputs["input_ids"]).log_softmax(-1) for model in (strategy.student, Prefixes(2)))
    total, count = 0.0, 0
    for row, labels in enumerate(seen.labels.tolist()):
        for place, label in enumerate(labels):
            if label != -100:
                p, q = theirs[row, place - 1], mine[row, place - 1]
                total, count = total + (p.exp() * (p - q)).sum(), count + 1
    assert 40 < count < 120 and seen.rows == count
    torch.testing.assert_close(step.loss.total, total / count)


def test_the_numbers_of_the_curve():
    """Of two distributions of five words, by hand; and what their arguments change."""
    batch, readings = texts(STRINGS[:1].repeat(50, 1)), []
    for overlap in (1, 2):
        strategy = made(
            OnPolicy, {"forward_kl": ForwardKL()}, batch, teacher=Prefixes(2), share=1, longest=1, overlap=overlap
        )
        strategy._compared = MeanLosses()
        seen = strategy.distill(batch).batch
        assert seen.inputs["input_ids"].shape == (50, 2), "answers of one token"
        readings.append(strategy._compared.means(torch.as_tensor, "cpu"))
    q, p = (Prefixes(seed).tables[0][0].softmax(-1).detach() for seed in (1, 2))
    for overlap, found in zip((1, 2), readings):
        shared = set(q.topk(overlap).indices.tolist()) & set(p.topk(overlap).indices.tolist())
        assert found["overlap"] == pytest.approx(len(shared) / overlap)
        assert found["acceptance"] == pytest.approx(float(1 - (p - q).abs().sum() / 2))
        assert found["entropy"] == pytest.approx(float(-(q * q.log()).sum()))
        assert found["answer_tokens"] == 1 and found["truncated"] == 1 and found["own"] == 1


def test_greedy_answers_are_equal_and_sampled_ones_are_not():
    batch = texts(STRINGS[:40])
    kinds = []
    for temperature in (0.0, 1.0):
        strategy = made(
            OnPolicy, {"forward_kl": ForwardKL()}, batch, teacher=Prefixes(2), share=1, temperature=temperature
        )
        kinds.append(len(strategy.distill(batch).batch.labels.unique(dim=0)))
    assert kinds[0] == 1 and kinds[1] > 10


# -- answers of the teacher --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix, temperature", [(1.0, 1.0), (0.4, 1.0), (0.4, 0.5)])
def test_tokens_are_drawn_from_a_mixture_of_teacher_and_student(mix, temperature):
    """The frequencies of the first tokens of 4,000 answers."""
    batch = texts(STRINGS[:1].repeat(4000, 1))
    options = {"share": 1, "longest": 1, "teacher_mix": mix, "temperature": temperature}
    strategy = made(OnPolicy, {"forward_kl": ForwardKL()}, batch, teacher=Prefixes(2), **options)
    found = strategy.distill(batch).batch.labels[:, 1].bincount(minlength=5).double() / 4000
    q, p = ((Prefixes(seed).tables[0][0].detach() / temperature).softmax(-1) for seed in (1, 2))
    wanted = mix * p + (1 - mix) * q
    assert ((found - wanted).abs() < 5 * (wanted * (1 - wanted) / 4000).sqrt() + 1e-9).all()
    assert ((found - q).abs() > 5 * (q * (1 - q) / 4000).sqrt()).any(), "the test could see the student's own"


def test_labels_are_learned_from_the_teachers_answers():
    """SeqKD: the cross-entropy to the teacher's most probable answer, of which there is one."""
    teacher, batch = Prefixes(2), texts(STRINGS[:4])
    strategy = made(OnPolicy, {"ce": CrossEntropy()}, batch, teacher=teacher, share=1, teacher_mix=1, temperature=0)
    step, best, ids = strategy.distill(batch), [], torch.zeros(1, 1, dtype=torch.long)
    for place in range(3):
        best.append(int(teacher(ids)[0, place].argmax()))
        ids = torch.cat([ids, torch.tensor([best[-1:]])], 1)
    assert step.batch.labels[:, 1:].tolist() == [best] * 4
    value = torch.nn.functional.cross_entropy(strategy.student(ids)[0, :-1], torch.tensor(best))
    torch.testing.assert_close(step.loss.total, value)


def test_a_policy_gradient_weighs_tokens_that_the_mixture_proposed():
    """Against a loop over tokens: the weight q / (a p + (1 - a) q), clipped to [0.8, 1.2]."""
    batch, mix = texts(STRINGS[:40]), 0.4
    term = PolicyGradient(0.0, "none", 0.0)
    strategy = made(OnPolicy, {"term": term}, batch, teacher=Prefixes(2), share=1, teacher_mix=mix)
    step = strategy.distill(batch)
    seen, parameters = step.batch.inputs["input_ids"], list(strategy.student.parameters())
    mine, theirs = (model(seen)[:, :-1].log_softmax(-1) for model in (strategy.student, Prefixes(2)))
    total, kinds = 0.0, set()
    for row, place in itertools.product(range(40), range(3)):
        token = seen[row, place + 1]
        q, p = mine[row, place, token], theirs[row, place, token].detach()
        weight = q.exp() / (mix * p.exp() + (1 - mix) * q.exp()).detach()  # its gradient is that of q
        reward = (p - q).detach()
        clipped = weight.clamp(0.8, 1.2)
        total = total + torch.maximum(-reward * weight, -reward * clipped) / 120
        kinds.add((bool(weight < 0.8), bool(weight > 1.2)))
    assert len(kinds) == 3
    torch.testing.assert_close(step.loss.total, total)
    for found, wanted in zip(
        *(torch.autograd.grad(value, parameters, allow_unused=True) for value in (step.loss.total, total))
    ):
        torch.testing.assert_close(found, wanted)


# -- earlier answers ---------------------------------------------------------------------------------------------------


def generated(*numbers):
    tokens = torch.tensor([[0, number, number] for number in numbers])
    count = len(numbers)
    return Generated(tokens, torch.full((count,), 1), torch.full((count,), 2), torch.ones(count, dtype=torch.bool))


def test_the_oldest_answer_is_forgotten_first():
    replay = Replay(capacity=4, width=5)
    replay.keep(generated(1, 2, 3), torch.tensor([30, 10, 20]))
    assert not replay.full and replay.texts[:3, -1].tolist() == [10, 20, 30], "in the order of the samples"
    replay.keep(generated(4, 1, 2), torch.tensor([40, 50, 60]))
    assert replay.full and sorted(replay.texts[:, -1].tolist()) == [30, 40, 50, 60]
    found, index = replay.draw(1000, 1, 2)
    assert found.tokens.shape == (1000, 3) and found.labels[:, 0].unique().tolist() == [-100]
    assert dict(zip(index.tolist(), found.tokens[:, 1].tolist())) == {30: 1, 40: 4, 50: 1, 60: 2}
    assert all(abs(int((index == one).sum()) - 250) < 70 for one in (30, 40, 50, 60))


def test_the_adaptive_share():
    strategy = gkd(share="adaptive", capacity=6, tolerance=0.1, rise=0.25, epochs=10)
    batch, replay = texts(STRINGS[:4]), strategy.replay
    assert set(drawn(strategy)) == {"data"}, "it begins at 0"
    for loss in (1.0, 1.05, 1.2, 1.25):
        replay.follow(loss, strategy.tolerance, strategy.rise)
    assert float(replay.share) == 0.25 and set(drawn(strategy, 100)) == {"data", "own"}, "the memory is not full"
    strategy._decided = (0, "own")
    strategy.steps_done = 0
    strategy.distill(batch)
    strategy.distill(batch.replace(index=batch.index + 4))
    assert replay.full and replay.texts[:, -1].sort().values.tolist() == [2, 3, 4, 5, 6, 7]
    counts = [drawn(strategy, 800, lambda step, done=done: done).count("own") / 800 for done in (0.0, 6.0)]
    for count, done in zip(counts, (0.0, 0.6)):
        wanted = 0.25 * (1 - done)
        assert abs(count - wanted) < 4.5 * (wanted / 800) ** 0.5
    strategy._decided = (5, "earlier")
    strategy.steps_done = 5
    step = strategy.distill(batch)
    assert len(step.batch.index) == 4 and set(step.batch.index.tolist()) <= {2, 3, 4, 5, 6, 7}


# -- runs --------------------------------------------------------------------------------------------------------------

SMALL = [
    *("task=causal_lm", "data=sums", "data.largest=9", "data.samples=60", "data.test_samples=40", "data.batch_size=12"),
    *("student=llama", "student.layers=1", "student.width=16", "student.heads=2", "optimizer.lr=0.01"),
    *("trainer.max_epochs=2", "trainer.accelerator=cpu", "progress=none", "task.measured=[exact_match]"),
    *("task.longest_answer=4", "data.validation=0.2"),  # 48 sums are trained on
]


@pytest.fixture
def common(workplace):
    teacher = kdlab.train([*SMALL, "strategy=supervised", "student.width=32", "name=teacher", "trainer.max_epochs=80"])
    return [*SMALL, "strategy=on_policy", "strategy.longest=4", "teacher=run", f"teacher.run={teacher.path}"]


def rows_of(run):
    return MetricsFile(run.metrics_file).load().rows


def agree(one, two, keys=("train/loss", "train/answer_tokens", "train/entropy", "val/nll")):
    for left, right in zip(rows_of(one), rows_of(two), strict=True):
        assert left["step"] == right["step"]
        for key in keys:
            assert right[key] == pytest.approx(left[key], rel=1e-4), key
    for left, right in zip(one.student.state_dict().values(), two.student.state_dict().values(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)


def test_a_run_its_curve_and_accumulated_batches(common):
    """Answers of unequal lengths in two accumulated batches give the curve of one."""
    one = kdlab.train([*common, "name=one", "strategy.share=0.7"])
    constant = "strategy.share={schedule: constant, value: 0.7}"
    two = kdlab.train([*common, "name=two", constant, "data.batch_size=6", "trainer.accumulate_grad_batches=2"])
    row = rows_of(one)[-1]
    assert 0 <= row["train/overlap"] <= 1 and 0 < row["train/acceptance"] <= 1 and 0 <= row["train/truncated"] <= 1
    assert 1 <= row["train/answer_tokens"] <= 4 and row["train/share"] == 0.7 and 0 < row["train/own"] < 1
    assert {"test/exact_match", "test/kl_to_teacher", "test/agreement"} <= set(one.metrics)
    agree(one, two)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [["strategy.share=0.7"], ["strategy.share=adaptive", "strategy.tolerance=0", "strategy.capacity=30"]]
)
def test_two_processes(common, forked, more):
    more = [*more, "loss=[reverse_kl]", "trainer.max_epochs=4"]
    one = kdlab.train([*common, *more, "name=one"])
    two = kdlab.train([*common, *more, "name=two", "trainer.devices=2", "trainer.strategy=ddp"])
    agree(one, two, ("train/loss", "train/own", "val/nll"))


def test_the_adaptive_memory_is_saved_and_no_teacher(common):
    more = ["strategy.share=adaptive", "strategy.tolerance=0", "strategy.rise=1", "strategy.capacity=20"]
    run = kdlab.train([*common, *more, "trainer.max_epochs=4", "optimizer.lr=0.3"])
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in state} == {"student", "replay"}
    assert state["replay.texts"].shape == (20, 4 + 4 + 4)


def test_answers_without_an_end_are_refused():
    strategy = made(OnPolicy, {"forward_kl": ForwardKL()}, texts(STRINGS[:4]), teacher=Prefixes(2))
    strategy.task.end_tokens = ()
    with pytest.raises(InputError, match="strategy=on_policy: answers are generated up to a token that ends them"):
        prepare(strategy, texts(STRINGS[:4]), 4, STRINGS[:4])


def test_what_is_refused(common):
    for options, words in (
        (["strategy.share=2"], "strategy.share must be a number from 0 to 1, a schedule"),
        (["strategy.longest=0", "strategy.overlap=0"], "strategy.longest must be at least 1"),
        (["strategy.longest=600"], "strategy.longest=600: the longest prompt has 4 tokens, and the student has pos"),
        (["loss=[ce]"], "no term learns from the teacher without labels, and own answers have none"),
        (["loss=[dkd]"], "no term learns from the teacher without labels, and own answers have none"),
        (["loss=[ce,forward_kl]", "strategy.share=1"], "loss.ce: it learns from labels, .* with strategy.share=1 it"),
        (["strategy.share={schedule: linear, start: 0, end: 10, epochs: 2}"], "between 0 and 1, .* reaches 10"),
        (
            ["loss=[minillm]", "strategy.share=1", "strategy.temperature=0.7"],
            "strategy.temperature: loss.minillm needs answers at temperature 1; strategy.temperature=1",
        ),
        (
            ["loss=[forward_kl,sampled_reverse_kl]", "strategy.temperature=0"],
            "strategy.temperature: loss.sampled_reverse_kl needs answers at temperature 1",
        ),
        (["loss=[minillm]"], "loss.minillm: it is for own answers alone, and nothing is learned in the steps on those"),
        (["loss=[minillm]", "strategy.share=adaptive"], "loss.minillm: it is for answers of the present student"),
        (
            ["strategy.teacher_mix=1.5"],
            "strategy.teacher_mix must be from 0 .own answers. to 1 .the teacher's., got 1.5",
        ),
        (
            ["loss=[minillm]", "strategy.share=1", "strategy.teacher_mix=1"],
            "loss.minillm: it is for answers of the student, and strategy.teacher_mix=1 takes the teacher's",
        ),
        (["teacher.cache=fixed"], "teacher.cache=fixed: the strategy asks the teacher about texts that are not those"),
    ):
        with pytest.raises(InputError, match=words):
            kdlab.train([*common, *options])
    with pytest.raises(InputError, match="strategy=on_policy needs a teacher"):
        kdlab.train([*SMALL, "strategy=on_policy", "teacher=none"])
