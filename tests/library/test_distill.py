"""kdlab.distill gives what is written by hand, and what a run of a config gives. Bits are compared on one machine."""

import copy
import functools

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import kdlab
from kdlab.batch import Batch
from kdlab.counter import derived_seed
from kdlab.library import Batches, prepared
from kdlab.losses import CrossEntropy, HintonKD
from kdlab.objective import Objective
from kdlab.runs.checkpoints import student_network
from kdlab.runs.curve import MetricsFile
from kdlab.strategies import Offline, Online, Step, Strategy
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.tasks import Classification
from kdlab.teachers import Ensemble, Frozen
from kdlab.training.assemble import make_data
from kdlab.training.preparation import prepare

from .problem import curve_of, loader, network, samples, staged, states_equal, trained

SGD = functools.partial(torch.optim.SGD, lr=0.1)
QUIET = dict(progress="none", optimizer=SGD, scheduler=None)


@pytest.fixture(scope="module")
def teacher():
    return trained(network(2, 32))


@pytest.fixture(scope="module")
def stages():
    return trained(staged(2, (32, 16)))


# -- equality ----------------------------------------------------------------------------------------------------------


class Numbered(Dataset):
    """What a user writes who knows of kdlab's batches."""

    def __len__(self):
        return 96

    def __getitem__(self, number):
        x, y = samples()
        return x[number], y[number], number


def as_batch(items):
    return Batch(*(torch.stack([torch.as_tensor(item[place]) for item in items]) for place in range(3)))


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_same_bits_as_written_by_hand(teacher, shuffle):
    """With a Strategy, prepare and a Lightning Trainer, and a generator of the loader's own."""

    def order():
        return dict(shuffle=shuffle, generator=torch.Generator().manual_seed(7))

    by_hand, task = network(), Classification(2)
    strategy = Offline(
        student=by_hand,
        teacher=Frozen(copy.deepcopy(teacher), task),
        objective=Objective({"ce": CrossEntropy(), "kd": HintonKD()}, {"ce": 0.1, "kd": 0.9}),
        task=task,
        optimization=OptimizerRecipe(SGD),
    )
    train = DataLoader(Numbered(), 16, collate_fn=as_batch, **order())
    prepare(strategy, next(iter(DataLoader(Numbered(), 4, collate_fn=as_batch))), 96)
    trainer = L.Trainer(
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(strategy, train)

    made = kdlab.distill(network(), teacher, loader(**order()), loss=["ce", "kd"], epochs=3, **QUIET)
    assert states_equal(made.student, by_hand)
    assert made.curve[-1]["train/loss_kd"] == strategy.epoch_values["train/loss_kd"]


def test_the_numbers_of_a_loop_of_torch(teacher):
    student = network()
    optimizer = SGD(student.parameters())
    for _ in range(3):
        for x, y in loader():
            with torch.no_grad():
                target = (teacher(x) / 2).softmax(1)
            said = student(x)
            kl = nn.functional.kl_div((said / 2).log_softmax(1), target, reduction="batchmean")
            optimizer.zero_grad()
            (0.3 * nn.functional.cross_entropy(said, y) + 0.7 * 4 * kl).backward()
            optimizer.step()
    loss = {"ce": {}, "kd": {"temperature": 2, "weight": 0.7}}
    made = kdlab.distill(network(), teacher, loader(), loader(40, 3), loader(50, 4), loss=loss, epochs=3, **QUIET)
    for mine, theirs in zip(made.student.parameters(), student.parameters()):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    x, y = samples(50, 4)
    assert made.metrics["test/accuracy"] == pytest.approx(float((student(x).argmax(1) == y).float().mean()), abs=0.03)
    agreement = (student(x).argmax(1) == teacher(x).argmax(1)).float().mean()
    assert made.metrics["test/agreement"] == pytest.approx(float(agreement), abs=0.03)


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (["loss=[ce,kd]", "loss.kd.temperature=8"], {"loss": {"ce": {}, "kd": {"temperature": 8}}}),
        (
            [
                "loss=[ce,crd,hint]",
                "loss.crd.negatives=20",
                "loss.hint.teacher_tap=stage1",
                "loss.hint.student_tap=stage1",
            ],
            {"loss": ["ce", {"crd": {"negatives": 20}, "hint": {"teacher_tap": "stage1", "student_tap": "stage1"}}]},
        ),
    ],
)
def test_the_same_bits_as_a_run_of_a_config(workplace, taught, overrides, options):
    """Digits, the same initial weights, shuffling, connectors, optimiser and schedule."""
    short = ["data.fraction=0.25", "trainer.max_epochs=2", "progress=none"]
    run = kdlab.train([*overrides, "teacher=run", f"teacher.run={taught.path}", *short], quiet=True)
    torch.manual_seed(derived_seed(1, 4))
    student, digits = student_network(run.config), make_data(run.config["data"])
    loaders = digits.train_dataloader(), digits.val_dataloader(), digits.test_dataloader()
    made = kdlab.distill(student, taught, *loaders, **options, epochs=2, progress="none")
    assert states_equal(made.student, run.student) and states_equal(made.best, run.network("best"))
    assert made.metrics == run.metrics
    assert curve_of(made.curve) == curve_of(MetricsFile(run.metrics_file).load().rows)
    assert made.record["weights"] == run.record["weights"] and made.path is None


