"""Groups, precedence, ties, and what the plain dict holds."""

import pytest
import yaml

from kdlab.config.check import check
from kdlab.config.compose import DEFAULT_DATA, compose
from kdlab.config.keys import run_nodes
from kdlab.config.paths import conf_dir
from kdlab.errors import InputError


@pytest.mark.parametrize(
    "overrides, weights",
    [
        ([], {"ce": 0.1, "kd": 0.9}),
        (["loss.kd.weight=0.3"], {"ce": 0.7, "kd": 0.3}),
        (["loss.kd.weight=0.3", "loss.ce.weight=1"], {"ce": 1, "kd": 0.3}),
        (["loss=[ce,hint]"], {"ce": 1.0, "hint": 100.0}),
        (["loss=ce"], {"ce": 1.0}),
        (["strategy=supervised"], {"ce": 1.0}),
    ],
    ids=str,
)
def test_weights_are_tied_until_one_is_given(overrides, weights):
    assert {name: node["weight"] for name, node in compose(overrides)["loss"].items()} == weights


def test_the_tie_follows_a_schedule():
    config = compose(["loss.kd.weight={schedule: linear, start: 0, end: 0.8, epochs: 4}"])
    check(config)
    assert config["loss"]["ce"]["weight"] == {"schedule": "complement", "of": config["loss"]["kd"]["weight"]}


def test_command_line_over_experiment_over_strategy():
    assert (
        list(compose(["strategy=supervised"])["loss"]) == ["ce"] and compose(["strategy=supervised"])["teacher"] is None
    )
    assert list(compose(["strategy=supervised", "loss=[ce,kd]"])["loss"]) == ["ce", "kd"]
    experiment = compose(["experiment=hinton2015/three_percent", "loss.kd.temperature=9"])
    assert experiment["data"]["fraction"] == 0.03 and experiment["loss"]["kd"]["temperature"] == 9
    assert compose(["experiment=hinton2015/three_percent_hard_labels"])["strategy"]["_target_"].endswith("Supervised")


def test_what_a_strategy_says_of_its_terms_goes_with_them():
    """Another loss may stand in their place; what anybody else says of them is found missing."""
    assert {name: node["weight"] for name, node in compose(["strategy=cs_kd", "loss=[ce,dkd]"])["loss"].items()} == {
        "ce": 1.0,
        "dkd": 1.0,
    }
    # tied to a term that is not there
    assert compose(["strategy=ps_kd", "loss=[ce,dkd]"])["loss"]["ce"]["weight"] == 1.0
    assert compose(["strategy=cs_kd", "loss=[ce,kd]"])["loss"]["kd"]["temperature"] == 4.0
    with pytest.raises(InputError, match="loss.kd is no loss term"):
        check(compose(["strategy=cs_kd", "loss=[ce,dkd]", "loss.kd.temperature=2"]))


def test_what_an_experiment_says_of_a_term_in_case_it_is_chosen():
    hint = compose(["experiment=crd_benchmark/vgg13_vgg8", "loss=[ce,hint]"])["loss"]["hint"]
    assert hint["student_tap"] == "stage3" and hint["weight"] == 100.0 and "if_chosen" not in hint
    assert list(compose(["experiment=crd_benchmark/vgg13_vgg8"])["loss"]) == ["ce", "kd"]
    with pytest.raises(InputError, match="loss.hint is no loss term"):  # what was typed was meant to count
        check(compose(["experiment=crd_benchmark/vgg13_vgg8", "loss.hint.student_tap=stage2"]))


def test_an_experiment_is_made_of_one_that_is_made_of_another(kdlab, workplace):
    folder = workplace / "mine" / "experiment" / "papers"
    folder.mkdir(parents=True)
    for name, base in (
        ("child", "crd_benchmark/fashion_mnist/pair_48_epochs"),
        ("second", "papers/first"),
        ("first", "papers/base"),
    ):
        (folder / f"{name}.yaml").write_text(f"# @package _global_\ndefaults:\n  - /experiment/{base}\n")
    (folder / "base.yaml").write_text("# @package _global_\nseed: 7\n")
    command = ["train", "--config-dir", "mine", "--cfg", "job"]
    code, out, err = kdlab(*command, "experiment=papers/child")
    assert code == 0 and "max_epochs: 48" in out and "lr: 0.05" in out, err
    code, out, err = kdlab(*command, "experiment=papers/second")
    assert code == 0 and "seed: 7" in out, err
    (folder / "first.yaml").write_text("# @package _global_\ndefaults:\n  - papers/base\n")
    code, out, err = kdlab(*command, "experiment=papers/second")
    assert code == 2 and "'- /experiment/papers/base', with a slash in front" in err


