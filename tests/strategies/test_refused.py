"""What a strategy cannot be combined with is told before anything is written."""

import pytest

import kdlab
from kdlab.errors import InputError

NOBODY_KNOWS = "no term learns from the labels"


@pytest.mark.parametrize(
    "overrides, words",
    [
        *(
            (["strategy=" + name, "loss=[kd]"], NOBODY_KNOWS)
            for name in ("online", "kdcl", "cotrain", "ema", "previous_checkpoint", "dlb", "cs_kd", "byot")
        ),
        (["strategy=online", "loss=[ce,kd]", "loss.ce.weight=0"], NOBODY_KNOWS),
        (["strategy=one", "loss=[one_kl]"], NOBODY_KNOWS),
        (["strategy=ema", "teacher=trained"], "teacher=none"),
        (["strategy=online", "teacher=trained"], "teacher=none"),
        (["strategy=born_again", "teacher=none"], "the generation before it"),
        (["strategy=previous_checkpoint", "strategy.start=50"], "ends before a snapshot teaches"),
        (["strategy=online", "strategy.peers=2", "loss=[ce,crd]"], "it has one memory per sample"),
        (
            ["strategy=online", "strategy.decay={schedule: linear, start: 0, end: 1, epochs: 2}"],
            "only a number of a loss",
        ),
        (["strategy=ps_kd", "loss=[ce,logit_mse]"], "reads the logits themselves"),
        (["strategy=ps_kd", "mixing=mixup"], "cannot learn from mixed images"),
        (["strategy=cs_kd", "mixing=cutmix"], "cannot learn from mixed images"),
        (["strategy=kdcl", "loss=[ce,hint]", "student=cnn"], "it reads features"),
        (["strategy=dlb", "loss=[ce,multi_level]"], "two views"),
        (["strategy=one", "strategy.keep=branch2"], "keep"),
    ],
)
def test_refused(workplace, overrides, words):
    with pytest.raises(InputError, match=words):
        kdlab.train([*overrides, "trainer.max_epochs=2", "progress=none"])
    assert not (workplace / "runs").exists()


def test_the_table_of_ps_kd_begins_with_the_labels(workplace):
    """And so it may learn from nothing else."""
    run = kdlab.train(
        ["strategy=ps_kd", "loss=[kd]", "loss.kd.temperature=20", "trainer.max_epochs=3", "progress=none"]
    )
    assert run.metrics["test/accuracy"] > 0.7


@pytest.mark.parametrize(
    "losses, weights", [("[ce,kd]", {"ce": 0.1, "kd": 0.9}), ("[ce,dkd]", {"ce": 1.0, "dkd": 1.0})]
)
def test_weights_that_were_tied_to_a_term_that_is_gone(losses, weights):
    from kdlab.config.compose import compose

    assert {
        name: node["weight"] for name, node in compose(["strategy=ps_kd", f"loss={losses}"])["loss"].items()
    } == weights


@pytest.mark.parametrize(
    "overrides, words",
    [
        (
            ["strategy=online", "strategy.peers=2", "+student@strategy.peers.wide=mlp_wide"],
            "strategy.peers=2 and strategy.peers.wide",
        ),
        (["strategy=online", "strategy.peers=null"], "strategy.peers must be how many"),
        (["strategy=online", "strategy.peers=1000"], "at most 64"),
        (
            ["strategy=cotrain", "+strategy.peers.teacher.optimizer.lr=-1"],
            "strategy.peers.teacher.optimizer: .*Invalid learning rate",
        ),
        (["strategy=cotrain", "+strategy.peers.teacher.optimizer.lr=abc"], "strategy.peers.teacher.optimizer: "),
        (["strategy=cotrain", "+strategy.peers.teacher.optimizer=3"], "must be named options"),
        (["strategy=byot", "strategy.exits=stage1"], "must be a list of the student's taps"),
        (["strategy=byot", "strategy.exits=3"], "must be a list of the student's taps"),
        (["strategy=ema", "++strategy.generation=2"], "learns from no run before it"),
        (["experiment=stages/fitnets", "strategy=online"], "leave teacher"),
    ],
)
def test_bad_values(workplace, overrides, words):
    with pytest.raises(InputError, match=words):
        kdlab.train([*overrides, "trainer.max_epochs=2", "progress=none"])
    assert not (workplace / "runs").exists()


LISTING = "tests.strategies.networks.Listing"
AS_A_RUN = f'["student._target_={LISTING}"]'


@pytest.mark.parametrize(
    "overrides, role",
    [
        (["strategy=supervised", f"student._target_={LISTING}"], "student"),
        ([f"teacher.overrides={AS_A_RUN}"], "teacher"),
        (["teacher=ensemble", f"teacher.members.second.overrides={AS_A_RUN}"], "teacher.members.second"),
        (
            ["strategy=online", "+student@strategy.peers.x=mlp", f"strategy.peers.x._target_={LISTING}"],
            "strategy.peers.x",
        ),
    ],
)
def test_a_network_that_gives_no_logits_is_named_by_its_role(workplace, overrides, role):
    with pytest.raises(InputError) as error:
        kdlab.train([*overrides, "trainer.max_epochs=2", "progress=none"])
    assert str(error.value) == f"{role}: Listing must answer with a tensor of shape (samples, classes), got list"
    assert not (workplace / "runs").exists()
