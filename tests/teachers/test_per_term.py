"""A teacher of its own for each term of the loss."""

import copy

import pytest
import torch

import kdlab
from kdlab.batch import Batch
from kdlab.compare import comparison
from kdlab.config.compose import compose
from kdlab.config.forms import term_problems
from kdlab.errors import InputError
from kdlab.losses import Hint, HintonKD, LogitMSE
from kdlab.losses.base import Loss, Probe
from kdlab.objective import Objective
from kdlab.outputs import Outputs
from kdlab.runs.identity import run_hash
from kdlab.teachers import PerTerm, Teacher

BATCH = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), torch.arange(2))


class Says(Teacher):
    """Answers with its number, and counts how often it is asked."""

    def __init__(self, number, *modules):
        self.number, self.modules, self.asked, self.taps, self.network = number, modules, 0, None, torch.nn.Linear(1, 1)

    def watch(self, taps):
        if taps - set(self.modules):
            raise InputError(f"tap '{min(taps - set(self.modules))}': there is no such module")
        self.taps = taps

    def teach(self, batch):
        self.asked += 1
        return Outputs(
            torch.full((2, 3), self.number), {tap: torch.full((2, 4), self.number) for tap in self.taps or ()}
        )


def made(**terms):
    members = {"strong": Says(1.0), "wide": Says(2.0, "stage1", "stage2")}
    return members, PerTerm(members, terms or {"kd": "strong", "hint": "wide", "logit_mse": "strong"})


def test_each_term_hears_its_own_and_each_member_is_asked_once():
    members, teacher = made()
    said = teacher.teach(BATCH)
    assert {term: outputs.logits[0, 0].item() for term, outputs in said.by_term.items()} == {
        "kd": 1.0,
        "hint": 2.0,
        "logit_mse": 1.0,
    }
    assert (members["strong"].asked, members["wide"].asked) == (1, 1)


def test_a_member_captures_what_its_own_terms_read():
    members, teacher = made()
    teacher.prepare({"kd": (), "hint": ("stage1",), "logit_mse": ()})
    said = teacher.teach(BATCH)
    assert members["strong"].taps == set() and members["wide"].taps == {"stage1"}
    assert list(said.by_term["hint"].features) == ["stage1"] and said.by_term["kd"].features == {}


def test_a_member_whose_terms_are_not_at_work_is_not_asked():
    members, teacher = made()
    objective = Objective(
        {"kd": HintonKD(), "hint": Hint(), "logit_mse": LogitMSE()}, {"kd": 1.0, "hint": 0.0, "logit_mse": 0.0}
    )
    teacher.attend(objective.active_teacher_terms)
    assert list(teacher.teach(BATCH).by_term) == ["kd"] and members["wide"].asked == 0
    objective.weights["hint"] = 1.0
    assert list(teacher.teach(BATCH).by_term) == ["kd", "hint"] and members["wide"].asked == 1


def test_the_second_view_is_each_terms_own():
    _, teacher = made()
    first, second = teacher.teach(BATCH), teacher.teach(BATCH)
    seen = first.with_second(second)
    assert (
        seen.by_term["hint"].second.logits[0, 0].item() == 2.0 and seen.by_term["kd"].second.logits[0, 0].item() == 1.0
    )


def test_a_term_is_prepared_with_its_own_teacher():
    class Looks(Loss):
        def prepare(self, probe):
            self.seen = probe

    members, teacher = made(kd="strong", hint="wide")
    members["wide"].aliases = {"hidden": "stage1"}
    objective = Objective({"kd": Looks(), "hint": Looks()}, {"kd": 1.0, "hint": 1.0})
    objective.prepare(
        Probe(Outputs(torch.zeros(2, 3)), teacher.teach(BATCH), None, 3, 2, term_teachers=teacher.by_term)
    )
    for term, member, number in (("kd", members["strong"], 1.0), ("hint", members["wide"], 2.0)):
        seen = objective.terms[term].seen
        assert (
            seen.teacher.logits[0, 0].item() == number
            and seen.teacher_network is member.network
            and seen.teacher_aliases == member.aliases
        )


@pytest.mark.parametrize(
    "terms, wanted, said",
    [
        (
            {"kd": "strnog", "hint": "wide", "logit_mse": "strong"},
            None,
            "there is no member 'strnog'; did you mean 'strong'",
        ),
        (
            {"kd": "strong", "hint": "wide"},
            {"kd": (), "hint": (), "logit_mse": ()},
            "there is no member for loss.logit_mse",
        ),
        (
            {"kd": "strong", "hnt": "wide"},
            {"kd": (), "hint": ()},
            "teacher.terms.hnt: the loss has no such term .* did you mean 'hint'",
        ),
        ({"kd": "strong", "hint": "wide"}, {"kd": (), "hint": ("stage9",)}, "teacher.members.wide: tap 'stage9'"),
    ],
)
def test_what_does_not_fit_is_refused(terms, wanted, said):
    with pytest.raises(InputError, match=said):
        PerTerm({"strong": Says(1.0), "wide": Says(2.0, "stage1")}, terms).prepare(wanted)


def test_a_copy_is_itself():
    teacher = made()[1]
    assert copy.deepcopy(teacher) is teacher


# -- in runs -----------------------------------------------------------------------------------------------------------

ONE_STEP = ["trainer.max_epochs=1", "+trainer.limit_train_batches=1", "progress=none"]