def test_every_experiment_can_be_the_base_of_another():
    """One that is named without a slash is looked for below the folder of the file that names it, where that is itself
    a base."""
    for path in (conf_dir() / "experiment").rglob("*.yaml"):
        bases = [
            entry
            for entry in yaml.safe_load(path.read_text()).get("defaults", [])
            if isinstance(entry, str) and entry != "_self_"
        ]
        assert all(base.startswith("/experiment/") for base in bases), path


def test_the_teachers_config_is_in_the_students():
    config = compose(["seed=5", "paths.runs=/there", "data.fraction=0.5"])
    teacher = config["teacher"]["config"]
    assert teacher["seed"] == 1 and teacher["paths"]["runs"] == "/there" and teacher["data"]["fraction"] == 1.0
    assert teacher["student"]["hidden"] == [256, 256] and teacher["name"] == "teachers"
    assert compose(["teacher.seed=3"])["teacher"]["config"]["seed"] == 3
    own = compose(["seed=5", "teacher.seed=null"])
    check(own)
    assert own["teacher"]["config"]["seed"] == 5, "null is this run's own"
    members = compose(["teacher=ensemble"])["teacher"]["members"]
    assert [node["config"]["seed"] for node in members.values()] == [1, 2, 3]


def test_a_teacher_that_names_itself_is_refused(workplace):
    folder = workplace / "experiment"
    folder.mkdir()
    (folder / "loop.yaml").write_text("# @package _global_\nteacher: {experiment: loop}\n")
    from kdlab.cli.main import main

    assert main(["train", "--config-dir", str(workplace), "experiment=loop"]) == 2


def test_the_plain_dict_is_plain():
    config = compose(["data=fashion_mnist"])

    def types(node):
        yield type(node)
        if isinstance(node, dict):
            for value in node.values():
                yield from types(value)
        elif isinstance(node, list):
            for value in node:
                yield from types(value)

    assert set(types(config)) <= {dict, list, str, int, float, bool, type(None)}
    assert config["choices"]["data"] == "fashion_mnist" and config["overrides"] == ["data=fashion_mnist"]
    assert "hydra" not in config and config["data"]["folder"] == "data"


def test_missing_values_are_all_named():
    with pytest.raises(InputError) as error:
        check(compose(["teacher=run", "student=network"]))
    assert {"teacher.run", "student._target_"} <= {problem.split()[0] for problem in error.value.problems}


def test_within_another_hydra_application(workplace):
    """A user's own application has its own configs, and one of them may be called train, too."""
    from hydra import compose as other
    from hydra import initialize_config_dir

    (workplace / "train.yaml").write_text("mine: 1\n")
    with initialize_config_dir(str(workplace), version_base="1.3"):
        assert list(compose(["seed=4"])["loss"]) == ["ce", "kd"]
        assert other("train").mine == 1, "theirs is as it was"


def test_a_seed_that_refers_to_the_runs_own_is_null_in_every_node_that_names_a_run():
    """Null means the same, and groups of seeds look for it."""
    before = '{same_but: ["initial=none","strategy=supervised","teacher=none"], seed: "${seed}"}'
    given = ["teacher=ensemble", "teacher.members.second.seed=${seed}", f"++student.initial={before}", "seed=5"]
    nodes = run_nodes(compose(given))
    seeds = {key: node["seed"] for key, node in nodes.items() if "seed" in node}
    assert seeds == {
        "teacher.members.first": 1,
        "teacher.members.second": None,
        "teacher.members.third": 3,
        "student.initial": None,
    }
    assert nodes["teacher.members.second"]["config"]["seed"] == nodes["student.initial"]["config"]["seed"] == 5


def test_a_typed_initial_replaces_that_of_an_experiment():
    """Its other keys would count silently: the student would not be new, or begin with layers of the run."""
    initial = compose(["experiment=glue/sst2"])["student"]["initial"]
    assert initial["layers"] == "every_second"
    assert compose(["experiment=glue/sst2", "initial=none"])["student"]["initial"] is None
    run = compose(["experiment=glue/sst2", "initial=run", "student.initial.run=runs/a"])["student"]["initial"]
    assert run["run"] == "runs/a" and "layers" not in run and "narrow" not in run
    same = compose(["experiment=glue/sst2", "initial=teacher_layers", "student.initial.head=false"])
    assert same["student"]["initial"] == {**initial, "head": False}


def test_earlier_runs_read_the_data_folder_of_this_one():
    """Also where a value is made of it: the file of the texts, and the model that a teacher begins with."""
    config = compose(["experiment=distilbert/tinybert", 'paths.data="my data/a=b"'])
    first = config["student"]["initial"]["config"]
    for run in (config, first, config["teacher"]["config"], first["teacher"]["config"]):
        assert run["data"]["train"] == "my data/a=b/movie_snippets.tsv" and run["paths"]["data"] == "my data/a=b"
    assert config["teacher"]["config"]["student"]["pretrained"] == "my data/a=b/all-MiniLM-L6-v2"


def test_the_default_data_folder_is_that_of_the_file():
    assert compose([])["paths"]["data"] == DEFAULT_DATA
