"""Regression: the numbers by hand, and runs from the command line to the report."""

import json
import re
import warnings

import pytest
import torch
from torch import nn

import kdlab as package
from kdlab.batch import Batch
from kdlab.compare import compare
from kdlab.config.compose import compose
from kdlab.data import Diabetes
from kdlab.errors import InputError
from kdlab.tasks import Regression
from kdlab.training.assemble import assembled

TASK = Regression(2)
VALUES = torch.tensor([[1.0, 0.0], [2.0, 1.0], [3.0, 5.0]])
TARGET = torch.tensor([[1.0, 1.0], [2.0, 3.0], [6.0, 5.0]])
SHORT = ["task=regression", "trainer.max_epochs=3", "progress=none", 'teacher.overrides=["trainer.max_epochs=3"]']


def test_scores_by_hand():
    # squared errors 0 1, 0 4, 9 0; the columns' sums of squares about their means (3 and 3): 14 and 8
    assert TASK.score(VALUES, TARGET) == pytest.approx(
        {"mse": 14 / 6, "mae": 6 / 6, "r2": (1 - 9 / 14 + 1 - 5 / 8) / 2}
    )
    streamed = TASK.metrics()
    for row in range(3):
        streamed.update(VALUES[row : row + 1], TARGET[row : row + 1])
    assert TASK.computed(streamed) == pytest.approx(TASK.score(VALUES, TARGET), rel=1e-5)


def test_outputs_and_targets():
    batch = Batch(torch.ones(3, 4), torch.tensor([1.0, 2.0, 3.0]), torch.arange(3))
    one = Regression(1)
    assert one.network_outputs(nn.Flatten(0), batch.replace(inputs=torch.ones(3, 1))).logits.shape == (3, 1)
    assert one.align_batch(batch).target.tolist() == [[1.0], [2.0], [3.0]]
    with pytest.raises(InputError, match=r"targets of shape \(samples, 2\), and the data have \(3,\)"):
        TASK.align_batch(batch)
    with pytest.raises(InputError, match=r"shape \(samples, values\), got \(12,\)"):
        TASK.network_outputs(nn.Flatten(0), batch)


def test_chance():
    torch.manual_seed(0)
    target = torch.randn(60, 1)
    for predicted, small in ((target + 0.1 * torch.randn(60, 1), True), (torch.randn(60, 1), False)):
        test = Regression(1).chance()
        for part in torch.arange(60).split(25):
            test.update(predicted[part], target[part])
        assert (test.p_value() < 1e-6) == small and test.least_p_value() < 1e-6
    test = Regression(1).chance()
    test.update(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([[0.0], [2.0], [1.0]]))  # errors 1, 1, 16
    assert test.tested == "mean error 6.0000, and 0.6667 for the best constant prediction"


def test_a_refused_teacher_is_shown_with_the_numbers_that_were_tested(workplace):
    """Rank correlation is high, and the errors are larger than those of the mean: its values are of another scale."""
    with pytest.raises(InputError) as error:
        package.train(
            [
                *("task=regression", "task.measured=[spearman]", "trainer.max_epochs=1", "progress=none"),
                *("teacher=network", "teacher._target_=tests.tasks.test_regression.of_another_scale"),
            ]
        )
    tested = r"\(spearman (\S+); mean error (\S+), and (\S+) for the best constant prediction\)"
    found = re.search(tested, str(error.value))
    assert found is not None, str(error.value)
    assert float(found[1]) > 0.3 and float(found[2]) > float(found[3]) > 0


def of_another_scale():
    """Ten times the body mass index, the third of ten inputs: it rises with the label, which varies by about 1."""
    network = nn.Linear(10, 1)
    with torch.no_grad():
        network.weight.copy_(nn.functional.one_hot(torch.tensor([2]), 10) * 10)
        network.bias.zero_()
    return network


def test_rank_correlation_does_not_warn_that_it_keeps_values():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Regression(2, measured=["spearman"]).metrics()


def test_the_data():
    data = Diabetes(validation=0.2)
    data.setup()
    assert (len(data.part("train")), len(data.part("validation"))) == (283, 71)
    batch = data.train_dataloader().first(4)
    assert batch.inputs.shape == (4, 10) and batch.target.shape == (4, 1)
    target = data._stored[0].target
    assert target.mean().item() == pytest.approx(0, abs=1e-5) and target.std().item() == pytest.approx(1, abs=1e-5)
    inputs = torch.cat([batch.inputs for batch in Diabetes(batch_size=1).train_dataloader()])
    assert inputs.std().item() == pytest.approx(1, abs=0.1)


