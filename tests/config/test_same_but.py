"""A run like this one but for some overrides: what the list takes the place of, where chains end, whose seed counts."""

import re
import shlex

import pytest

from kdlab.config.chains import place, superseding
from kdlab.config.check import check, problems
from kdlab.config.compose import compose, sharing_teachers
from kdlab.config.quoting import written
from kdlab.errors import InputError
from kdlab.runs.identity import group_hash, run_hash


def before(*overrides: str) -> dict:
    return compose(overrides)["teacher"]["config"]


def by(*given: str) -> list[str]:
    quoted = ",".join(f'"{text}"' for text in given)
    return ["teacher=same_but", f"teacher.same_but=[{quoted}]"]


@pytest.mark.parametrize(
    "given, kept",
    [
        (["strategy=supervised"], ["~loss.kd", "+student.taps.a=b", "seed=2"]),  # and what is below strategy
        (["loss=[ce]"], ["strategy=offline", "++strategy.generation=3", "+student.taps.a=b", "seed=2"]),
        (["++student.taps.a=c"], ["strategy=offline", "++strategy.generation=3", "~loss.kd", "seed=2"]),
        # a longer name is not below
        (
            ["student.tap=c"],
            ["strategy=offline", "++strategy.generation=3", "~loss.kd", "+student.taps.a=b", "seed=2"],
        ),
    ],
    ids=str,
)
def test_an_override_takes_the_place_of_its_own_key_and_of_all_below(given, kept):
    typed = ["strategy=offline", "++strategy.generation=3", "~loss.kd", "+student.taps.a=b", "seed=2"]
    assert superseding(typed, given) == [*kept, *given]


def test_the_group_of_beginnings_stands_below_the_student():
    typed = ["initial=run", "student.initial.run=x"]
    assert place("initial=none") == "student.initial"
    assert superseding(typed, ["initial=none"]) == ["initial=none"] and superseding(typed, ["student=cnn"]) == [
        "student=cnn"
    ]


def test_the_run_before_is_this_one_but_for_the_list():
    typed = [
        "student.hidden=[8]",
        "data.fraction=0.5",
        "seed=7",
        "name=mine",
        "paths.runs=/there",
        "progress=none",
        "fresh=true",
    ]
    config = compose([*typed, *by("student=mlp_wide", "teacher=trained")])
    theirs = config["teacher"]["config"]
    assert theirs["student"]["hidden"] == [256, 256] and theirs["data"]["fraction"] == 0.5 and theirs["name"] == "mine"
    assert (
        theirs["seed"] == 7
        and theirs["paths"]["runs"] == "/there"
        and theirs["teacher"]["experiment"] == "teacher/digits"
    )
    assert config["fresh"] and not theirs["fresh"], "it is found where it is finished"
    assert before(*typed, *by("student=mlp_wide", "teacher=trained"), "teacher.seed=3")["seed"] == 3
    check(config)


def test_a_run_is_the_same_whether_a_chain_names_it_or_the_command_line():
    config = compose(["strategy=born_again", "strategy.generation=2", "seed=3", "student.hidden=[8]"])
    first = config["teacher"]["config"]
    assert run_hash(first) == run_hash(compose(["strategy=born_again", "seed=3", "student.hidden=[8]"]))
    assert run_hash(first["teacher"]["config"]) == run_hash(
        compose(["strategy=supervised", "seed=3", "student.hidden=[8]"])
    )
    assert run_hash(compose(["strategy=tf_kd"])["teacher"]["config"]) == run_hash(compose(["strategy=supervised"]))


@pytest.mark.slow
def test_groups_leave_out_the_seeds_that_are_taken_over():
    two = [compose(["strategy=born_again", "strategy.generation=2", f"seed={seed}"]) for seed in (1, 2)]
    assert run_hash(two[0]) != run_hash(two[1]) and group_hash(two[0]) == group_hash(two[1])
    assert group_hash(two[0]) != group_hash(compose(["strategy=born_again", "strategy.generation=3"]))
    fixed = [compose([*by("student=mlp_wide", "teacher=trained"), f"teacher.seed={seed}"]) for seed in (1, 2)]
    assert group_hash(fixed[0]) != group_hash(fixed[1]), "another teacher"