# -- what is left behind -----------------------------------------------------------------------------------------------


def test_the_student_is_trained_in_place_and_the_teacher_is_as_before(teacher):
    student, before = network(), copy.deepcopy(teacher)
    teacher.train().requires_grad_(True)
    train = loader(shuffle=True, generator=torch.Generator().manual_seed(3))
    generator, drawn = train.generator.get_state(), torch.get_rng_state()
    made = kdlab.distill(student, teacher, train, loader(40, 3), epochs=2, **QUIET)
    assert made.student is student and not student.training and not states_equal(student, network())
    assert teacher.training and all(value.requires_grad for value in teacher.parameters())
    assert states_equal(teacher, before)
    assert torch.equal(torch.get_rng_state(), drawn) and torch.equal(train.generator.get_state(), generator)


def test_the_best_epoch_is_a_copy(teacher):
    made = kdlab.distill(
        network(), teacher, loader(), loader(40, 3), epochs=4, progress="none", optimizer="sgd", lr=3.0, scheduler=None
    )
    accuracies = [row["val/accuracy"] for row in made.curve]
    assert made.metrics["best_epoch"] == 1 + accuracies.index(max(accuracies)) and len(made.curve) == 4
    x, y = samples(40, 3)
    for found, metric in ((made.best, "val/accuracy_best"), (made.student, "val/accuracy")):
        assert float((found(x).argmax(1) == y).float().mean()) == pytest.approx(made.metrics[metric])
    assert made.best is not made.student and not made.best.training


def test_the_order_follows_from_the_seed(teacher):
    def after(seed, drawn):
        torch.manual_seed(drawn)
        return kdlab.distill(staged(), teacher, loader(shuffle=True), seed=seed, epochs=2, **QUIET).student

    assert states_equal(after(1, drawn=10), after(1, drawn=20)) and not states_equal(after(1, 10), after(2, 10))


def test_losses_that_are_objects_are_not_changed(teacher):

    kept = HintonKD(temperature=2.0)
    first, second = (
        kdlab.distill(
            network(), teacher, loader(), loss={"ce": {}, "own": kept}, weights={"own": 0.5}, epochs=1, **QUIET
        )
        for _ in range(2)
    )
    assert states_equal(first.student, second.student)
    assert first.strategy.objective.terms["own"] is not kept and first.record["weights"] == {"ce": 1.0, "own": 0.5}


# -- strategies and losses ---------------------------------------------------------------------------------------------


def test_an_objective_and_a_schedule(teacher):
    objective = Objective({"ce": CrossEntropy(), "kd": HintonKD()}, {"ce": 0.25, "kd": 0.75})
    made = kdlab.distill(network(), teacher, loader(), loss=objective, epochs=1, **QUIET)
    assert made.record["weights"] == {"ce": 0.25, "kd": 0.75}
    scheduled = {"ce": {}, "kd": {"weight": {"schedule": "linear", "start": 0.0, "end": 1.0, "epochs": 2}}}
    made = kdlab.distill(network(), teacher, loader(), loss=scheduled, epochs=2, **QUIET)
    assert 0 < made.curve[0]["train/kd.weight"] < made.curve[1]["train/kd.weight"] < 1