def member(name, run):
    return [
        f"+teacher.members.{name}.run={run.path}",
        *(f"~teacher.members.{name}.{key}" for key in ("experiment", "seed", "overrides")),
    ]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Another teacher of digits, with convolutions."""
    return kdlab.train(
        [
            "experiment=teacher/digits",
            "student=cnn",
            "trainer.max_epochs=1",
            "seed=7",
            "progress=none",
            f"paths.runs={tmp_path_factory.mktemp('wide')}",
        ]
    )


@pytest.mark.slow
def test_the_parts_of_the_loss_are_those_of_each_teacher_alone(kdlab, workplace, taught, wide):
    from kdlab import train

    losses = "loss=[ce,kd,logit_mse]"
    alone = {
        name: train([losses, "teacher=run", f"teacher.run={run.path}", *ONE_STEP]).metrics
        for name, run in (("strong", taught), ("wide", wide))
    }
    both = train([losses, "teacher=per_term", *member("strong", taught), *member("wide", wide), *ONE_STEP])
    assert both.metrics["train/loss_kd"] == alone["strong"]["train/loss_kd"] != alone["wide"]["train/loss_kd"]
    assert (
        both.metrics["train/loss_logit_mse"]
        == alone["wide"]["train/loss_logit_mse"]
        != alone["strong"]["train/loss_logit_mse"]
    )
    assert both.metrics["train/loss_ce"] == alone["strong"]["train/loss_ce"]

    record = both.record["teacher"]
    assert record["terms"] == {"kd": "strong", "logit_mse": "wide"} and "test" not in record
    assert "test/agreement" in alone["wide"] and not {"test/agreement", "test/kl_to_teacher"} & set(both.metrics), (
        "agreement is with one teacher"
    )
    for name, run in (("strong", taught), ("wide", wide)):
        assert record["members"][name]["test"]["accuracy"] == pytest.approx(run.metrics["test/accuracy"])
        assert record["members"][name]["validation_accuracy"] == pytest.approx(run.metrics["val/accuracy"])
    rows = comparison([both]).rows
    assert [row.role for row in rows] == ["teacher", "teacher", "variant"] and rows[2].retention is None
    assert sorted(row.last.mean for row in rows[:2]) == pytest.approx(
        sorted(run.metrics["test/accuracy"] for run in (taught, wide))
    )


@pytest.mark.slow
def test_features_come_from_the_terms_own_member(workplace, taught, wide):
    """The other member has no third stage, and is not asked for it; SimKD reuses the head of its own member."""
    arguments = [
        "student=cnn",
        "teacher=per_term",
        *member("strong", taught),
        *member("wide", wide),
        "~teacher.terms.logit_mse",
        *ONE_STEP,
    ]
    run = kdlab.train(["loss=[ce,kd,attention]", "+teacher.terms.attention=wide", *arguments])
    alone = kdlab.train(["loss=[ce,kd,attention]", "student=cnn", "teacher=run", f"teacher.run={wide.path}", *ONE_STEP])
    assert run.metrics["train/loss_attention"] == alone.metrics["train/loss_attention"]
    assert run.metrics["train/loss_kd"] != alone.metrics["train/loss_kd"]
    with pytest.raises(InputError, match="teacher.members.strong: tap 'stage3'"):
        kdlab.train(["loss=[ce,kd,attention]", "+teacher.terms.attention=strong", *arguments, "teacher.terms.kd=wide"])
    run = kdlab.train(["loss=[ce,kd,simkd]", "+teacher.terms.simkd=wide", *arguments])
    alone = kdlab.train(["loss=[ce,kd,simkd]", "student=cnn", "teacher=run", f"teacher.run={wide.path}", *ONE_STEP])
    assert run.metrics["train/loss_simkd"] == alone.metrics["train/loss_simkd"]


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["loss=[ce,kd]"], "teacher.terms.logit_mse: the loss has no such term that learns from a teacher"),
        (["loss=[ce,kd,logit_mse,dkd]"], "there is no member for loss.dkd"),
        (
            ["loss=[ce,kd,logit_mse]", "+teacher.terms.ce=wide"],
            "teacher.terms.ce: the loss has no such term that learns from a teacher",
        ),
        (["loss=[ce,kd,logit_mse]", "teacher.terms.kd=wide"], "teacher.members.strong: no term"),
        (["loss=[ce,kd,logit_mse]", "+teacher.average=logits"], "teacher.average: with teacher.terms"),
        (["loss=[ce,kd,logit_mse]", "teacher.terms.kd=strnog"], "did you mean 'strong'"),
    ],
)
def test_a_run_with_wrong_terms_is_refused_before_a_teacher_is_trained(workplace, overrides, said):
    with pytest.raises(InputError, match=said):
        kdlab.train(["teacher=per_term", *overrides])
    assert not (workplace / "runs").exists()


def test_the_terms_are_part_of_the_identity():
    def digest(*overrides):
        return run_hash(compose(["loss=[ce,kd,logit_mse]", "teacher=per_term", *overrides]))

    assert digest() == digest("teacher.terms={kd: strong, logit_mse: wide}")
    assert digest() != digest("teacher.terms={kd: wide, logit_mse: strong}")
    assert digest() != digest("teacher.members.wide.seed=3")


@pytest.mark.parametrize(
    "terms, said",
    [
        ({"kd": "strong"}, "teacher.members.wide: no term"),
        ({}, "teacher.terms must map"),
        ({"kd": "strnog", "hint": "wide"}, "teacher.terms.kd: there is no member 'strnog'"),
    ],
)
def test_what_the_config_says_of_terms_is_checked_whatever_the_loss(terms, said):
    assert any(said in problem for problem in term_problems(["strong", "wide"], terms))
