"""Metrics of generated answers: numbers by hand, seeds, processes, a run, and what is refused."""

import re

import pytest
import torch

import kdlab as package
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.models import CausalModel
from kdlab.runs.curve import MetricsFile
from kdlab.tasks import CausalLM
from kdlab.tasks.answers import Distinct, has_words, rouge_l
from kdlab.tasks.base import of_samples

END, LETTERS = 1, "zyabcdefghij"


def decode(tokens):
    return " ".join(LETTERS[token] for token in tokens)


@pytest.mark.parametrize(
    "answer, reference, score",
    [
        ("a b c d", "a c d e", 3 / 4),  # "a c d"
        ("a b", "b a b a", 2 * 1 * 0.5 / 1.5),  # "a b": all of two words, half of four
        ("The CAT-sat!", "the cat sat", 1),
        ("he runs", "he run", 0.5),  # no stemming
        ("", "a", 0),
        ("!?", "a", 0),
    ],
)
def test_the_longest_common_subsequence_of_words(answer, reference, score):
    assert rouge_l(answer, reference) == pytest.approx(score)


def test_other_scripts_have_no_words():
    assert not has_words("你好") and not has_words("") and has_words("café") and has_words("7")


def test_distinct_tokens_and_pairs_by_hand():
    one = torch.tensor([[[4, 5, 4, -100], [5, 6, -100, -100]]])
    for size, share in ((1, 3 / 5), (2, 3 / 3)):
        metric = Distinct(size)
        metric.update(None, None, {"tokens": one})
        assert metric.compute().item() == pytest.approx(share)
        metric.update(None, None, {"tokens": one})  # the same again: no new n-gram
        assert metric.compute().item() == pytest.approx(share / 2)
    nothing = Distinct(2)
    nothing.update(None, None, {"tokens": torch.tensor([[[4], [5]]])})
    assert nothing.compute().isnan(), "answers of one token have no pairs"


def test_n_grams_of_several_processes_are_put_together():
    """Pairs of the first seed: 45, 54 and 56; of the second: 77 three times and 45. One process has no answers."""
    rows = torch.tensor([[[4, 5, 4, -100], [5, 6, -100, -100]], [[7, 7, 7, 7], [4, 5, -100, -100]]])
    others = [Distinct(2, seeds=2) for _ in range(3)]

    def gather(state, group=None):
        return [one._known() if state.dim() == 2 else one.counts for one in others]

    for number in range(2):
        others[number].update(None, None, {"tokens": rows[:, number : number + 1]})
    for _ in range(2):
        metric = Distinct(2, seeds=2, dist_sync_fn=gather, distributed_available_fn=lambda: True)
        metric.update(None, None, {"tokens": rows[:, :1]})
        assert metric.compute().item() == pytest.approx((3 / 3 + 2 / 4) / 2)
    assert others[0].compute().item() == pytest.approx((2 / 2 + 1 / 3) / 2)


def common(one, other):
    """The length of the longest common subsequence."""
    if not one or not other:
        return 0
    if one[-1] == other[-1]:
        return 1 + common(one[:-1], other[:-1])
    return max(common(one[:-1], other), common(one, other[:-1]))