@pytest.mark.parametrize(
    "overrides, message",
    [
        (by(), "its own predecessor"),
        (
            by("student=mlp"),
            """does not end the chain.*Type 'teacher.same_but=."student=mlp","teacher=none","strategy=supervised".'$""",
        ),
        (
            by("student=cnn", "strategy=supervised"),
            """Type 'teacher.same_but=."student=cnn","strategy=supervised","teacher=none".'$""",
        ),
        (by("+seed=1"), "its own predecessor"),
        (
            ["strategy=born_again", "strategy.generation=0"],
            "^strategy.generation must be a whole number of at least 1, got 0",
        ),
        (["teacher=same_but", "teacher.same_but=3"], "teacher.same_but must be a list of overrides.*got 3"),
        (by("student=mpl", "teacher=none"), "^teacher.same_but: student=mpl.*did you mean 'mlp'"),
        (["strategy=assistant", "teacher.assistants=[cnn]"], "teacher.assistants must be a list, and each assistant"),
    ],
    ids=str,
)
def test_what_is_no_chain_is_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        compose(overrides)


NESTED = [
    # it has no end
    (["student=mlp_wide"], ["student=mlp_wide", "teacher=none", "strategy=supervised"]),
    # its losses need a teacher
    (["student=mlp_wide", "teacher=none"], ["student=mlp_wide", "teacher=none", "strategy=supervised"]),
    # it is not read
    (["student=mlp_wide", "name=a=b", "teacher=trained"], ["student=mlp_wide", 'name="a=b"', "teacher=trained"]),
]


@pytest.mark.parametrize("given, meant", NESTED, ids=str)
@pytest.mark.parametrize("around", [["student=cnn"], ["student=cnn", "student.widths=[4,8,16]"]], ids=len)
def test_the_cure_of_a_list_in_a_list_works_when_pasted(given, meant, around):
    """It is the outer list, since that is what can be typed; the rest of it stays."""
    inner = written(given)
    nested = [*around, f"teacher.same_but={inner}"]
    if len(around) > 1:  # one deeper
        nested = ["trainer.max_epochs=7", f"teacher.same_but={written(nested)}"]
    typed = ["teacher=same_but", f"teacher.same_but={written(nested)}"]
    with pytest.raises(InputError) as error:
        check(compose(typed))
    (cure,) = shlex.split(re.search(r"[Tt]ype ('teacher.same_but=.*)$", str(error.value))[1])
    config = compose(["teacher=same_but", cure])
    check(config)
    theirs = config["teacher"]["config"]
    if len(around) > 1:
        assert theirs["trainer"]["max_epochs"] == 7
        theirs = theirs["teacher"]["config"]
    assert theirs["choices"]["student"] == "cnn"
    assert theirs["student"]["widths"] == ([4, 8, 16] if len(around) > 1 else [8, 16, 32])
    last = theirs["teacher"]["config"]
    assert last["choices"]["student"] == "mlp_wide" and last["overrides"][-len(meant) :] == meant


def test_a_chain_without_end_is_refused(monkeypatch, composed_teachers):
    monkeypatch.setattr("kdlab.config.chains.LONGEST", 3)
    compose(["strategy=born_again", "strategy.generation=2"])
    composed_teachers.clear()
    with pytest.raises(InputError, match="has no end .this would be run 4 of it, and the most are 3"):
        compose(["strategy=born_again", "strategy.generation=3"])


def test_two_that_name_each_other_are_refused():
    """Not the same overrides at once, but after two steps."""
    with pytest.raises(InputError, match="does not end the chain"):
        compose([*by("trainer.max_epochs=3", 'teacher.same_but=[\\"trainer.max_epochs=4\\"]'), "trainer.max_epochs=4"])


def test_what_is_wrong_with_both_runs_is_said_once():
    found = list(problems(compose([*by("teacher=none", "loss=[ce]", "threads=0"), "trainer.max_epochs=0"])))
    assert [text for text in found if "max_epochs" in text] == [
        "trainer.max_epochs must be a whole number of at least 1, got 0"
    ]
    assert [text.partition(" must")[0] for text in found if "threads" in text] == ["teacher.same_but: threads"]


