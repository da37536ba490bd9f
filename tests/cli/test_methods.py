"""``kdlab methods``: the index is whole, and what it says of a method is so."""

import inspect
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from kdlab import functional
from kdlab.config.check import check
from kdlab.config.compose import compose
from kdlab.config.paths import conf_dir
from kdlab.functional.sources import FAMILIES, SWITCHES, Method, Paper, method
from kdlab.methods import index, lookup, parameters, printed, prose
from kdlab.methods.printed import FILE
from kdlab.training.assemble import assemble

INDEX = index()


def of_kind(*kinds):
    return [entry for entry in INDEX.values() if entry.kind in kinds]


def test_every_file_and_every_marked_function_is_in_the_index():
    for kind in ("loss", "strategy"):
        assert {path.stem for path in (conf_dir() / kind).glob("*.yaml")} == {entry.name for entry in of_kind(kind)}
    marked = {getattr(functional, name) for name in functional.__all__ if hasattr(getattr(functional, name), "method")}
    composed = {function for entry in of_kind("strategy") for function in entry.composes}
    assert {entry.function for entry in of_kind("loss", "piece")} | composed == marked
    assert not {entry.function for entry in of_kind("piece")} & composed


@pytest.mark.parametrize("entry", of_kind("loss", "piece"), ids=lambda entry: entry.name)
def test_an_entry(entry):
    paper = entry.method.paper
    assert paper.link.startswith("http") and 1940 < paper.year < 2027 and paper.title and paper.authors
    documentation = entry.function.__doc__
    assert ":math:" in documentation or ".. math::" in documentation, "no formula"
    assert ">>> " in documentation, "no example"
    described = entry.described()
    missing = [name for name in entry.defaults if name != "weight" and name not in described]
    assert not missing, f"no docstring tells what {missing} are"
    assert entry.needs


@pytest.mark.parametrize("entry", of_kind("strategy"), ids=lambda entry: entry.name)
def test_a_strategy(entry):
    assert entry.description and entry.losses and prose(entry.documented.__doc__)
    missing = [name for name in entry.defaults if name not in entry.described()]
    assert not missing, f"no docstring tells what {missing} are"
    if entry.method.paper is not None:
        assert ":math:" in entry.documented.__doc__ or ".. math::" in entry.documented.__doc__, "no formula"
        assert entry.method.paper.link in entry.documented.__doc__, "the docstring names another source"


@pytest.mark.parametrize("case", SWITCHES)
def test_switches_that_a_case_was_verified_with_are_other_than_the_defaults(case):
    entries = [entry for entry in INDEX.values() if case in " ".join(entry.claims.values()).split()]
    assert entries, "no method claims it"
    sources = [
        source
        for entry in entries
        for source in (
            [entry.function, type(entry.loss)] if entry.kind != "strategy" else [entry.strategy, *entry.composes]
        )
    ]
    sources += [type(INDEX[name].loss) for entry in entries if entry.kind == "strategy" for name in entry.losses]
    defaults = [{**inspect.signature(source).parameters} for source in sources if source is not type(None)]
    for switch in SWITCHES[case].split():
        name, _, value = switch.partition("=")
        known = [own[name].default for own in defaults if name in own]
        assert known and yaml.safe_load(value) not in known and value not in map(str, known), (switch, known)


def test_verified_is_said_with_the_switches(kdlab):
    """multi_level and uskd show defaults that their authors' code does not have."""
    for name, switches in (
        ("uskd", "rank_by_logarithm=true"),
        ("multi_level", "mask_after_mean=true reuse_weak=true strong_correlations=false"),
    ):
        assert f", with {switches}" in kdlab("methods", name)[1]
        shown = " ".join(kdlab("methods")[1].partition(f"  {name} ")[2].split())
        assert re.match(rf"(?:(?!verified: ).)*verified: \S+ with {switches}", shown)
    assert "with" not in kdlab("methods", "dkd")[1].partition("verified against")[2].partition("\n\n")[0]


def test_a_strategy_is_shown_with_its_class_its_losses_and_its_example(kdlab):
    code, out, _ = kdlab("methods", "online")
    assert code == 0
    for text in (
        "online (strategy; for classifier)\nZhang et al. (2018)",
        "https://arxiv.org/abs/1706.00384",
        "L_{taught}(z_i, z_j)",
        "class: kdlab.strategies.online.Online   file: conf/strategy/online.yaml",
        "needs: no teacher",
        "losses by default (weights): ce=1.0 mutual_kl=1.0",
        "views = same   whether all networks",
        "YingZhangDUT/Deep-Mutual-Learning at c3d6ff1ecae2",
        "    dml_kl, with update=alternating teachers=sum",
        "\nkdlab train strategy=online\n",
    ):
        assert text in out, text
    assert (
        "needs: teacher" in kdlab("methods", "offline")[1] and "Hinton et al. (2015)" in kdlab("methods", "offline")[1]
    )


