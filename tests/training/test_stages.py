"""A student that begins with the weights of an earlier run: stages of one command, and the other forms of naming that
run.

Bits are compared of weights that are copied, or trained on one machine with one build."""

import shutil

import pytest
import torch

import kdlab
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.runs.identity import group_hash, run_hash
from kdlab.runs.run import find_runs
from kdlab.training.assemble import assembled

SHORT = ["data.fraction=0.3", "trainer.max_epochs=1", "progress=none"]
TEACHER = ['teacher.overrides=["student=cnn","trainer.max_epochs=2"]']


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def stage(run, loss: str):
    """The first stage of a run, by what it was to learn."""
    (found,) = [other for other in find_runs([run.path.parent]) if list(other.config["loss"]) == [loss]]
    return found


def terms(run) -> dict:
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    return {
        name.removeprefix("objective.terms."): value
        for name, value in state.items()
        if name.startswith("objective.terms.")
    }


def test_the_second_stage_of_fitnets_begins_where_the_first_ended(workplace, capsys):
    overrides = ["experiment=stages/fitnets", *SHORT, *TEACHER]
    run = kdlab.train(overrides)
    first, out = stage(run, "hint"), capsys.readouterr().out
    assert (
        "initial: training offline-hint-cnn-s1, once for all runs that share it" in out
        and f"initial: {first.path}" in out
    )
    assert first.record["initial"] is None and list(run.config["loss"]) == ["ce", "kd"]
    assert run.record["initial"] == {"path": str(first.path), "hash": first.hash}
    begun = assembled(compose(overrides)).strategy.student.state_dict()
    assert same(begun, first.student.state_dict()) and not same(begun, run.student.state_dict())
    fresh = assembled(compose([*overrides, "student.initial=null"])).strategy.student.state_dict()
    assert torch.equal(fresh["classifier.weight"], begun["classifier.weight"]), (
        "no gradient of the hint goes beyond its stage"
    )
    assert not torch.equal(fresh["stage1.0.weight"], begun["stage1.0.weight"])
    shutil.rmtree(first.path)
    assert kdlab.load(run.path).student is not None and kdlab.train(overrides).path == run.path, (
        "a finished student needs no beginning"
    )


@pytest.mark.slow
def test_the_paraphraser_of_factor_transfer_is_trained_first_and_frozen_then(workplace):
    overrides = ["experiment=stages/ft", *SHORT, *TEACHER]
    run = kdlab.train(overrides)
    first = stage(run, "factor")
    learned, kept = (
        {name: value for name, value in terms(one).items() if ".paraphraser." in name} for one in (first, run)
    )
    assert len(learned) == 12 and same(learned, kept)
    parts = assembled(compose(overrides))
    factor = parts.strategy.objective.terms["factor"]
    assert same(
        {name: value for name, value in factor.state_dict(prefix="factor.").items() if ".paraphraser." in name}, learned
    )
    assert (
        not any(value.requires_grad for value in factor.paraphraser.parameters()) and factor.reconstruction_weight == 0
    )
    anew = assembled(compose([*overrides, "student.initial=null"]))
    assert same(parts.strategy.student.state_dict(), anew.strategy.student.state_dict()), "the student begins anew"
    assert same(factor.translator.state_dict(), anew.strategy.objective.terms["factor"].translator.state_dict())
    assert not same(factor.paraphraser.state_dict(), anew.strategy.objective.terms["factor"].paraphraser.state_dict())


@pytest.mark.parametrize("name, first, second", [("ab", "ab", ["ce", "kd"]), ("fsp", "fsp", ["ce"])])
def test_other_methods_in_two_stages(workplace, name, first, second):
    teacher = TEACHER if name == "ab" else []
    config = compose([f"experiment=stages/{name}", *SHORT, *teacher])
    before = config["student"]["initial"]["config"]
    assert list(before["loss"]) == [first] and list(config["loss"]) == second and before["student"]["initial"] is None
    assert before["teacher"] is not None and (config["teacher"] is None) == (name == "fsp")
    parts = assembled(config)
    assert [one.role for one in parts.untrained] == (["initial"] if name == "fsp" else ["teacher", "initial"])
    assembled(before)


@pytest.mark.slow
def test_the_first_stage_counts_in_the_identity_of_the_second():
    def config(*overrides):
        return compose(["experiment=stages/fitnets", *overrides])

    plain, seeded = config(), config("seed=2")
    other = config('student.initial.same_but=["loss=[hint]","loss.hint.weight=7","student.initial=null"]')
    assert len({run_hash(one) for one in (plain, other, seeded, config("student.initial=null"))}) == 4
    assert group_hash(plain) == group_hash(seeded) != group_hash(other)
    assert run_hash(config("student.initial.seed=1")) == run_hash(plain), "named or this run's own: the same run"
    assert run_hash(config("student.initial.weights=false", "student.initial.losses=true")) != run_hash(plain)
    without = compose([])
    assert without["student"]["initial"] is None
    del without["student"]["initial"]
    assert run_hash(without) == run_hash(compose([])), "no beginning is no difference"