def test_assistants_are_a_chain_from_large_to_small():
    chain = [
        'teacher.assistants=[["student.hidden=[128, 64]"],["student.hidden=[64]","trainer.max_epochs=3"]]',
        "strategy=assistant",
        "seed=5",
    ]
    config, widths = compose(chain), []
    check(config)
    while config["teacher"] is not None:
        widths.append((config["student"]["hidden"], config["seed"], config["trainer"]["max_epochs"]))
        config = config["teacher"]["config"]
    epochs = compose([])["trainer"]["max_epochs"]
    assert widths == [([32], 5, epochs), ([64], 1, 3), ([128, 64], 1, epochs)] and config["student"]["hidden"] == [
        256,
        256,
    ]
    assert run_hash(compose(["strategy=assistant", "teacher.assistants=[]"])) == run_hash(compose([])), (
        "none: the plain teacher"
    )
    own = compose([*chain, "teacher.seed=null"])
    check(own)
    seeds = []
    while own["teacher"] is not None:
        own = own["teacher"]["config"]
        seeds.append(own["seed"])
    assert seeds == [5, 5, 5], "down to the first teacher"


def test_members_of_an_ensemble_may_be_runs_like_this_one():
    config = compose(
        [
            "teacher=ensemble",
            *(f"~teacher.members.{name}" for name in ("first", "second", "third")),
            '+teacher.members.alone={same_but: ["teacher=none","strategy=supervised","loss=[ce]"]}',
            '+teacher.members.wide={same_but: ["student=mlp_wide","teacher=trained"], seed: 4}',
        ]
    )
    check(config)
    first, wide = config["teacher"]["members"].values()
    assert run_hash(first["config"]) == run_hash(compose(["strategy=supervised"]))
    assert wide["config"]["seed"] == 4 and wide["config"]["teacher"]["config"]["name"] == "teachers"


def test_a_chain_below_an_experiment_is_kept_where_the_run_is():
    config = compose(["teacher.experiment=stages/fitnets", "student=cnn", "paths.runs=/there", "progress=none"])
    stage = config["teacher"]["config"]["student"]["initial"]["config"]
    assert stage["paths"]["runs"] == "/there" and stage["progress"] == "none"


def test_jobs_of_a_sweep_share_what_is_composed():
    with sharing_teachers():
        one, two = (compose(["strategy=assistant", f"seed={seed}"])["teacher"]["config"] for seed in (1, 2))
        other = compose(["strategy=assistant", "paths.runs=/there"])["teacher"]["config"]
    assert one == {**two, "overrides": one["overrides"]}
    assert other["paths"]["runs"] == "/there" and one["paths"]["runs"] == "runs"


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["+teacher.same_but=[]", "teacher.experiment=teacher/digits", "teacher=trained"], "given in one way"),
        (
            [*by("student=mlp_wide", "teacher=trained"), "teacher.seed=x"],
            "teacher.seed must be a whole number, or null",
        ),
        (
            [*by("student=mlp_wide", "teacher=trained"), "+teacher.sed=1"],
            "teacher.sed: a teacher by same_but has no key",
        ),
        (["initial=run"], "student.initial.run has no value"),
        (
            ["+student.initial.network=1", "initial=checkpoint", "student.initial.checkpoint=x"],
            "a beginning by checkpoint has no key 'network'",
        ),
        (
            ["initial=run", "student.initial.run=x", "student.initial.which=first"],
            "student.initial.which must be 'last' or 'best'",
        ),
        (
            ["initial=run", "student.initial.run=x", "student.initial.losses=3"],
            "student.initial.losses must be true, false or a list",
        ),
        (["initial=run", "student.initial.run=x", "student.initial.weights=false"], "nothing is loaded"),
        (["student.initial=3"], "student.initial must be a beginning, got 3"),
    ],
    ids=str,
)
def test_nodes_that_are_wrong(overrides, words):
    try:
        found = list(problems(compose(overrides)))
    except InputError as error:  # some cannot even be composed
        found = error.problems
    assert any(words in text for text in found), found