def test_a_strategy_without_a_paper_is_shown_without(kdlab):
    entry = INDEX["supervised"]
    assert (
        entry.method == Method("strategy", None, {}, ("classifier",))
        and entry.brief == "The student alone, from labels"
    )
    code, out, _ = kdlab("methods", "supervised")
    assert code == 0 and "None" not in out and "not compared with code of the authors\n" in out


def test_a_file_that_uses_the_class_of_another_does_not_have_its_paper():
    assert INDEX["funmatch"].strategy is INDEX["offline"].strategy
    assert INDEX["funmatch"].method.paper is None and INDEX["offline"].method.paper.year == 2015
    assert "https://arxiv.org/abs/2106.05237" in INDEX["funmatch"].description


def test_what_a_strategy_composes_is_part_of_its_entry(tmp_path, monkeypatch):
    """A strategy that calls two pieces, and one that derives from it without saying where it comes from."""
    from kdlab.methods import strategies

    (tmp_path / "composing.py").write_text(
        "from kdlab import functional\n"
        "from kdlab.functional import kdcl_mean\n"
        "from kdlab.functional.sources import method\n"
        "from kdlab.strategies import Offline\n"
        "\n"
        "\n"
        "@method('strategy', kdcl_mean.method.paper, {'wangz3066/OnlineDistillGCN': 'kdcl_minlogit'})\n"
        "class Composing(Offline):\n"
        "    'It calls.'\n"
        "    rules = {'naive': functional.kdcl_naive, 'kd': functional.hinton_kd}\n"
        "\n"
        "\n"
        "class Derived(Composing):\n"
        "    'It derives.'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Composing", "Derived"):
        (tmp_path / f"{name.lower()}.yaml").write_text(f"# {name}, for a test\n_target_: composing.{name}\n")
    monkeypatch.setattr(strategies, "compose", lambda overrides: compose([]))
    found = strategies.strategy_entries(tmp_path)
    first, second = found["composing"], found["derived"]
    for entry in (first, second):
        assert {function.__name__ for function in entry.composes} == {"kdcl_mean", "kdcl_naive"}
    assert (
        first.method.paper.authors == "Guo et al."
        and second.method.paper is None
        and second.brief == "Derived, for a test"
    )
    composed = {
        "wangz3066/OnlineDistillGCN": "kdcl_naive_loss",
        "shaoeric/Online-Knowledge-Distillation-via-Collaborative-Learning": "kdcl_mean",
    }
    assert second.claims == composed
    assert first.claims == {**composed, "wangz3066/OnlineDistillGCN": "kdcl_minlogit kdcl_naive_loss"}


def test_a_composed_function_can_be_asked_for_by_its_name():
    assert lookup("kdcl_mean").kind == "piece" and lookup("kdcl_mean").function is functional.kdcl_mean


def test_the_printed_index_is_that_of_the_code():
    """After a change: python -m kdlab.methods"""
    from kdlab.methods.pages import render

    assert printed.stored() == render()


def test_an_index_that_is_out_of_date_is_not_used(kdlab, tmp_path, monkeypatch):
    expected = kdlab("methods", "dkd")[1]
    for text in ('{"digest": "0"}', "no json", FILE.read_text().replace('"families"', '"others"')):
        monkeypatch.setattr(printed, "FILE", tmp_path / "printed.json")
        printed.FILE.write_text(text)
        assert printed.stored() is None
    assert kdlab("methods", "dkd") == (0, expected, "")
    printed.store(printed.Printed(["a"], ["b"], "c", [printed.Listed("x", "a", "loss", ["b"], "x\n", "page\n")], {}))
    assert kdlab("methods", "x") == (0, "page\n", "")


def test_printing_it_imports_no_torch():
    for verb in ("methods", "cache", "runs", "--help"):
        code = f"import sys; from kdlab.cli.main import main; main(['{verb}']); print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip().endswith("False"), verb


def test_the_list(kdlab):
    code, out, _ = kdlab("methods")
    assert code == 0
    assert list(re.findall(r"^  (\w+) +\S", out, re.MULTILINE)) == list(INDEX)
    assert f"{len(INDEX)} methods" in out
    headings = [line.split()[0].lower() for line in out.splitlines() if line and line[0].isupper()]
    assert headings == [
        *(family for family in FAMILIES if any(entry.method.family == family for entry in INDEX.values())),
        *["pieces"] * any(entry.method.family == "strategy" for entry in of_kind("piece")),
    ]


def test_the_list_of_a_family_and_of_a_task(kdlab):
    out = kdlab("methods", "--family", "divergence")[1]
    assert "reverse_kl" in out and "  kd " not in out
    out = kdlab("methods", "--for", "language model")[1]
    assert "reverse_kl" in out and "  hint " not in out


