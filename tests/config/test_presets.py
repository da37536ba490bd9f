"""Presets: each composes with its numbers, and stands between the experiment and the strategy."""

import re

import pytest

from kdlab.cli.main import main
from kdlab.compare.labels import described, labels
from kdlab.config.check import check
from kdlab.config.compose import compose
from kdlab.config.paths import conf_dir
from kdlab.config.presets import PACKAGE, read
from kdlab.errors import InputError
from kdlab.runs.identity import run_hash

FOLDER = conf_dir() / "preset"
NAMES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*/*.yaml"))
PRESETS = {name: read(FOLDER / f"{name}.yaml", name) for name in NAMES}


def loss(*overrides):
    config = compose(overrides)
    check(config)
    return config["loss"]


def holds(node, numbers):
    return all(
        holds(node[key], value) if isinstance(value, dict) and "schedule" not in value else node[key] == value
        for key, value in numbers.items()
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_preset(name):
    """It is of a method that kdlab has, names lines of code, and holds numbers of terms alone."""
    preset, method = PRESETS[name], name.partition("/")[0]
    assert method in preset.terms and preset.title and preset.sources
    assert all((conf_dir() / "loss" / f"{term}.yaml").is_file() for term in preset.terms)
    assert all(
        re.fullmatch(r"https://github.com/[\w.-]+/[\w.-]+/blob/[0-9a-f]{40}/\S+#L\d+(-L\d+)?", source)
        for source in preset.sources
    )


def clash(one, other):
    both = [preset.terms.get("ce", {}) for preset in (one, other)]
    different = any(both[0][key] != both[1][key] for key in set(both[0]) & set(both[1]))
    return different or set(one.methods) & set(other.methods)


def rounds():
    """The presets in as few lists as there can be, so that each is composed and no term stands in a list twice. All of
    a list say the same of ce."""
    found = []
    for name, preset in PRESETS.items():
        free = [one for one in found if not any(clash(preset, PRESETS[other]) for other in one)]
        (free[0] if free else found.append([]) or found[-1]).append(name)
    return found


@pytest.mark.parametrize("names", rounds(), ids=lambda names: f"{names[0]} and {len(names) - 1} more")
def test_presets_are_composed_as_they_stand(names):
    losses = [term for name in names for term in PRESETS[name].methods]
    terms = loss(f"preset=[{','.join(names)}]", f"loss=[ce,{','.join(losses)}]")
    assert all(holds(terms[term], PRESETS[name].terms[term]) for name in names for term in PRESETS[name].methods)


def test_the_weight_of_ce_goes_where_ce_goes():
    assert loss("preset=dkd/imagenet_resnet", "loss=[ce,dkd]")["ce"]["weight"] == 1.0
    assert list(loss("preset=dkd/imagenet_resnet", "loss=[dkd]")) == ["dkd"]
    with pytest.raises(InputError, match="loss.ce is no loss term"):  # what was typed was meant to count
        loss("preset=dkd/imagenet_resnet", "loss=[dkd]", "loss.ce.weight=0.3")


@pytest.mark.parametrize(
    "name, expected",
    [
        ("dkd/imagenet_resnet", {"ce.weight": 1.0, "dkd.beta": 0.5, "dkd.temperature": 1.0, "dkd.alpha": 1.0}),
        ("dkd/imagenet_mobilenet", {"dkd.beta": 2.0, "dkd.temperature": 1.0}),
        ("dkd/cifar100_wrn_40_2_wrn_16_2", {"dkd.beta": 6.0, "dkd.temperature": 4.0}),
        ("kd/imagenet", {"ce.weight": 0.5, "kd.weight": 0.5, "kd.temperature": 1.0}),
        ("reviewkd/cifar100_resnet56_resnet20", {"reviewkd.weight": {"schedule": "warmup", "end": 0.6, "epochs": 20}}),
        ("reviewkd/imagenet_mobilenet", {"reviewkd.weight": {"schedule": "warmup", "end": 8.0, "epochs": 1}}),
        ("nkd/cifar100", {"nkd.temperature": 3.0, "nkd.gamma": 3.5}),
        ("nkd/deit", {"nkd.gamma": 1.0}),
        ("uskd/cifar100", {"uskd.alpha": 0.1, "uskd.beta": 0.1, "uskd.mu": 0.1}),
        (
            "virtual_teacher/cifar100_resnet18",
            {"ce.weight": 0.9, "virtual_teacher.weight": 0.1, "virtual_teacher.temperature": 20.0},
        ),
        ("virtual_teacher/cifar100_mobilenet_v2", {"ce.weight": 0.05, "virtual_teacher.weight": 0.0095}),
        ("kd/ab_second_stage", {"ce.weight": 0.0, "kd.temperature": 3.0, "kd.temperature_squared": False}),
        ("rkd/metric_learning", {"rkd.distance_weight": 1.0, "rkd.angle_weight": 2.0}),
        ("semckd/cifar100", {"ce.weight": 1.0, "kd.weight": 1.0, "semckd.weight": 400.0}),
        ("semckd/imagenet", {"semckd.weight": 50.0}),
        (
            "kd_standardised/cifar100_resnet110_resnet20",
            {"ce.weight": 0.1, "kd_standardised.weight": 12.0, "kd_standardised.loss.temperature": 4.0},
        ),
        (
            "kd_standardised/cifar100_resnet50_mobilenet_v2",
            {"kd_standardised.weight": 1.0, "kd_standardised.loss.temperature": 3.0},
        ),
        (
            "dkd_standardised/cifar100_resnet56_resnet20",
            {
                "dkd_standardised.weight": {"schedule": "warmup", "end": 18.0, "epochs": 20},
                "dkd_standardised.loss.beta": 2.0,
                "dkd_standardised.loss.temperature": 3.0,
            },
        ),
        ("symmetric_kl/dolly", {"symmetric_kl.reverse_weight": 0.9}),
        (
            "ctkd/imagenet",
            {
                "ce.weight": 1.0,
                "ctkd.weight": 1.0,
                "ctkd.reversal": {"schedule": "cosine", "start": 0.0, "end": 1.0, "epochs": 5},
            },
        ),
        (
            "multi_level/cifar100",
            {
                "ce.weight": 0.1,
                "ce.both_views": True,
                "multi_level.mask_after_mean": True,
                "multi_level.strong_correlations": False,
            },
        ),
        ("pkd/glue", {"ce.weight": 0.3, "kd.weight": 0.35, "kd.temperature": 10.0, "pkd.weight": 500.0}),
    ],
)
def test_numbers_of_the_authors(name, expected):
    """Read off the authors' repositories by hand."""
    terms = loss(f"preset={name}", f"loss=[{','.join(('ce', *PRESETS[name].methods))}]")
    for key, value in expected.items():
        node = terms
        for part in key.split("."):
            node = node[part]
        assert node == value, key


def test_the_weight_of_factor_transfer_is_500_on_the_mean():
    """There the mean over the 32 x 8 x 8 elements of the factors, here their sum."""
    import torch

    from kdlab.functional import factor_transfer

    one, other = torch.rand(2, 3, 32, 8, 8, dtype=torch.float64)
    node, unit = PRESETS["factor/cifar10"].terms["factor"], torch.nn.functional.normalize
    ours = node["weight"] * factor_transfer(one, other, node["norm"], node["form"]).mean()
    torch.testing.assert_close(ours, 500 * (unit(one.flatten(1)) - unit(other.flatten(1))).abs().mean())


def test_the_weight_of_pkds_kd_is_a_mean_over_classes():
    import torch

    from kdlab.functional import hinton_kd

    student, teacher = torch.randn(2, 5, 2, dtype=torch.float64)
    theirs = 0.7 * torch.nn.KLDivLoss(reduction="mean")((student / 10).log_softmax(1), (teacher / 10).softmax(1)) * 100
    node = PRESETS["pkd/glue"].terms["kd"]
    torch.testing.assert_close(node["weight"] * hinton_kd(student, teacher, node["temperature"]).mean(), theirs)


def test_no_preset_changes_no_run():
    plain = compose(["loss=[ce,dkd]"])
    assert "preset" not in plain and plain["choices"]["preset"] == "none"
    assert run_hash(plain) == run_hash(compose(["loss=[ce,dkd]", "preset=none"]))
    assert run_hash(plain) != run_hash(compose(["loss=[ce,dkd]", "preset=dkd/imagenet_resnet"]))
    typed = ["loss.dkd.weight={schedule: warmup, end: 1, epochs: 1}", "loss.dkd.beta=0.5", "loss.dkd.temperature=1"]
    assert run_hash(compose(["loss=[ce,dkd]", *typed])) == run_hash(
        compose(["loss=[ce,dkd]", "preset=dkd/imagenet_resnet"])
    )


@pytest.mark.parametrize(
    "overrides, missing, cure",
    [
        (["preset=dkd/imagenet_resnet"], "dkd, which is not among", "'loss=[ce,dkd]'"),
        (["preset=dkd/imagenet_resnet", "loss=[ce,attention]"], r"\(ce, attention\)", "'loss=[ce,dkd]'"),
        (["preset=kd/imagenet", "loss=[ce,dkd]", "strategy=cs_kd"], "kd, which is not among", "'loss=[ce,kd]'"),
        (["preset=kd/imagenet", "strategy=supervised"], "kd, which is not among", "'loss=[ce,kd]'"),
        (["preset=semckd/cifar100", "loss=[ce,semckd]"], "kd, which is not among", "'loss=[ce,kd,semckd]'"),
        (["preset=pkd/glue", "loss=[ce]"], "kd and pkd, which are not among", "'loss=[ce,kd,pkd]'"),
        (
            ["preset=dkd/imagenet_resnet", "experiment=crd_benchmark/recipe", "strategy=offline", "loss=[ce,crd]"],
            "dkd, which is not",
            "'loss=[ce,dkd]'",
        ),
        (["preset=[dkd/imagenet_resnet,crd/imagenet]", "loss=[ce,dkd]"], "crd, which is not among", "'loss=[ce,crd]'"),
    ],
)
def test_a_preset_of_a_term_that_is_not_chosen_is_refused_with_the_cure(overrides, missing, cure):
    with pytest.raises(InputError, match=missing) as error:
        compose(overrides)
    assert cure in str(error.value) and "preset=none" in str(error.value)


def test_several_presets():
    terms = loss("preset=[dkd/imagenet_resnet,crd/imagenet]", "loss=[ce,dkd,crd]")
    assert terms["dkd"]["beta"] == 0.5 and terms["crd"]["weight"] == 0.8
    assert compose(["preset=[dkd/imagenet_resnet,crd/imagenet]", "loss=[ce,dkd,crd]"])["choices"]["preset"] == [
        "dkd/imagenet_resnet",
        "crd/imagenet",
    ]


def test_a_run_before_with_other_losses_has_no_preset():
    """The student of generation 0 learns from labels, and the first stage from its boundaries alone."""
    config = compose(["strategy=born_again", "preset=kd/imagenet"])
    assert config["loss"]["kd"]["temperature"] == 1.0 and list(config["teacher"]["config"]["loss"]) == ["ce"]
    config = compose(["experiment=stages/ab", "preset=kd/ab_second_stage"])
    assert config["loss"]["kd"]["temperature"] == 3.0 and config["loss"]["ce"]["weight"] == 0.0
    assert (
        config["student"]["initial"]["config"]["loss"]
        == compose(["experiment=stages/ab"])["student"]["initial"]["config"]["loss"]
    )
    second = compose(["strategy=born_again", "strategy.generation=2", "preset=kd/imagenet"])
    assert second["teacher"]["config"]["loss"]["kd"]["temperature"] == 1.0


@pytest.mark.parametrize(
    "text, message",
    [
        ("kd: {weight: 0.3}\n", "must begin with the line '# @package loss'"),
        (
            "# @package _global_\nloss: {kd: {weight: 0.3}}\noptimizer: {lr: 0.1}\n",
            "must begin with the line '# @package loss'",
        ),
        (f"# mine\n{PACKAGE}\nkd: {{weight: 0.3}}\n", "must begin with the line '# @package loss'"),
        (f"{PACKAGE}\nkd: 0.3\n", "it has 'kd'"),
    ],
)
def test_a_file_that_is_no_preset(workplace, capsys, text, message):
    (workplace / "conf" / "preset").mkdir(parents=True)
    (workplace / "conf" / "preset" / "mine.yaml").write_text(text)
    assert main(["train", "--config-dir", "conf", "preset=mine"]) == 2
    assert message in capsys.readouterr().err


def test_a_preset_that_does_not_exist(kdlab):
    code, _, err = kdlab("train", "loss=[ce,dkd]", "preset=dkd/imagenet_resnett")
    assert code == 2 and "did you mean 'dkd/imagenet_resnet'" in err.lower()


@pytest.mark.parametrize("typed", ["preset=dkd", "preset=dkd/", "preset=[dkd]"])
def test_a_method_without_a_protocol_is_answered_with_lines_to_paste(kdlab, workplace, typed):
    (workplace / "conf" / "preset" / "dkd").mkdir(parents=True)
    (workplace / "conf" / "preset" / "dkd" / "mine.yaml").write_text(f"{PACKAGE}\ndkd: {{beta: 3.0}}\n")
    code, _, err = kdlab("train", "--config-dir", "conf", "loss=[ce,dkd]", typed)
    lines = [line.strip() for line in err.splitlines() if line.startswith("    ")]
    assert code == 2 and "this is a folder" in err
    assert lines == sorted([f"preset={name}" for name in NAMES if name.startswith("dkd/")] + ["preset=dkd/mine"])
    assert loss(lines[0], "loss=[ce,dkd]")["dkd"]["beta"] == 2.0


def test_a_run_with_a_preset(kdlab, workplace):
    code, _, err = kdlab(
        "train",
        "loss=[ce,dkd]",
        "preset=dkd/imagenet_resnet",
        "trainer.max_epochs=1",
        "data.fraction=0.1",
        "progress=none",
    )
    assert code == 0, err
    [path] = (workplace / "runs" / "quickstart").glob("offline-ce+dkd*")
    assert (
        "dkd/imagenet_resnet" in kdlab("runs", "show", str(path))[1]
        or "dkd/imagenet_resnet" in (path / "config.yaml").read_text()
    )


@pytest.mark.parametrize("names", ["dkd/imagenet_resnet", '"dkd/imagenet_resnet"'])
def test_a_list_is_read_wherever_it_stands(tmp_path, names):
    """From the command line, in quotes or not, and from an experiment: ce, which is not chosen, is left out."""
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "listed.yaml"
    file.write_text(f"# @package _global_\ndefaults: [{{override /preset: [{names}]}}]\n")
    own = f"hydra.searchpath=[file://{tmp_path}]"
    for given in ([f"preset=[{names}]"], ["experiment=listed", own]):
        config = compose([*given, "loss=[dkd]"])
        check(config)
        assert list(config["loss"]) == ["dkd"] and config["choices"]["preset"] == "dkd/imagenet_resnet"
        with pytest.raises(
            InputError, match="^preset=dkd/imagenet_resnet: it gives numbers to dkd, which is not among"
        ):
            compose([*given, "loss=[ce,kd]"])
    assert compose(["experiment=listed", own, "preset=none", "loss=[dkd]"])["choices"]["preset"] == "none"


def test_two_presets_of_one_method_are_refused():
    """Hydra would merge them into numbers of neither."""
    with pytest.raises(InputError) as error:
        loss("loss=[ce,dkd]", "preset=[dkd/imagenet_resnet,dkd/cifar100_resnet32x4_resnet8x4]")
    assert "both give numbers to dkd, and not the same; leave one of them out" in str(error.value)


def test_presets_that_give_ce_different_numbers_are_refused():
    """The last one would count."""
    given = ["preset=[dkd/imagenet_resnet,kd/imagenet]", "loss=[ce,dkd,kd]"]
    with pytest.raises(InputError) as error:
        loss(*given)
    words = (
        "the presets give loss.ce.weight different numbers (preset=dkd/imagenet_resnet: 1.0, preset=kd/imagenet: 0.5); "
        "choose one, for example loss.ce.weight=0.5"
    )
    assert str(error.value) == words
    assert loss(*given, "loss.ce.weight=0.5")["ce"]["weight"] == 0.5
    assert loss(*given, "loss.ce.weight=1")["ce"]["weight"] == 1
    assert list(loss(given[0], "loss=[dkd,kd]")) == ["dkd", "kd"]  # without ce its weight counts nothing


def test_what_presets_say_of_ce_together_is_left_out_where_it_is_not_chosen():
    terms = loss("preset=[multi_level/cifar100,dkd/imagenet_resnet]", "loss=[multi_level,dkd]")
    assert list(terms) == ["multi_level", "dkd"]


def test_an_experiment_may_say_which_number_of_ce_counts(tmp_path):
    (tmp_path / "experiment").mkdir()
    head = "# @package _global_\ndefaults: [{override /preset: [dkd/imagenet_resnet, kd/imagenet]}]\n"
    (tmp_path / "experiment" / "said.yaml").write_text(f"{head}loss: {{ce: {{weight: 0.75}}}}\n")
    terms = loss("experiment=said", f"hydra.searchpath=[file://{tmp_path}]", "loss=[ce,dkd,kd]")
    assert terms["ce"]["weight"] == 0.75


def test_runs_of_two_presets_that_differ_in_ce_alone_are_told_apart(tmp_path):
    """By their hashes, and in a table by that number."""
    (tmp_path / "preset" / "mine").mkdir(parents=True)
    for name, weight in (("a", 0.5), ("b", 0.25)):
        text = f"{PACKAGE}\nce: {{weight: {weight}}}\nkd: {{weight: 0.5, temperature: 4.0}}\n"
        (tmp_path / "preset" / "mine" / f"{name}.yaml").write_text(text)
    configs = [compose([f"preset=mine/{name}", f"hydra.searchpath=[file://{tmp_path}]"]) for name in "ab"]
    assert len({run_hash(config) for config in configs}) == 2
    assert labels([described(config) for config in configs]) == [
        "offline ce+kd  ce.weight=0.5",
        "offline ce+kd  ce.weight=0.25",
    ]
