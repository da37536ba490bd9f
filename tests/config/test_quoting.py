"""Overrides that do not parse: the printed cure, pasted into a shell, is read by Hydra as what was meant."""

import os
import re
import shlex
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from omegaconf import OmegaConf

from kdlab.config.compose import compose
from kdlab.config.quoting import cured, not_read, parses, typed, value_text, written
from kdlab.errors import InputError

VALUES = [
    "ck/epoch=9-step=100.pth",
    "a=b",
    "x=y=z",
    "é",
    "ck/résumé.pth",
    "ck/模型/plain.pth",
    "данные",
    "🙂",
    "it's",
    'say "hi"',
    """both 'one' and "two\"""",
    "(v2)",
    "run (v2)",
    "run(v2)",
    "a b=c",
    "[1] (2)=x,y",
    "a]",
    "a}",
    "a[0]",
    "{x}y",
    "a{b",
    "a#b",
    "#1",
    "a;b",
    "a&b",
    "a!b",
    "a^b",
    "`a`",
    "<b>",
    "a\nb",
    "$(pwd)",
    "$HOME=x",
    "a=$x",
    "a\\=b",
    "C:\\new folder\\é",
    "é\\",
    'é\\"',
    "é\\\\",
    "file:///x?y=z",
    "http://x/y?a=1&b=2",
    "a: b=c",
    "1e5=",
    "null=",
    "'",
    '"',
    "''\"\"",
    "=",
    "==",
    ",é",
    "a,b=c",
    "~x=",
    "a='b'",
    'a="b"',
    "${b",
    "a}${",
    "tab\té",
    "(a",
    "a)",
    "\\(é",
    "%=20",
    "@=x",
    "|é|",
    "*=*",
    "?=",
    "é'\"é",
]


def read(text):
    """What Hydra and OmegaConf make of an override's value."""
    value = OverridesParser.create().parse_override(text).value()
    return OmegaConf.create({"value": value}).value


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", ["name", "+teacher.checkpoint", "++a.b", "student@strategy.peers.x"])
def test_the_cure_is_read_as_the_value(key, value):
    if parses(f"{key}={value}"):
        pytest.skip("it parses as it stands")
    message = not_read(f"{key}={value}")
    printed = message.partition("; type ")[2]
    (argument,) = shlex.split(printed)
    assert argument.startswith(f"{key}=") and read(argument) == value


def test_most_of_these_values_do_not_parse():
    assert sum(not parses(f"name={value}") for value in VALUES) >= 45


def test_a_shell_hands_the_cure_on(tmp_path):
    values = [value for value in VALUES if not parses(f"name={value}")]
    lines = "\n".join(f"printf '%s\\0' {not_read(f'name={value}').partition('; type ')[2]}" for value in values)
    said = subprocess.run(["bash", "-c", lines], capture_output=True, cwd=tmp_path, check=True).stdout.decode()
    assert [read(text) for text in said.split("\0")[:-1]] == values


BRACKETS = ["[", "{", "[a", "{a", "[1", "[a=", "{=", "[a)", "{a]", "[ [", "[$", "{${", "[a\\", "{%", "[a b ", "{a\t"]
PLAIN = ["a ", " a", "\ta", "a=b ", "a\n", " ", "a\\", "\\ ", "$", "a$"]
PLAIN += ["${", "${a}", "$${a}", "\\${a}", "a\\\\${b}\\", "{$}", "%", "%(x)s"]


@pytest.mark.parametrize("value", BRACKETS)
def test_a_text_that_begins_with_an_open_bracket_is_cured_by_quotes(value):
    message = not_read(f"name={value}")
    (argument,) = shlex.split(message.partition("; where the value is a text, type ")[2])
    assert "a bracket is not closed" in message and read(argument) == value


def test_an_open_bracket_in_a_group_is_no_text():
    assert "is a text" not in not_read("loss=[ce,kd") and "is a text" not in not_read("student@strategy.peers.x=[cnn")


def test_a_shell_hands_on_what_gives_a_key_a_plain_value(tmp_path):
    """Nothing of the value is lost: white space at its ends, backslashes, and ``${``, which is no reference in it."""
    values = [*VALUES, *BRACKETS, *PLAIN, "true", "null", "1", "1e5", "it's", "[a]", "{a: 1}"]
    lines = "\n".join(f"printf '%s\\0' {typed('name', value)}" for value in values)
    said = subprocess.run(["bash", "-c", lines], capture_output=True, cwd=tmp_path, check=True).stdout.decode()
    assert [read(text) for text in said.split("\0")[:-1]] == values
    assert [list(read(f"x={value_text([value])}")) for value in values] == [[value] for value in values]