def test_drawn_answers_are_measured_for_each_seed():
    torch.manual_seed(0)
    network = CausalModel(architecture="llama", vocabulary=12, layers=1, width=16, heads=2, positions=32).eval()
    ids = torch.randint(2, 12, (6, 8))
    ids[:, -1] = END
    labels = ids.masked_fill(torch.arange(8) < 3, -100)
    names = ["rouge_l", "distinct_1", "distinct_2", "answer_tokens", "truncated", "exact_match"]
    options = {"measured": names, "longest_answer": 5, "end_tokens": (END,), "decode": decode}
    seeds = (3, 8)
    task = CausalLM(12, answer_temperature=1.5, answer_seeds=list(seeds), **options)
    assert [one.name for one in task.report.metrics[:6]] == names

    def batch(start, stop):
        rows = slice(start, stop)
        return Batch({"input_ids": ids[rows]}, labels[rows], torch.arange(start, stop), split="test")

    def measured(parts):
        metrics = task.metrics()
        for part in parts:
            outputs = task.align(task.network_outputs(network, part), part)
            metrics.update(*task.counting(outputs, task.align_batch(part)), **of_samples(outputs))
        return task.computed(metrics)

    found = measured([batch(0, 4), batch(4, 6)])
    assert list(found)[:6] == names
    assert found == pytest.approx(measured([batch(0, 6)]), rel=1e-5), "batches do not matter"

    scores, shares, lengths, drawn = [], {1: [], 2: []}, [], []
    for seed in seeds:
        made = task.generated(network, batch(0, 6), 1.5, 5, (seed,))
        answers = [row[row != -100].tolist() for row in made.labels]
        lengths += map(len, answers)
        drawn.append(answers)
        answers = [[token for token in one if token != END] for one in answers]
        for answer, wanted in zip(answers, ids[:, 3:-1].tolist()):
            longest = common(answer, wanted)
            scores.append(2 * longest / (len(answer) + len(wanted)) if longest else 0)
        for size, all_of_them in shares.items():
            grams = [tuple(one[n : n + size]) for one in answers for n in range(len(one) - size + 1)]
            all_of_them.append(len(set(grams)) / len(grams))
    assert found["rouge_l"] == pytest.approx(sum(scores) / 12) and 0 < found["rouge_l"] < 1
    assert found["distinct_1"] == pytest.approx(sum(shares[1]) / 2) and 0 < found["distinct_1"] < 1
    assert found["distinct_2"] == pytest.approx(sum(shares[2]) / 2)
    assert drawn[0] != drawn[1], "each seed has its own answers"
    assert found["answer_tokens"] == pytest.approx(sum(lengths) / 12)
    greedy = CausalLM(12, **options)
    tokens = greedy.network_outputs(network, batch(0, 6)).samples["tokens"]
    assert tokens.shape[:2] == (1, 6), "greedy answers are generated once"


