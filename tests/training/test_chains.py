"""Chains of runs from one command: generations and assistants are runs like any other, trained once, found again,
resumed.

Bits are compared of runs on one machine with one build."""

import pytest
import torch

import kdlab
from kdlab.compare import groups
from kdlab.config.compose import compose
from kdlab.config.seeds import run_seed
from kdlab.errors import InputError, RunFailed
from kdlab.runs.run import find_runs
from kdlab.strategies.base import Strategy
from kdlab.training.assemble import assembled, generations_before

SHORT = ["data.fraction=0.2", "trainer.max_epochs=2", "progress=none"]
SECOND = ["strategy=born_again", "strategy.generation=2", *SHORT]


def weights(module) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in module.parameters()])


def test_generations_from_one_command(workplace, capsys):
    second = kdlab.train(SECOND)
    runs = {run.config["strategy"].get("generation"): run for run in find_runs(["runs"])}
    assert sorted(runs) == [0, 1, 2] and runs[2].path == second.path
    for generation in (1, 2):
        taught = runs[generation].record["teacher"]
        assert taught["runs"][0]["hash"] == runs[generation - 1].hash
        assert taught["validation_accuracy"] == pytest.approx(runs[generation - 1].metrics["val/accuracy"])
    assert second.record["teacher"]["name"] == "born_again-ce+kd-mlp-g1-s1" and second.path.name.startswith(
        "born_again-ce+kd-mlp-g2-s1-"
    )
    capsys.readouterr()
    assert kdlab.train(["strategy=born_again", *SHORT]).path == runs[1].path
    assert kdlab.train(["strategy=supervised", *SHORT]).path == runs[0].path
    assert kdlab.train(["strategy=tf_kd", *SHORT]).record["teacher"]["runs"][0]["hash"] == runs[0].hash
    assert capsys.readouterr().out.count("finished already") == 2 and len(list(find_runs(["runs"]))) == 4


def test_the_generations_before_the_teachers_are_named_from_the_first_on():
    config = compose(["strategy=born_again", "strategy.generation=4"])
    before = generations_before(config)
    assert [one.config["strategy"]["generation"] for one in before] == [1, 2]
    assert config["teacher"]["config"]["strategy"]["generation"] == 3
    assert generations_before(compose(["strategy=born_again"])) == [] and generations_before(compose([])) is None


def test_a_generation_draws_numbers_of_its_own(workplace, taught):
    """Initialisation and order; not the samples that are trained on, which the split's seed chooses."""
    one = ["teacher=run", f"teacher.run={taught.path}", "data.fraction=0.3"]
    parts = [assembled(compose([*one, f"++strategy.generation={generation}"])) for generation in (0, 1, 2)]
    assert len({weights(part.strategy.student).sum().item() for part in parts}) == 3
    orders = [torch.cat([batch.index for batch in part.data.train_dataloader()]) for part in parts]
    assert not torch.equal(orders[0], orders[1]) and not torch.equal(orders[1], orders[2])
    assert all(torch.equal(part.data.part("train"), parts[0].data.part("train")) for part in parts)
    plain = assembled(compose(one))
    assert torch.equal(weights(plain.strategy.student), weights(parts[0].strategy.student)) and plain.strategy.seed == 1
    assert (
        run_seed(compose([*one, "seed=2", "++strategy.generation=1"])) != parts[1].strategy.seed == parts[1].data.seed
    )
    with pytest.raises(InputError, match="generation must be 0 or greater, got -1"):
        assembled(compose([*one, "++strategy.generation=-1"]))


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["teacher.same_but=null"], "born_again learns from the generation before it; leave out teacher="),
        (
            ["teacher.same_but=null", "strategy.generation=0"],
            "generation must be 1 or greater, got 0; generation 0 is the student alone",
        ),
        (["teacher=none"], "born_again learns from the generation before it; leave out teacher="),
        (["teacher=run", "teacher.run=nowhere"], "nowhere is no run directory"),
    ],
    ids=str,
)
def test_a_generation_needs_the_one_before_it(workplace, overrides, message):
    with pytest.raises(InputError, match=message):
        kdlab.train(["strategy=born_again", *overrides])
    assert not list(find_runs(["runs"]))