def test_a_run_a_table_and_a_report(workplace, kdlab):
    code, out, err = kdlab("train", *SHORT, "seed=1")
    assert code == 0, err
    assert "teacher: mlp_wide on diabetes (seed 1), mse 0." in out and "test mse 0." in out and "accuracy" not in out
    baseline = ["strategy=supervised", *SHORT[:3]]
    assert kdlab("train", *baseline, "seed=1")[0] == 0
    for seed in (2, 3):
        package.train([*SHORT, f"seed={seed}"], quiet=True)
        package.train([*baseline, f"seed={seed}"], quiet=True)
    table = compare("runs/quickstart")
    assert table.metric == "mse" and not table.higher_is_better
    student = next(row for row in table.rows if row.role == "student baseline")
    distilled = next(row for row in table.rows if row.role == "variant")
    assert 0.2 < distilled.last.mean < 1.2 and distilled.retention is None and student.last.n == 3
    assert distilled.difference.mean == pytest.approx(distilled.last.mean - student.last.mean)
    assert {"mae", "r2", "mse_to_teacher"} <= set(distilled.further)
    code, out, err = kdlab("compare", "runs/quickstart", "--report", "--further", "r2,mse_to_teacher")
    assert code == 0 and "mse_to_teacher" in out, err
    page = (workplace / "runs/quickstart/report/report.html").read_text()
    assert "mse on validation" in page and "Reliability" not in page and "soft targets" not in page.lower()
    code, out, err = kdlab("runs", "list")
    assert f"{distilled.values[1]:.4f}" in out
    run = package.load(next((workplace / "runs/quickstart").glob("offline*s1*")))
    assert json.loads((run.path / "run.json").read_text())["task"]["metrics"][0]["name"] == "mse"
    code, out, err = kdlab("evaluate", run.path)
    assert code == 0 and f"mse       {run.metrics['test/mse']:.4f}" in out
    code, out, err = kdlab("evaluate", run.path, "--per-class")
    assert code == 2 and "--bias and --per-class are for classes, and this run's task is regression" in err


def test_the_best_epoch_has_the_smallest_error(workplace):
    run = package.train([*SHORT[:3], "strategy=supervised", "trainer.max_epochs=6", "optimizer.lr=0.05"])
    from kdlab.runs.curve import MetricsFile

    curve = MetricsFile(run.metrics_file).load().curve("val/mse")
    assert run.metrics["best_epoch"] == min(curve, key=curve.get)
    assert run.metrics["val/mse_best"] == pytest.approx(min(curve.values()))


@pytest.mark.parametrize(
    "strategy, keys",
    [
        ("ema", []),
        ("online", ["strategy.peers=1"]),
        ("previous_checkpoint", []),
        ("dlb", []),
        ("byot", ["student.hidden=[16,16]"]),
        ("born_again", ["strategy.generation=1"]),
        ("cotrain", []),
    ],
)
def test_other_strategies_learn_values(workplace, strategy, keys):
    run = package.train(["task=regression", f"strategy={strategy}", "trainer.max_epochs=4", "progress=none", *keys])
    assert run.metrics["test/r2"] > 0 and 0.2 < run.metrics["test/mse"] < 1.0


@pytest.mark.parametrize(
    "typed, said",
    [
        (["loss=[ce,kd]"], "loss.kd: HintonKD is for classes, and with task=regression a network answers with values"),
        (
            [
                "loss=[mse,srrl]",
                "loss.srrl.divergence=kl",
                "loss.srrl.student_tap=stage1",
                "loss.srrl.teacher_tap=stage1",
            ],
            "loss.srrl: SRRL is for classes",
        ),
        (["loss=[mse,crd]"], "loss.crd: CRD is for classes"),
        (["strategy=kdcl"], "strategy: Collaborative is for classes"),
        (["strategy=ps_kd"], "strategy: Progressive is for classes"),
        (["strategy=cs_kd"], "strategy: ClassWise is for classes"),
        (["strategy=one"], "strategy: NativeEnsemble is for classes"),
        (["data=digits", "loss=[mse]", "strategy=supervised"], r"targets of shape \(samples, 10\), and the data have"),
        (
            ["student.classes=3", "strategy=supervised"],
            "answers with 3 values, but the data have 1; set student.cl",
        ),
        (
            ["strategy=online", "strategy.teachers=mean_probabilities"],
            "strategy.teachers=mean_probabilities is for classes.*strategy.teachers=mean_logits",
        ),
    ],
)
def test_what_is_for_classes_is_refused(typed, said):
    with pytest.raises(InputError, match=said):
        assembled(compose([*SHORT[:1], *typed]))


def test_ensembles_average_the_values(workplace):
    typed = ["task=regression", "teacher=ensemble"]
    with pytest.raises(InputError, match="teacher.average=probabilities is for classes.*teacher.average=logits"):
        assembled(compose(typed))
    parts = assembled(compose([*typed, "teacher.average=logits"]))
    batch = parts.data.train_dataloader().first(3)
    said = torch.stack([member.teach(batch).logits for member in parts.teacher.members.values()])
    torch.testing.assert_close(parts.teacher.teach(batch).logits, said.mean(0))


def test_losses_of_labels_alone_are_left_for_supervised_training():
    assert list(compose(["task=regression", "strategy=supervised"])["loss"]) == ["mse"]
    assert list(compose(["task=multilabel", "strategy=supervised"])["loss"]) == ["bce"]
    typed = compose(["task=regression", "strategy=supervised", "loss=[mse,logit_mse]"])
    assert list(typed["loss"]) == ["mse", "logit_mse"]
    assert list(compose(["task=regression", "strategy=ema"])["loss"]) == ["mse", "logit_mse"]
    assert list(compose(["strategy=supervised"])["loss"]) == ["ce"]