@pytest.mark.parametrize("value", [*VALUES, *BRACKETS, *PLAIN])
def test_overrides_in_a_list_are_read_as_they_were(value):
    """The list is read first, and what is escaped in its elements must stay so."""
    inner = typed("name", value)
    (override,) = shlex.split(inner)
    elements = read(f"teacher.overrides={written([override, 'seed=1'])}")
    assert list(elements) == [override, "seed=1"] and read(elements[0]) == value


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert not_read("data.folder=~/x").endswith("; type data.folder=/home/me/x")
    assert not_read("data.folder=~/my x=1").endswith("""; type 'data.folder="/home/me/my x=1"'""")


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("loss=[ce,é]", ["ce", "é"]),
        ("student.hidden=[1,2=3]", [1, "2=3"]),
        ("x=[[a=1,b],[c]]", [["a=1", "b"], ["c"]]),
        ("x={a: b=c, d: 1}", {"a": "b=c", "d": 1}),
        ("x={a: [é, 2], d: {e: f(g}}", {"a": ["é", 2], "d": {"e": "f(g"}}),
        ("x=['a,b',it's]", ["a,b", "it's"]),
        ("teacher.overrides=[data.name=x=y,seed=2]", ['data.name="x=y"', "seed=2"]),
        ("teacher.same_but=[student=cnn,name=é]", ["student=cnn", 'name="é"']),
        ("teacher.assistants=[[student=mlp,name=é]]", [["student=mlp", 'name="é"']]),
    ],
)
def test_lists_and_named_values_stay_what_they_are(typed, meant):
    (argument,) = shlex.split(not_read(typed).partition("; type ")[2])
    assert read(argument) == meant


def test_what_is_escaped_in_a_list_of_overrides_stays_so():
    message = not_read("teacher.overrides=[name=a=\\${b},seed=2]")
    (argument,) = shlex.split(message.partition("; type ")[2])
    elements = list(read(argument))
    assert elements == ['name="a=\\${b}"', "seed=2"] and read(elements[0]) == "a=${b}"


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("name=a=1,b=2", ["a=1", "b=2"]),
        ("name=é,b", ["é", "b"]),
        ("name=choice(a=1,b)", ["a=1", "b"]),
        ("x=[a=1],[b]", [["a=1"], ["b"]]),
        ("teacher.checkpoint=a/x=y=1.pth,b", ["a/x=y=1.pth", "b"]),
    ],
)
def test_a_sweep_keeps_its_values_apart(typed, meant):
    message = not_read(typed, ["-m", typed])
    first = re.match(r".*?; type (.*?)(; or, where it is one value.*)?$", message)
    (argument,) = shlex.split(first[1])
    sweep = OverridesParser.create().parse_override(argument).value()
    assert isinstance(sweep, ChoiceSweep)
    plain = [
        [getattr(part, "text", part) for part in one] if isinstance(one, list) else getattr(one, "text", one)
        for one in sweep.list
    ]
    assert plain == meant
    if "choice" not in typed and "[" not in typed:
        (single,) = shlex.split(message.partition("no list of them, ")[2])
        assert read(single) == typed.partition("=")[2]


@pytest.mark.parametrize(
    "typed, all_of_it, words",
    [
        ("loss=[ce,kd", ["loss=[ce,kd"], ["a bracket is not closed", "'loss=[ce,kd]'"]),
        ("loss=[ce,", ["loss=[ce,", "kd]"], ["quote the whole: 'loss=[ce, kd]'"]),
        ("x={a:", ["seed=1", "x={a:", "1,", "b:", "2}"], ["quote the whole: 'x={a: 1, b: 2}'"]),
        ("run", ["name=my", "run"], ["KEY=VALUE", "quote the whole: 'name=my run'"]),
        ("seed", ["seed", "=", "3"], ["KEY=VALUE"]),
        ("é=1", ["é=1"], ["'é' is no key"]),
        ("my key=1", ["my key=1"], ["'my key' is no key"]),
    ],
)
def test_what_has_no_cure_is_named_as_what_it_is(typed, all_of_it, words):
    message = not_read(typed, all_of_it)
    assert message.startswith(f"{typed}: ")
    for word in words:
        assert word in message, message


def test_a_tried_cure_leaves_alone_what_is_read():
    for text in (
        "seed=2",
        "loss=[ce,kd]",
        "x={a: 1}",
        "loss.kd.weight=interval(0.1,1)",
        "name=${seed}",
        'name="x y"',
        "~loss.kd",
    ):
        if "=" in text:
            assert cured(text) == text


@pytest.mark.parametrize(
    "overrides, key",
    [
        (["""teacher.overrides=["data.folder=a=b","seed=2"]"""], "teacher.overrides"),
        (
            ["teacher=same_but", """teacher.same_but=["name=é","teacher=none","strategy=supervised"]"""],
            "teacher.same_but",
        ),
        (["""teacher.overrides=["name=[a","seed=2"]"""], "teacher.overrides"),
    ],
)
def test_an_override_in_a_list_is_cured_with_its_list(overrides, key):
    with pytest.raises(InputError) as error:
        compose(overrides)
    message = str(error.value)
    assert message.startswith(f"{key}: ")
    (argument,) = shlex.split(message.partition("; type ")[2])
    assert argument.startswith(f"{key}=[") and all(parses(text) for text in read(argument))


def test_the_command_line_prints_it(kdlab):
    code, out, err = kdlab("train", "teacher.checkpoint=ck/epoch=9-step=100.pth")
    assert code == 2 and err == (
        "kdlab: teacher.checkpoint=ck/epoch=9-step=100.pth: this value cannot be parsed; type "
        """'teacher.checkpoint="ck/epoch=9-step=100.pth"'\n"""
    )
    code, out, err = kdlab("train", "-m", "name=a=1,b=2")
    assert (
        code == 2
        and """type 'name="a=1","b=2"'; or, where it is one value and no list of them, 'name="a=1,b=2"'""" in err
    )
    assert not os.path.exists("runs")
