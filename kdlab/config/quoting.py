"""Quoting: writes overrides so that Hydra reads the intended value and the shell passes them on unchanged."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse as parse_reference

from kdlab.errors import InputError

from .missing import groups

_OF_OVERRIDES = ("overrides", "same_but", "assistants")  # keys of lists of overrides, each of which is corrected alone
_BARE = re.compile(r"[A-Za-z_./][\w./:@+-]*")  # texts that need no quotes, unless they are words like null
_CLOSING = {"[": "]", "{": "}", "(": ")"}


def parses(override: str) -> bool:
    """Whether Hydra can parse a text as an override."""
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def quoted(value: str) -> str:
    """A value in double quotes, as Hydra's grammar escapes it. A ``${`` that begins no reference is also escaped for
    OmegaConf.

    >>> print(quoted('say "x=1"'), quoted("a${b"), quoted("${seed}"))
    "say \\"x=1\\"" "a\\${b" "${seed}"
    """
    if "${" in value:
        try:
            parse_reference(value)
        except GrammarParseError:
            value = value.replace("${", "\\${")
    return QuotedString(value, Quote.double).with_quotes()


def _literal(text: str) -> str:
    """A text escaped so that OmegaConf finds no reference and reads the original text."""
    return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", text)


def value_text(value: object) -> str:
    """A plain value in Hydra's grammar. A text is quoted where Hydra would read something else, and a ``${`` in it is
    escaped.

    >>> print(value_text({"a": [1, None, True], "b": "x=y", "c": "resnet18", "d": "1e5", "e": "${f}"}))
    {a: [1,null,true], b: "x=y", c: resnet18, d: "1e5", e: "\\${f}"}
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {value_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(value_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return repr(value)
    bare = _BARE.fullmatch(value) and parses(f"x={value}")
    same = bare and OverridesParser.create().parse_override(f"x={value}").value() == value
    return value if same else quoted(_literal(value))


def written(overrides: Sequence[str]) -> str:
    """A list of overrides as the value of an override, each in quotes. References in them are resolved when the list is
    read.

    >>> written(["seed=1", "loss=[ce]"])
    '["seed=1","loss=[ce]"]'
    """
    return f"[{','.join(_nested(text) for text in overrides)}]"


def _nested(override: str) -> str:
    """An override in quotes, as an element of a list. Escapes in it are escaped again, since the list is parsed before
    its elements."""
    if "${" in override:
        try:
            parse_reference(override)
        except GrammarParseError:
            override = _literal(override)
        else:
            escaped = re.compile(r"(?<!\\)(\\\\)*\\\$\{")
            override = escaped.sub(lambda found: _literal(found[0]), override)
    return QuotedString(override, Quote.double).with_quotes()


def cured(override: str, sweep: bool = False) -> str | None:
    """A form of an override that Hydra can parse. None where the key is no key, or a bracket is not closed.

    Args:
        override: ``KEY=VALUE`` as it was typed.
        sweep: commas separate the values of a sweep.

    >>> cured("teacher.checkpoint=ck/epoch=9.pth"), cured("seed=2"), cured("loss=[ce,kd")
    ('teacher.checkpoint="ck/epoch=9.pth"', 'seed=2', None)
    >>> cured("name=a=1,b", sweep=True), cured("teacher.overrides=[data.folder=x=y]")
    ('name="a=1",b', 'teacher.overrides=["data.folder=\\\\"x=y\\\\""]')
    """
    key, equals, value = override.partition("=")
    if not equals or not parses(f"{key}=1"):
        return None
    if value.startswith("~"):
        value = os.path.expanduser(value)
    candidates = _candidates(value, sweep, key.rpartition(".")[2] in _OF_OVERRIDES)
    return next((f"{key}={one}" for one in candidates if parses(f"{key}={one}")), None)


def typed(key: str, value: object) -> str:
    """The override that gives a key a plain value, quoted for the shell.

    >>> print(typed("data.folder", "a"), typed("data.folder", "my data/a=b"))
    data.folder=a 'data.folder="my data/a=b"'
    """
    return shlex.quote(f"{key}={value_text(value)}")


def _candidates(value: str, sweep: bool, nested: bool) -> Iterator[str]:
    """Ways to write a value, the smallest change first."""
    yield value
    stripped = value.strip()
    if stripped[:1] in ("[", "{"):
        if not _closed(stripped):
            return
        if len(_parts(stripped)) == 1:
            yield _element(stripped, nested)
    if sweep:
        choice = re.fullmatch(r"(choice|shuffle|sort)\((.*)\)", stripped)
        if choice:
            yield f"{choice[1]}({_elements(choice[2], nested)})"
        if "," in value:
            yield _elements(value, nested)
    yield quoted(value)


def _elements(text: str, nested: bool) -> str:
    # a comma at the end separates nothing
    return ",".join(_element(one, nested) for one in _parts(text) if one.strip())


def _element(text: str, nested: bool) -> str:
    """An element of a list, or a value of a dict, in a form that Hydra can parse. ``nested``: it is itself an
    override."""
    text = text.strip()
    if parses(f"x=[{text}]") and len(_parts(text)) == 1:
        return text
    if text.startswith("[") and text.endswith("]"):
        return f"[{_elements(text[1:-1], nested)}]"
    if text.startswith("{") and text.endswith("}"):
        pairs = [part.partition(":") for part in _parts(text[1:-1])]
        return "{" + ", ".join(f"{key.strip()}: {_element(value, nested)}" for key, _, value in pairs) + "}"
    return _nested(cured(text) or text) if nested else quoted(text)


def _parts(text: str) -> list[str]:
    """A text, split at the commas outside brackets and quotes.

    >>> _parts("a,[b,c],'d,e',it's,f")
    ['a', '[b,c]', "'d,e'", "it's", 'f']
    """
    parts, depth, quote, current = [], 0, "", ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[place - 1] != "\\" else quote
        elif letter in "\"'" and not current.strip(" [{:(") and text.find(letter, place + 1) > 0:
            quote = letter
        elif letter in _CLOSING:
            depth += 1
        elif letter in _CLOSING.values():
            depth -= 1
        if letter == "," and depth == 0 and not quote:
            parts.append(current)
            current = ""
        else:
            current += letter
    return [*parts, current]


def _closed(text: str) -> bool:
    """Whether the bracket at the beginning of a value is closed, at its end or earlier."""
    opening, depth = text[0], 0
    for letter in text:
        depth += (letter == opening) - (letter == _CLOSING[opening])
    return depth <= 0


def not_read(override: str, typed: Sequence[str] = ()) -> str:
    """The message for an override that Hydra cannot parse, with the override to type instead.

    Args:
        typed: the whole command line; the shell may have split one override.
    """
    sweep = bool({"-m", "--multirun"} & set(typed))
    cure = cured(override, sweep)
    if cure is not None:
        single = cured(override)
        other = (
            f"; or, where it is one value and no list of them, {shlex.quote(single)}"
            if sweep and single not in (None, cure)
            else ""
        )
        return f"{override}: this value cannot be parsed; type {shlex.quote(cure)}{other}"
    joined = _joined(override, typed)
    hint = f"; if the shell has taken it apart, quote the whole: {shlex.quote(joined)}" if joined else ""
    if "=" not in override:
        return f"{override}: this is not how an override is written; it is KEY=VALUE, for example seed=2{hint}"
    key, _, value = override.partition("=")
    if not parses(f"{key}=1"):
        return (
            f"{override}: this is not how an override is written; '{key}' is no key (letters, digits, dots, and + ++ ~"
            f" in front){hint}"
        )
    text = "" if hint else _as_text(override)
    return (
        f"{override}: a bracket is not closed, or not opened; for example 'loss=[ce,kd]', in quotes where it holds"
        f" brackets or spaces{hint}{text and f'; where the value is a text, type {shlex.quote(text)}'}"
    )


def _as_text(override: str) -> str:
    """An override with its value in quotes; empty where the key chooses config files, whose names are never quoted."""
    key, _, value = override.partition("=")
    return "" if key.lstrip("+").partition("@")[0] in groups() else f"{key}={quoted(value)}"


def _joined(override: str, typed: Sequence[str]) -> str | None:
    """An override joined with the next or the previous argument, where Hydra can parse only that."""
    typed = list(typed)
    if override not in typed:
        return None
    place = typed.index(override)
    if "=" not in override:
        before = typed[place - 1] if place else ""
        return (
            f"{before} {override}"
            if "=" in before and not before.startswith("-") and parses(f"{before} {override}")
            else None
        )
    return next((text for end in range(place + 2, len(typed) + 1) if parses(text := " ".join(typed[place:end]))), None)


def check_readable(key: str, given: Sequence[str]) -> None:
    """Raises InputError where Hydra cannot parse overrides in a list; the message has the whole list to type."""
    for text in given:
        if not parses(text):
            cures = [cured(one) or (_as_text(one) if "=" in one else "") for one in given]
            if not all(cures) or not all(map(parses, cures)):
                raise InputError(f"{key}: {not_read(text)}")
            raise InputError(
                f"{key}: {text}: this value cannot be parsed; type {shlex.quote(f'{key}={written(cures)}')}"
            )