def test_one_method(kdlab):
    code, out, _ = kdlab("methods", "jensen_shannon")
    assert code == 0
    for text in (
        "Agarwal et al. (2024)",
        "https://arxiv.org/abs/2306.13649",
        "teacher_weight = 0.5",
        "weight = 1.0",
        "huggingface/trl at f2cd57710ae3",
        "gkd_jsd",
        "1e-08",
        "kdlab train 'loss=[ce,jensen_shannon]'",
        "w KL(p ‖ m)",
        "GKD's and TRL's beta",
    ):
        assert text in out, text


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in INDEX.items() if entry.example])
def test_its_example_fits(name):
    """The line composes, passes the check of names and signatures, and its networks have what the loss reads."""
    config, entry = compose(shlex.split(INDEX[name].example)[2:]), INDEX[name]
    check(config)
    if entry.kind == "strategy":
        assert config["strategy"]["_target_"] == f"kdlab.strategies.{entry.strategy.__name__}"
        assert entry.needs == ["no teacher" if config["teacher"] is None else "teacher"]
    else:
        assert config["loss"][name]["_target_"] == f"kdlab.losses.{type(entry.loss).__name__}"
    assemble(config, lambda config: None)


def test_only_what_reads_modules_of_a_transformer_has_no_example():
    assert all(
        entry.method.family in ("transformer", "sequences")
        for entry in of_kind("loss", "strategy")
        if not entry.example
    )


def test_a_piece_shows_its_parameters(kdlab):
    out = kdlab("methods", "kdcl_linear")[1]
    assert "per_sample = false " in out and "needs: a strategy that calls it" in out and "kdlab train" not in out


def test_defaults_are_written_as_in_yaml(kdlab):
    out = kdlab("methods", "kdsvd")[1]
    assert "vectors = 1 " in out and "student_taps = [stage1, stage2, stage3]" in out


def test_what_a_user_must_know_of_a_loss_is_told(kdlab):
    assert "does not train the student's own head" in kdlab("methods", "simkd")[1]


def test_a_loss_shows_its_presets_with_numbers_and_sources(kdlab):
    out = kdlab("methods", "dkd")[1]
    for text in (
        "presets (preset=NAME):",
        "\n  dkd/imagenet_resnet\n",
        "DKD on ImageNet: ResNet-34 teaches ResNet-18",
        "dkd.beta=0.5",
        "ce.weight=1.0",
        "/configs/imagenet/r34_r18/dkd.yaml#L26-L30",
        "\n  dkd/cifar100_vgg13_vgg8\n",
        "dkd.beta=6.0",
    ):
        assert text in out, text
    assert "presets" not in kdlab("methods", "cka")[1] and "presets" not in kdlab("methods", "online")[1]


@pytest.mark.parametrize(
    "name, weight",
    [
        ("kd", "${one_minus:loss.kd.weight}"),
        ("kd_standardised", "0.1"),
        ("ctkd", "0.1"),
        ("multi_level", "0.1"),
        ("hard_kd", "0.5"),
        ("virtual_teacher", "0.9"),
    ],
)
def test_a_loss_shows_the_weight_that_it_gives_to_ce(kdlab, name, weight):
    out = kdlab("methods", name)[1]
    assert f"loss.ce.weight={weight}" in out and "with_ce =" not in out
    assert "loss.ce.weight" not in kdlab("methods", "dist")[1]


def test_a_method_whose_authors_do_more_says_what_is_missing(kdlab):
    assert "RandAugment(2, 10)" in kdlab("methods", "multi_level")[1]


def test_a_filter_and_a_name(kdlab):
    code, _, err = kdlab("methods", "kd", "--family", "features")
    assert code == 2 and "one method" in err


def test_a_name_that_is_none(kdlab):
    code, _, err = kdlab("methods", "jensen_shanon")
    assert code == 2 and "did you mean 'jensen_shannon'" in err.lower()


def test_a_method_names_a_known_family_and_repository():
    paper = Paper("A", 2000, "B", "https://example.org")
    with pytest.raises(ValueError, match="only a strategy"):
        method("logits", None)
    for arguments in (
        ("logit", paper),
        ("logits", paper, {"nobody/nothing": "kd"}),
        ("logits", paper, {}, ("everything",)),
    ):
        with pytest.raises(ValueError, match="unknown"):
            method(*arguments)


def test_the_arguments_of_a_docstring():
    text = (
        "Sum.\n"
        "\n"
        "Args:\n"
        "    a, b: numbers,\n"
        "        two.\n"
        "    mask, reduction: see there.\n"
        "\n"
        "Returns:\n"
        "    c: a number.\n"
    )
    assert parameters(text) == {
        "a": "numbers, two.",
        "b": "numbers, two.",
        "mask": "see there.",
        "reduction": "see there.",
    }
    assert parameters("Nothing.") == {}


def test_prose():
    assert (
        prose(r"Of :func:`kdlab.functional.x`, :math:`\sum_c \mathrm{KL}(p \,\|\, q)`." "\n\nArgs:\n    a: b")
        == "Of kdlab.functional.x, Σ_c KL(p ‖ q)."
    )
    assert prose("A.\n\n.. math:: a\n    + b\n\nC.") == "A.\n\n    a\n    + b\n\nC."