def test_supervised_without_validation_and_test():
    made = kdlab.distill(network(), None, loader(), strategy="supervised", epochs=2, **QUIET)
    assert set(made.metrics) == {"train/loss", "train/loss_ce"} and made.record["teacher"] is None
    with pytest.raises(kdlab.errors.InputError, match="best: there was no validation="):
        _ = made.best


def test_features_by_taps_and_by_paths(stages, teacher):
    hint = {"student_tap": "middle", "teacher_tap": "middle", "weight": 1.0}
    made = kdlab.distill(
        staged(), stages, loader(), loss={"ce": {}, "hint": hint}, taps={"middle": "stage1"},
        teacher_taps={"middle": "stage2"}, epochs=1, **QUIET,
    )  # fmt: skip
    assert made.curve[0]["train/loss_hint"] > 0
    paths = {"student_tap": "0", "teacher_tap": "0", "weight": 1.0}
    made = kdlab.distill(network(), teacher, loader(), loss={"ce": {}, "hint": paths}, epochs=1, **QUIET)
    weights = made.strategy.objective.terms["hint"].state_dict()
    assert {tuple(value.shape) for value in weights.values()} >= {(32, 6)}


def test_crd_gets_the_numbers_of_the_samples(stages):
    """The memory of each sample moves, and only of those that are trained on."""
    x, y = samples()
    part = torch.utils.data.SubsetRandomSampler(range(0, 96, 2), generator=torch.Generator().manual_seed(1))
    train = DataLoader(TensorDataset(x, y), 16, sampler=part)
    made = prepared(staged(), stages, train, loss={"ce": {}, "crd": {"negatives": 8}}, epochs=1)
    memory = made.strategy.objective.terms["crd"].student_memory.clone()
    L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False).fit(
        made.strategy, made.train
    )
    moved = (made.strategy.objective.terms["crd"].student_memory != memory).any(1)
    assert moved[::2].all() and not moved[1::2].any() and len(moved) == 96


def test_peers_are_kept_by_name():
    peers = {"wide": network(4, 12), "deep": staged(5)}
    made = kdlab.distill(
        network(), None, loader(), loader(40, 3), loader(50, 4), strategy={"online": {"keep": "validation"}},
        peers=peers, epochs=2, **QUIET,
    )  # fmt: skip
    assert list(made.networks) == ["student", "wide", "deep"] and made.networks["wide"] is peers["wide"]
    assert made.student is made.networks[made.record["kept"]["last"]["network"]]
    assert {"val/accuracy_wide", "val/accuracy_deep"} <= set(made.curve[0])
    assert made.record["networks"]["wide"]["test/accuracy"] >= 0


def test_a_class_of_a_strategy(teacher):
    class Half(Strategy):
        def __init__(self, *, factor=0.5, **base):
            super().__init__(**base)
            self.factor = factor

        def distill(self, batch):
            student = self.observe(batch)
            return Step(self.compare(student, self.teach(batch), batch).scaled(self.factor, self.factor))

    one = kdlab.distill(network(), teacher, loader(), strategy=Half, epochs=1, **QUIET)
    other = kdlab.distill(network(), teacher, loader(), strategy=functools.partial(Half, factor=1.0), epochs=1, **QUIET)
    same = kdlab.distill(network(), teacher, loader(), epochs=1, **QUIET)
    assert states_equal(other.student, same.student) and not states_equal(one.student, same.student)
    made = kdlab.distill(network(), None, loader(), strategy=Online, loss=["ce", "mutual_kl"], peers=[network(3)],
                         epochs=1, **QUIET)  # fmt: skip
    assert list(made.networks) == ["student", "peer2"]


ALONE = {
    "byot": {},
    "cs_kd": {},
    "ema": {"views": "same"},
    "previous_checkpoint": {},
    "ps_kd": {},
    "supervised": {},
    "tf_kd_virtual": {},
}
TAUGHT = {"offline": {}, "tf_kd": {}, "born_again": {}, "assistant": {}}
COHORTS = {"online": {}, "kdcl": {"views": "same"}, "one": {}, "cotrain": {}}


@pytest.mark.parametrize("name", [*ALONE, *TAUGHT, *COHORTS])
def test_a_strategy_trains(name, stages):
    teacher = trained(staged(3)) if name in TAUGHT else None
    peers = {"teacher": staged(4)} if name == "cotrain" else [staged(4), staged(5)] if name in COHORTS else None
    options = {**ALONE, **TAUGHT, **COHORTS}[name]
    made = kdlab.distill(
        staged(), teacher, loader(shuffle=True), loader(40, 3), strategy={name: options}, peers=peers, epochs=3,
        progress="none", lr=0.02,
    )  # fmt: skip
    assert made.metrics["val/accuracy"] > 0.6 and len(made.curve) == 3
    assert not states_equal(made.student, staged())