def test_losses_of_a_teacher_alone_are_left_for_a_strategy_that_learns_from_no_labels():
    assert list(compose(["task=regression", "strategy=funmatch"])["loss"]) == ["logit_mse"]
    assert list(compose(["task=multilabel", "strategy=funmatch"])["loss"]) == ["sigmoid_kd"]
    assert list(compose(["task=regression", "strategy=funmatch", "loss=[mse]"])["loss"]) == ["mse"]
    assert assembled(compose(["task=regression", "strategy=funmatch"])).strategy.objective.weights == {"logit_mse": 1.0}


def test_a_strategy_that_is_a_loss_for_classes_is_refused(kdlab, workplace):
    code, _, err = kdlab("train", "task=regression", "strategy=tf_kd_virtual")
    assert code == 2 and not list(workplace.iterdir())
    assert " ".join(err.split()) == (
        "kdlab: strategy=tf_kd_virtual is loss=[ce,virtual_teacher], which is for classes, and task=regression has "
        "loss=[mse,logit_mse]; take another strategy, for example strategy=offline"
    )


@pytest.mark.parametrize("mean, scale", [(0.0, 1.0), (1e5, 1.0), (0.0, 1e-4)])
def test_numbers_far_from_zero_and_small_numbers(mean, scale):
    """In float32 the sums of squares would lose the spread."""
    generator = torch.Generator().manual_seed(5)
    target = (mean + scale * torch.randn(80, 1, generator=generator, dtype=torch.float64)).float()
    values = target + 0.3 * scale * torch.randn(80, 1, generator=generator)
    y, predicted = target.double().numpy(), values.double().numpy()
    expected = 1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    score = Regression(1).score(values, target)
    assert score["r2"] == pytest.approx(expected, rel=1e-6) and expected > 0.5
    assert score["mse"] == pytest.approx(((y - predicted) ** 2).mean(), rel=1e-9)
    one = Regression(1).score(values[:1], target[:1])
    assert one["r2"] != one["r2"] and one["mse"] == pytest.approx(float((values[0] - target[0]) ** 2), rel=1e-5)


def test_an_ensemble_of_values_is_their_mean(workplace):
    run = package.train([*SHORT[:3], "strategy=byot", "student.hidden=[16,16]", "trainer.max_epochs=4"])
    networks = run.record["networks"]
    alone = [scores["test/mse"] for name, scores in networks.items() if name != "ensemble"]
    assert networks["ensemble"]["test/mse"] < max(alone), "the mean of several is no worse than the worst of them"


def test_half_precision_that_rounds_the_targets_is_refused():
    with pytest.raises(InputError, match="trainer.precision=bf16-true rounds the targets.*precision=bf16-mixed"):
        assembled(compose([*SHORT[:1], "strategy=supervised", "trainer.precision=bf16-true"]))


def test_other_data_of_the_same_task(workplace, kdlab):
    run = package.train([*SHORT[:3], "strategy=supervised"])
    code, out, err = kdlab("evaluate", run.path, "data=diabetes")
    assert code == 0 and f"{run.metrics['test/mse']:.4f}" in out, err
    code, out, err = kdlab("methods", "--for", "regression")
    assert code == 0 and all(name in out for name in ("mse ", "logit_mse", "hint", "offline")) and "dkd" not in out


def test_a_measure_that_the_report_does_not_name_is_refused():
    with pytest.raises(InputError, match="measures mape, and its report does not name it"):
        assembled(compose([*SHORT[:1], "strategy=supervised", "task._target_=tests.tasks.test_regression.Forgotten"]))


class Forgotten(Regression):
    def metrics(self):
        from torchmetrics import MeanAbsolutePercentageError, MetricCollection

        return MetricCollection([super().metrics(), MetricCollection({"mape": MeanAbsolutePercentageError()})])


def test_data_of_numbers_with_a_classifier_name_the_task(kdlab, workplace):
    code, out, err = kdlab("train", "data=diabetes")
    assert code == 2 and "data.classes must be" in err and "need task=regression" in err
    assert not (workplace / "runs").exists()


def test_correlations_by_hand():
    task = Regression(1, measured=["spearman", "pearson"])
    values, target = torch.tensor([[1.0], [2.0], [4.0], [3.0]]), torch.tensor([[1.0], [2.0], [3.0], [9.0]])
    found = task.score(values, target)
    assert list(found) == ["spearman", "pearson", "mse", "mae", "r2"] and task.headline.higher_is_better
    assert found["spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15))  # ranks differ by 1 twice
    # deviations -1.5 -0.5 1.5 0.5 and -2.75 -1.75 -0.75 5.25: products sum to 6.5, squares to 5 and 38.75
    assert found["pearson"] == pytest.approx(6.5 / (5 * 38.75) ** 0.5, abs=1e-6)
    both = Regression(2, measured=["pearson"]).score(torch.cat([values, target], 1), torch.cat([values, -target], 1))
    assert both["pearson"] == pytest.approx(0.0, abs=1e-6)