OPTIONS = {"measured": ["rouge_l"], "decode": decode, "end_tokens": (END,)}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"answer_temperature": -1}, "task.answer_temperature must be 0 .* got -1"),
        ({"answer_temperature": float("inf")}, "task.answer_temperature must be 0"),
        ({"answer_seeds": []}, "task.answer_seeds must be a list of whole numbers"),
        ({"answer_seeds": 3}, r"for example \[1,2,3\], got 3"),
        ({"answer_seeds": [1, 1], "answer_temperature": 1}, "a seed is named twice"),
        ({"answer_seeds": [1, 2]}, "greedy answers do not depend on a seed; task.answer_temperature=1"),
        ({"measured": [], "answer_temperature": 1}, "no metric of generated answers is measured"),
        ({"measured": ["rouge_1"]}, "no metric 'rouge_1'; did you mean 'rouge_l'"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        CausalLM(12, **{**OPTIONS, **options})


def test_texts_that_cannot_be_compared_are_refused_before_training():
    network = torch.nn.Embedding(12, 12).eval()
    network.forward = lambda input_ids: torch.zeros(*input_ids.shape, 12)
    ids = torch.tensor([[2, 3, 4, END]])
    labels = ids.masked_fill(torch.arange(4) < 2, -100)
    batch = Batch({"input_ids": ids}, labels, torch.arange(1), split="train")
    with pytest.raises(InputError, match="rouge_l compares texts, and these data have no tokenizer"):
        CausalLM(12, **{**OPTIONS, "decode": None}).network_outputs(network, batch)
    with pytest.raises(InputError, match="the answers of these data have none"):
        CausalLM(12, **{**OPTIONS, "decode": lambda tokens: "你好"}).network_outputs(network, batch)
    assert CausalLM(12, **OPTIONS).network_outputs(network, batch).samples == {}


SUMS = [
    *("task=causal_lm", "data=sums", "student=llama", "student.layers=1", "student.width=32", "student.heads=2"),
    *("data.largest=9", "data.samples=60", "data.test_samples=30", "data.batch_size=8", "strategy=supervised"),
    *("optimizer.lr=0.01", "task.longest_answer=4", "progress=none"),
    "task.measured=[rouge_l,exact_match,distinct_1,distinct_2]",
]
DRAWN = ["task.answer_temperature=1", "task.answer_seeds=[1,2]"]


def scores_of(out):
    rows = [line.split() for line in out.splitlines() if re.match(r"\w+ +[\d.]+", line)]
    return {name: [float(value) for value in values] for name, *values in rows}


def test_a_run_is_evaluated_with_each_seed(kdlab):
    run = package.train([*SUMS, *DRAWN, "trainer.max_epochs=3"])
    assert run.record["task"]["metrics"][0]["name"] == "rouge_l"
    assert {"val/rouge_l", "val/distinct_2"} <= set(MetricsFile(run.metrics_file).load().rows[-1])
    names = ("rouge_l", "exact_match", "distinct_1", "distinct_2")
    kept = {name: run.metrics[f"test/{name}"] for name in names}
    assert 0 < kept["distinct_1"] < kept["distinct_2"] < 1
    code, out, err = kdlab("evaluate", run.path)
    assert code == 0, err
    assert {name: values[0] for name, values in scores_of(out).items() if name in names} == pytest.approx(
        kept, abs=1e-4
    )
    code, out, err = kdlab("evaluate", run.path, "task.answer_seeds=[1,2]")
    assert code == 0, err
    assert "seed 1" in out and "seed 2" in out and "test split of sums, 30 samples" in out
    found = scores_of(out)
    assert len(found["nll"]) == 1, "it does not depend on the answers"
    for name in names:
        mean, *each = found[name]
        assert mean == pytest.approx(sum(each) / 2, abs=1e-4) and mean == pytest.approx(kept[name], abs=1e-4)
    greedy = ["task.measured=[exact_match,rouge_l]", "task.answer_temperature=0", "task.answer_seeds=[1]"]
    code, out, err = kdlab("evaluate", run.path, *greedy)
    assert code == 0 and len(scores_of(out)["rouge_l"]) == 1 and "distinct_1" not in out
    assert kdlab("evaluate", run.path, "data.test_samples=20", "task.answer_seeds=[5,6]")[0] == 0
    for wrong, words in (
        (["task.answer_seed=[1]"], "only what is measured can be overridden here; did you mean 'task.answer_seeds'"),
        (["task.answer_seeds=[1]", "task.longest_answer=4000"], "task.longest_answer=4000: the longest prompt has 4"),
        (["optimizer.lr=1"], "only data can be overridden"),
        (["--bias", "1=2"], "for classes, and this run's are words"),
    ):
        code, out, err = kdlab("evaluate", run.path, *wrong)
        assert code == 2 and words in err, err


def test_the_options_are_part_of_the_identity_where_they_are_not_the_usual_ones():
    from kdlab.config.compose import compose
    from kdlab.runs.identity import run_hash

    plain = run_hash(compose(SUMS))
    assert run_hash(compose([*SUMS, "task.answer_temperature=0.0", "task.answer_seeds=[1]"])) == plain
    assert len({plain, *(run_hash(compose([*SUMS, DRAWN[0], *more])) for more in ([], DRAWN[1:]))}) == 3


@pytest.mark.slow
def test_two_processes_measure_what_one_does(workplace):
    options = [*SUMS, *DRAWN, "trainer.max_epochs=1", "data.batch_size=8", "optimizer.lr=0"]
    one, two = (
        package.train([*options, f"name={name}", *more])
        for name, more in (
            ("one", []),
            ("two", ["trainer.devices=2", "trainer.accelerator=cpu", "data.evaluation_batch_size=2"]),
        )
    )
    for name in ("rouge_l", "exact_match", "distinct_1", "distinct_2"):
        assert two.metrics[f"val/{name}"] == pytest.approx(one.metrics[f"val/{name}"], rel=1e-5), name
