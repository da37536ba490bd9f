"""Multi-label classification: the numbers by hand, and runs."""

import math

import pytest
import torch

import kdlab as package
from kdlab.batch import Batch
from kdlab.compare import compare
from kdlab.config.compose import compose
from kdlab.data import DigitAttributes, Digits
from kdlab.errors import InputError
from kdlab.functional import binary_cross_entropy, sigmoid_kd
from kdlab.runs.run import find_runs
from kdlab.tasks import MultiLabel
from kdlab.training.assemble import assembled
from kdlab.training.evaluation import evaluate

LOG = math.log
TASK = MultiLabel(2)
LOGITS = torch.tensor([[0.2, -0.3], [0.6, 0.9], [-1.0, 2.0]])  # some lie in [0, 1]: they are no probabilities
TARGET = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
SHORT = ["task=multilabel", "trainer.max_epochs=3", "progress=none", "data.fraction=0.5"]


def test_scores_by_hand():
    scores = TASK.score(LOGITS, TARGET)
    bce = [
        -LOG(1 / (1 + math.exp(-z if y else z))) for z, y in zip(LOGITS.flatten().tolist(), TARGET.flatten().tolist())
    ]
    # predicted 1 0, 1 1, 0 1: of six labels two are wrong, both of the first column, whose F1 is 2 * 1 / (2 + 1 + 1)
    assert scores == pytest.approx(
        {"accuracy": 4 / 6, "exact_match": 1 / 3, "f1": (1 / 2 + 1) / 2, "bce": sum(bce) / 6}, abs=1e-6
    )
    streamed = TASK.metrics()
    for row in range(3):
        streamed.update(LOGITS[row : row + 1], TARGET[row : row + 1])
    assert TASK.computed(streamed) == pytest.approx(scores, abs=1e-6)