def test_every_form_of_a_beginning(workplace, taught):
    """A run, its file, the experiment that trains it: the same weights, and the same record."""
    wide = [*SHORT, "strategy=supervised", "student=mlp_wide", "optimizer.lr=1e-6"]
    trained = [
        "initial=trained",
        "student.initial.experiment=teacher/digits",
        'student.initial.overrides=["trainer.max_epochs=5"]',
    ]
    forms = {
        "run": ["initial=run", f"student.initial.run={taught.path}"],
        "file": ["initial=checkpoint", f"student.initial.checkpoint={taught.checkpoint('last')}"],
        "experiment": [*trained, f"paths.runs={taught.path.parent.parent}"],
    }
    runs = {name: kdlab.train([*wide, f"name={name}", *overrides]) for name, overrides in forms.items()}
    assert (
        runs["run"].record["initial"]
        == {"path": str(taught.path), "hash": taught.hash}
        == runs["experiment"].record["initial"]
    )
    assert (
        runs["file"].record["initial"]["path"] == str(taught.checkpoint("last"))
        and len({run.hash for run in runs.values()}) == 3
    )
    states = [run.student.state_dict() for run in runs.values()]
    assert same(states[0], states[1]) and same(states[0], states[2])
    assert runs["run"].metrics["val/accuracy"] == pytest.approx(taught.metrics["val/accuracy"], abs=0.01), (
        "so small a rate changes next to nothing"
    )
    assert kdlab.train(wide).metrics["val/accuracy"] < 0.5


def test_losses_take_over_the_state_that_fits(workplace, taught):
    common = [
        "teacher=run",
        f"teacher.run={taught.path}",
        "student=mlp",
        *SHORT,
        "loss=[ce,hint,pkt]",
        "loss.hint.student_tap=stage1",
        "loss.hint.teacher_tap=stage1",
    ]
    first = kdlab.train(common)
    begin = [*common, "initial=run", f"student.initial.run={first.path}", "seed=2"]

    def hint(*overrides) -> dict:
        return assembled(compose([*begin, *overrides])).strategy.objective.terms["hint"].state_dict(prefix="hint.")

    learned = {name: value for name, value in terms(first).items() if name.startswith("hint.")}
    assert (
        learned
        and same(hint("student.initial.losses=true"), learned)
        and same(hint("student.initial.losses=[hint]"), learned)
    )
    assert not same(hint(), learned)
    for overrides, message in (
        (["student.initial.losses=[pkt]"], "losses hold no state 'pkt'"),
        (
            ["student.initial.losses=[hint]", "student.initial.weights=false", "student.hidden=[16]"],
            "the state of 'hint' does not fit",
        ),
        (
            [
                "student.initial.losses=true",
                "loss.hint.student_tap=embedding",
                "student.hidden=[32,16]",
                "student.initial.weights=false",
            ],
            "no loss term of this run .ce, hint, pkt. has a state that fits",
        ),
    ):
        with pytest.raises(InputError, match=message):
            hint(*overrides)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["initial=run", "student.initial.run={taught}"], "student.initial: .*last.ckpt does not fit MLP"),
        (
            ["initial=run", "student.initial.run={unfinished}", "student=mlp_wide"],
            "student.initial.run: .* is not finished .its status is failed",
        ),
        (["initial=run", "student.initial.run=nowhere"], "nowhere is no run directory"),
        (
            ["initial=checkpoint", "student.initial.checkpoint=nowhere.ckpt"],
            "student.initial.checkpoint: there is no file nowhere.ckpt",
        ),
        (
            ["initial=same_but", 'student.initial.same_but=["student=mlp_wide","initial=none"]'],
            "student.initial: the student of the run before does not fit MLP",
        ),
        (
            ["initial=trained", "student.initial.experiment=teacher/digits"],
            "student.initial: the student of the run before does not fit MLP",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_found_before_anything_is_written(workplace, taught, overrides, message):
    shutil.copytree(taught.path, workplace / "unfinished")
    kdlab.load("unfinished").update(status="failed")
    given = [text.format(taught=taught.path, unfinished="unfinished") for text in overrides]
    with pytest.raises(InputError, match=message):
        kdlab.train(["strategy=supervised", *SHORT, *given])
    assert not (workplace / "runs").exists() or not list(find_runs(["runs"]))
