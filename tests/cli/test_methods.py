"""``kdlab methods``: the index is whole, and what it says of a method is so."""

import re
import shlex

import pytest

from kdlab import functional
from kdlab.config.check import check
from kdlab.config.compose import compose
from kdlab.config.paths import conf_dir
from kdlab.functional.sources import FAMILIES, method, Paper
from kdlab.methods import index, parameters, prose
from kdlab.runs.assemble import assemble

INDEX = index()


def test_every_loss_file_and_every_marked_function_is_in_the_index():
    assert {path.stem for path in (conf_dir() / "loss").glob("*.yaml")} <= set(INDEX)
    marked = {getattr(functional, name) for name in functional.__all__ if hasattr(getattr(functional, name), "method")}
    assert {entry.function for entry in INDEX.values()} == marked


@pytest.mark.parametrize("entry", INDEX.values(), ids=lambda entry: entry.name)
def test_an_entry(entry):
    paper = entry.method.paper
    assert paper.link.startswith("http") and 1940 < paper.year < 2027 and paper.title and paper.authors
    documentation = entry.function.__doc__
    assert ":math:" in documentation or ".. math::" in documentation, "no formula"
    assert ">>> " in documentation, "no example"
    told = entry.described()
    missing = [name for name in entry.defaults if name != "weight" and name not in told]
    assert not missing, f"no docstring tells what {missing} are"
    assert entry.needs


def test_the_list(kdlab):
    code, out, _ = kdlab("methods")
    assert code == 0
    assert [name for name in re.findall(r"^  (\w+) +\S", out, re.MULTILINE)] == list(INDEX)
    assert f"{len(INDEX)} methods" in out
    families = [line.split()[0].lower() for line in out.splitlines() if line and line[0].isupper()]
    assert families == [family for family in FAMILIES if any(entry.method.family == family for entry in INDEX.values())]


def test_the_list_of_a_family_and_of_a_task(kdlab):
    out = kdlab("methods", "--family", "divergence")[1]
    assert "reverse_kl" in out and "  kd " not in out
    out = kdlab("methods", "--for", "language model")[1]
    assert "reverse_kl" in out and "  hint " not in out


def test_one_method(kdlab):
    code, out, _ = kdlab("methods", "jensen_shannon")
    assert code == 0
    for text in ("Agarwal et al. (2024)", "https://arxiv.org/abs/2306.13649", "teacher_weight = 0.5", "weight = 1.0", "huggingface/trl at f2cd57710ae3",
                 "gkd_jsd", "1e-08", "kdlab train 'loss=[ce,jensen_shannon]'", "w KL(p ‖ m)", "GKD's and TRL's beta"):
        assert text in out, text


@pytest.mark.parametrize("name", [name for name, entry in INDEX.items() if entry.example])
def test_its_example_fits(name):
    """The line composes, passes the check of names and signatures, and its networks have what the loss reads."""
    config = compose(shlex.split(INDEX[name].example)[2:])
    check(config)
    assert config["loss"][name]["_target_"] == f"kdlab.losses.{type(INDEX[name].loss).__name__}"
    assemble(config, lambda config: None)


def test_only_what_reads_modules_of_a_transformer_has_no_example():
    assert all(entry.method.family in ("transformer", "sequences") for entry in INDEX.values() if entry.loss is not None and not entry.example)


def test_a_piece_shows_its_parameters(kdlab):
    out = kdlab("methods", "kdcl_linear")[1]
    assert "per_sample = false" in out and "iterations = 12 " in out and "kdlab train" not in out


def test_defaults_are_written_as_in_yaml(kdlab):
    out = kdlab("methods", "kdsvd")[1]
    assert "vectors = 1 " in out and "student_taps = [stage1, stage2, stage3]" in out


def test_what_a_user_must_know_of_a_loss_is_told(kdlab):
    assert "own head is not trained" in kdlab("methods", "simkd")[1]


def test_a_filter_and_a_name(kdlab):
    code, _, err = kdlab("methods", "kd", "--family", "features")
    assert code == 2 and "one method" in err


def test_a_name_that_is_none(kdlab):
    code, _, err = kdlab("methods", "jensen_shanon")
    assert code == 2 and "did you mean 'jensen_shannon'" in err.lower()


def test_a_method_names_a_known_family_and_repository():
    paper = Paper("A", 2000, "B", "https://example.org")
    for arguments in (("logit", paper), ("logits", paper, {"nobody/nothing": "kd"}), ("logits", paper, {}, ("everything",))):
        with pytest.raises(ValueError, match="unknown"):
            method(*arguments)


def test_the_arguments_of_a_docstring():
    text = "Sum.\n\nArgs:\n    a, b: numbers,\n        two.\n    mask, reduction: see there.\n\nReturns:\n    c: a number.\n"
    assert parameters(text) == {"a": "numbers, two.", "b": "numbers, two.", "mask": "see there.", "reduction": "see there."}
    assert parameters("Nothing.") == {}


def test_prose():
    assert prose(r"Of :func:`kdlab.functional.x`, :math:`\sum_c \mathrm{KL}(p \,\|\, q)`." "\n\nArgs:\n    a: b") == "Of kdlab.functional.x, Σ_c KL(p ‖ q)."
    assert prose("A.\n\n.. math:: a\n    + b\n\nC.") == "A.\n\n    a\n    + b\n\nC."