def test_every_strategy_is_tried():
    from kdlab.config.paths import conf_dir

    known = {path.stem for path in (conf_dir() / "strategy").glob("*.yaml")}
    elsewhere = {"dlb", "funmatch", "on_policy", "privileged"}  # test_loaders.py, test_refusals.py; of texts
    assert known - elsewhere == {*ALONE, *TAUGHT, *COHORTS}


def test_pairs_of_cs_kd_come_from_one_class():
    made = prepared(staged(), None, loader(drop_last=True, shuffle=True), strategy="cs_kd", epochs=1)
    _, y = samples()
    batches = list(made.train)
    assert len(made.train) == len(batches) == 6 and all(len(batch) == 32 for batch in batches)
    for batch in batches:
        first, second = batch.index[:16], batch.index[16:]
        assert torch.equal(y[first], y[second]) and not (first == second).any()
        assert torch.equal(batch.inputs, samples()[0][batch.index])
    assert sorted(torch.cat([batch.index[:16] for batch in batches]).tolist()) == list(range(96))


def test_an_ensemble_teaches(teacher):
    task = Classification(2)
    members = [Frozen(copy.deepcopy(teacher), task), Frozen(trained(network(9, 16)), task)]
    made = kdlab.distill(network(), Ensemble(members), loader(), loader(40, 3), epochs=1, **QUIET)
    assert made.record["teacher"]["name"] == "kdlab.teachers.ensemble.Ensemble" and made.record["uses_teacher"]


# -- Lightning ---------------------------------------------------------------------------------------------------------


def test_options_and_callbacks_of_the_trainer(teacher):
    class Count(L.Callback):
        steps = 0

        def on_train_batch_end(self, *arguments):
            self.steps += 1

    count = Count()
    made = kdlab.distill(
        network(), teacher, loader(), epochs=2, **QUIET,
        trainer={"callbacks": count, "limit_train_batches": 3, "accumulate_grad_batches": 3, "accelerator": "cpu"},
    )  # fmt: skip
    assert count.steps == 6 and made.curve[-1]["step"] == 2


def test_half_precision_leaves_the_teacher_alone(teacher):
    before = copy.deepcopy(teacher)
    made = kdlab.distill(
        network(), teacher, loader(), loader(40, 3), epochs=2, **QUIET, trainer={"precision": "bf16-true"}
    )
    assert states_equal(teacher, before) and next(teacher.parameters()).dtype == torch.float32
    assert all(value.requires_grad for value in teacher.parameters())
    assert next(made.student.parameters()).dtype == torch.float32 and made.metrics["val/accuracy"] > 0.5


def test_lines_are_printed_on_request(teacher, capsys):
    options = dict(epochs=1, optimizer=SGD, scheduler=None)
    kdlab.distill(network(), teacher, loader(), loader(40, 3), progress="lines", **options)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("teacher: torch.nn.modules.container.Sequential, accuracy 0.9")
    assert lines[1].startswith("epoch 1/1  loss ") and lines[-1].startswith("validation accuracy ")
    kdlab.distill(network(), teacher, loader(), loader(40, 3), progress="none", **options)
    assert capsys.readouterr().out == ""
    kdlab.distill(network(), network(8), loader(), loader(40, 3), progress="none", **options)
    assert "not clearly better than chance" in capsys.readouterr().out


def test_prepared_for_a_trainer_of_ones_own(teacher):
    """The same as distill, by a Trainer with options that distill does not give."""
    parts = prepared(
        network(), copy.deepcopy(teacher), loader(), loader(40, 3), epochs=2, optimizer=SGD, scheduler=None
    )
    assert isinstance(parts.train, Batches) and parts.notes == []
    trainer = L.Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(parts.strategy, parts.train, parts.validation)
    made = kdlab.distill(network(), teacher, loader(), loader(40, 3), epochs=2, **QUIET)
    assert states_equal(made.student, parts.strategy.student)
    assert parts.strategy.epoch_values["val/accuracy"] == made.metrics["val/accuracy"]