@pytest.mark.slow
def test_a_chain_that_fails_is_gone_on_with(workplace, monkeypatch, capsys):
    """Generation 1 is killed in its second epoch: generation 0 is found, 1 goes on, 2 follows; all as if nothing had
    happened."""
    step = Strategy.training_step

    def failing(self, batch, index):
        if self.generation == 1 and self.current_epoch == 1:
            raise RuntimeError("out of luck")
        return step(self, batch, index)

    monkeypatch.setattr(Strategy, "training_step", failing)
    with pytest.raises(RunFailed, match="out of luck"):
        kdlab.train(SECOND)
    before = {run.config["strategy"]["generation"]: run for run in find_runs(["runs"])}
    assert {generation: run.status for generation, run in before.items()} == {0: "finished", 1: "failed"}
    stamp = before[0].checkpoint("last").stat().st_mtime_ns
    monkeypatch.setattr(Strategy, "training_step", step)
    run = kdlab.train(SECOND)
    assert before[0].checkpoint("last").stat().st_mtime_ns == stamp and len(before[1].record["resumed"]) == 1
    whole = kdlab.train([*SECOND, "paths.runs=elsewhere"])
    assert whole.path.name == run.path.name and torch.equal(weights(whole.student), weights(run.student))


def test_afresh_is_only_the_run_that_is_asked_for(workplace):
    run = kdlab.train(["strategy=born_again", *SHORT])
    before = next(path for path in find_runs(["runs"]) if path.hash != run.hash)
    stamps = [one.checkpoint("last").stat().st_mtime_ns for one in (run, before)]
    kdlab.train(["strategy=born_again", *SHORT, "fresh=true"])
    assert (
        run.checkpoint("last").stat().st_mtime_ns > stamps[0]
        and before.checkpoint("last").stat().st_mtime_ns == stamps[1]
    )


@pytest.mark.slow
def test_generations_are_compared_over_seeds(workplace):
    for seed in (1, 2):
        kdlab.train(["strategy=born_again", *SHORT, f"seed={seed}", "strategy.generation=2"])
    found, left_out = groups(find_runs(["runs"]))
    assert {group.label: (group.role, len(group.runs)) for group in found} == {
        "supervised ce": ("student baseline", 2),
        "born_again ce+kd  strategy.generation=1": ("variant", 2),  # they taught none but their own
        "born_again ce+kd  strategy.generation=2": ("variant", 2),
    }
    assert not left_out


@pytest.mark.slow
def test_assistants_stand_between_teacher_and_student_and_are_shared(workplace):
    common = [
        "strategy=assistant",
        *SHORT,
        'teacher.overrides=["trainer.max_epochs=2"]',
        'teacher.assistants=[["student.hidden=[96]"],["student.hidden=[48]"]]',
    ]
    runs = [kdlab.train([*common, f"seed={seed}"]) for seed in (1, 2)]
    chain, run = [], runs[1]
    while run.record["teacher"] is not None:
        chain.append((run.config["student"]["hidden"], run.record["seed"]))
        run = kdlab.load(run.record["teacher"]["runs"][0]["path"])
    assert chain == [([32], 2), ([48], 1), ([96], 1)] and run.config["student"]["hidden"] == [256, 256]
    assert (
        runs[0].record["teacher"]["runs"] == runs[1].record["teacher"]["runs"] and len(list(find_runs(["runs"]))) == 5
    )
    assert kdlab.train([*common[:-1], "teacher.assistants=[]"]).record["teacher"]["name"] == "teacher/digits (seed 1)"


def test_a_run_like_this_one_may_be_a_member_of_an_ensemble(workplace, taught):
    run = kdlab.train(
        [
            *SHORT,
            "teacher=ensemble",
            *(f"~teacher.members.{name}" for name in ("first", "second", "third")),
            '+teacher.members.alone={same_but: ["strategy=supervised","loss=[ce]","teacher=none"]}',
            f"+teacher.members.wide={{run: {taught.path}}}",
        ]
    )
    alone, wide = run.record["teacher"]["runs"]
    assert wide["hash"] == taught.hash and alone["hash"] == kdlab.train(["strategy=supervised", *SHORT]).hash


def test_a_chain_of_the_users_own_experiment(kdlab, workplace):
    """In a folder of configs of their own, on the command line."""
    (workplace / "mine" / "experiment").mkdir(parents=True)
    (workplace / "mine" / "experiment" / "pair.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /teacher: same_but\nname: pair\nstudent: {hidden: [16]}\n"
        "teacher: {same_but: [strategy=supervised, 'loss=[ce]', 'student.hidden=[64]', teacher.same_but=null]}\n"
    )
    code, out, err = kdlab("train", "--config-dir", "mine", "experiment=pair", *SHORT)
    assert code == 0, err
    runs = {tuple(run.config["student"]["hidden"]): run for run in find_runs(["runs/pair"])}
    assert (
        runs[(16,)].record["teacher"]["runs"][0]["hash"] == runs[(64,)].hash and runs[(64,)].record["teacher"] is None
    )