def test_the_soft_targets_of_a_label_are_those_of_two_classes():
    """A sigmoid is a softmax over the logit and 0."""
    teacher, student = LOGITS.double(), LOGITS.flip(0).double()
    pairs = [torch.stack([logits, torch.zeros_like(logits)], -1) for logits in (student, teacher)]
    expected = torch.nn.functional.kl_div(
        (pairs[0] / 3).log_softmax(-1), (pairs[1] / 3).log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    torch.testing.assert_close(sigmoid_kd(student, teacher, 3.0), 9 * expected.mean(-1))
    torch.testing.assert_close(
        sigmoid_kd(student, teacher, 3.0, mean_over_labels=False, temperature_squared=False), expected.sum(-1)
    )
    torch.testing.assert_close(
        binary_cross_entropy(student, TARGET.double()),
        torch.nn.functional.binary_cross_entropy_with_logits(student, TARGET.double(), reduction="none").mean(-1),
    )


def test_labels_are_0_or_1():
    batch = Batch(torch.ones(2, 2), torch.tensor([[0, 1], [1, 1]]), torch.arange(2))
    TASK.check_labels(batch.target)
    with pytest.raises(InputError, match="task=multilabel needs targets that are 0 or 1"):
        TASK.check_labels(torch.tensor([[0, 1], [1, 2]]))
    rows = TASK.align_batch(batch)
    assert rows.target.dtype == torch.float32 and rows.weights is None


class Wrong(DigitAttributes):
    """A label of the training split, or of the test split, is 2."""

    def __init__(self, split, **options):
        super().__init__(**options)
        self.split = split

    def read(self):
        stored = super().read()
        stored[self.split].target[-1, 0] = 2.0
        return stored


def test_wrong_labels_of_the_stored_split_are_found_before_training():
    typed = [*SHORT, "strategy=supervised", f"data._target_={__name__}.Wrong", "+data.split=0"]
    with pytest.raises(InputError, match="^task=multilabel needs targets that are 0 or 1, one for each label$"):
        assembled(compose(typed))


def test_wrong_labels_are_found_where_a_split_is_evaluated():
    data = Wrong(1)
    data.setup()
    with pytest.raises(InputError, match="^task=multilabel needs targets that are 0 or 1, one for each label$"):
        evaluate({}, data.test_dataloader(), MultiLabel(3))
    assert evaluate({}, data.val_dataloader(), MultiLabel(3)) == {}


def test_a_step_does_not_read_the_labels():
    """On the meta device no number can be read: a GPU would have to wait for it."""
    target = torch.zeros(2, 2, device="meta")
    rows = TASK.align_batch(Batch(torch.ones(2, 2), target, torch.arange(2)))
    assert rows.target.is_meta and rows.target.dtype == torch.float32


def test_chance():
    torch.manual_seed(0)
    target = (torch.rand(80, 3) > 0.4).float()
    for logits, small in ((2 * target - 1, True), (torch.ones(80, 3), False), (torch.randn(80, 3), False)):
        test = TASK.chance()
        test.update(logits, target)
        assert (test.p_value() < 1e-6) == small


def test_a_network_that_ends_in_sigmoid_is_told():
    assert TASK.not_logits(torch.rand(9, 2), trained=True) == "sigmoid"
    assert TASK.not_logits(torch.randn(9, 2), trained=True) is None
    assert TASK.not_logits(torch.randn(9, 2).softmax(1) * 2, trained=True) is None


def test_the_data():
    attributes, digits = DigitAttributes().read()[0], Digits().read()[0]
    for digit, labels in {0: [1, 0, 1], 1: [0, 0, 0], 5: [0, 1, 0], 8: [1, 1, 1]}.items():
        assert attributes.target[digits.target == digit].unique(dim=0).tolist() == [labels]
    assert torch.equal(attributes.inputs, digits.inputs)


def test_a_run_and_a_table(workplace, kdlab):
    typed = [*SHORT, 'teacher.overrides=["trainer.max_epochs=2"]', "teacher.student=mlp_wide"]
    code, out, err = kdlab("train", *typed)
    assert code == 0 and "teacher: mlp_wide on digit_attributes (seed 1), accuracy 0." in out, err
    code, out, err = kdlab("train", *SHORT, "strategy=supervised")
    assert code == 0, err
    table = compare("runs/quickstart", further=["exact_match", "f1", "agreement"])
    distilled = next(row for row in table.rows if row.role == "variant")
    assert table.metric == "accuracy" and 0.8 < distilled.last.mean < 1
    assert 0.5 < distilled.further["exact_match"].mean < distilled.further["f1"].mean < 1
    assert 0.8 < distilled.further["agreement"].mean < 1 and distilled.further["kl_to_teacher"].mean > 0
    code, out, err = kdlab("compare", "runs/quickstart", "--report")
    assert code == 0 and "Reliability" not in (workplace / "runs/quickstart/report/report.html").read_text(), err


@pytest.mark.parametrize(
    "strategy, keys",
    [
        ("ema", []),
        ("online", ["strategy.peers=1"]),
        ("byot", ["student.hidden=[16,16]"]),
        ("dlb", []),
        ("born_again", ["strategy.generation=1"]),
    ],
)
def test_other_strategies_learn_labels(workplace, strategy, keys):
    run = package.train([*SHORT, f"strategy={strategy}", *keys])
    assert run.metrics["test/accuracy"] > 0.8 and 0 < run.metrics["test/bce"] < 0.6


def test_what_is_for_classes_is_refused():
    with pytest.raises(InputError, match=r"loss.kd: HintonKD is for classes, and.*labels; for example loss=\[bce,sig"):
        assembled(compose([*SHORT, "loss=[bce,kd]"]))
    with pytest.raises(InputError, match="loss.sigmoid_kd: SigmoidKD is for labels, and with task=classification"):
        assembled(compose(["loss=[ce,sigmoid_kd]"]))


def test_runs_of_two_tasks_are_not_compared(workplace, kdlab):
    package.train([*SHORT, "strategy=supervised", "trainer.max_epochs=1"])
    package.train(["task=regression", "strategy=supervised", "trainer.max_epochs=1", "progress=none"])
    code, out, err = kdlab("compare", "runs/quickstart")
    assert code == 2 and "the runs are of different tasks (multilabel, regression)" in err
    cells = {line.split()[2] for line in kdlab("runs")[1].splitlines()[1:]}
    assert cells == {"accuracy", "mse"}
    regression = next(run for run in find_runs(["runs"]) if "test/mse" in run.metrics)
    assert kdlab("runs", regression.path)[1].splitlines()[1].split()[2] == f"{regression.metrics['test/mse']:.4f}"


def test_a_network_whose_name_ends_a_metric(workplace):
    """val/exact_match is no metric of the network called match."""
    typed = [*SHORT, "strategy=online", "~strategy.peers", "+student@strategy.peers.match=mlp", "trainer.max_epochs=1"]
    run = package.train([text for text in typed if text != "~strategy.peers"])
    assert "val/exact_match" in run.metrics
    assert set(run.record["networks"]["match"]) >= {"val/exact_match", "val/f1"}


def test_an_ensemble_of_labels_is_the_mean_of_the_logits(workplace):
    run = package.train([*SHORT, "strategy=byot", "student.hidden=[16,16]"])
    networks = run.record["networks"]
    assert networks["ensemble"]["test/accuracy"] > min(
        scores["test/accuracy"] for name, scores in networks.items() if name != "ensemble"
    )
