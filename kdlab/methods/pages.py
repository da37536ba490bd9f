"""What ``kdlab methods`` prints of a method: its lines in the list, and its page."""

from __future__ import annotations

import contextlib
import inspect
import io
import textwrap
from collections.abc import Callable
from typing import Any

import yaml

from kdlab.config.presets import Preset
from kdlab.functional.sources import COMMITS, FAMILIES, KINDS, SWITCHES, TOLERANCE

from .docstrings import prose
from .entries import index, pieces_of_strategies
from .printed import Listed, Printed

WIDTH = 140


def render() -> Printed:
    """All that ``kdlab methods`` prints, from the code."""
    entries = index()
    return Printed(
        families=list(FAMILIES),
        kinds=list(KINDS),
        ending=(
            f"verified: value and gradients of the named code, run in float64, agree to {TOLERANCE:g} relative "
            "(tests/golden). kdlab methods NAME describes one."
        ),
        entries=[
            Listed(
                name,
                entry.method.family,
                entry.kind,
                [kind for kind in KINDS if _serves(entry, kind)],
                _printed(line, entry),
                _printed(show, entry),
            )
            for name, entry in entries.items()
        ],
        pieces={name: _printed(show, entry) for name, entry in pieces_of_strategies().items() if name not in entries},
    )


def _printed(show_one: Callable[[Any], None], entry: Any) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        show_one(entry)
    return output.getvalue()


def line(entry: Any) -> None:
    """Print a method in a few lines."""
    print(f"  {entry.name:<24} {entry.brief}")
    details = [f"needs {', '.join(entry.needs)}", f"for {', '.join(entry.method.serves)}"]
    if entry.kind == "strategy":
        details.append("losses " + _settings(entry.losses))
    if entry.defaults:
        details.append(_settings(entry.defaults))
    if entry.claims:
        details.append(
            "verified: "
            + ", ".join(
                f"{repository}@{COMMITS[repository][:7]}{_other_defaults(entry, cases)}"
                for repository, cases in entry.claims.items()
            )
        )
    elif entry.kind != "strategy":
        details.append("verified: by its reference in tests/contract only")
    for detail in details:
        print(
            textwrap.fill(
                detail,
                WIDTH,
                initial_indent=" " * 27,
                subsequent_indent=" " * 29,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def _serves(entry: Any, kind: str) -> bool:
    """Whether a method is for a kind of network. Losses on features, and strategies that accept any outputs, are for
    classifiers and for tasks without classes."""
    if kind in entry.method.serves:
        return True
    wanted = {"multi-label": "labels", "regression": "values"}.get(kind)
    answers = entry.strategy.answers_may_be if entry.kind == "strategy" else entry.loss.answers if entry.loss else ()
    own = entry.kind == "strategy" or entry.method.family in ("features", "relations")
    return own and wanted in answers


def show(entry: Any) -> None:
    """Print everything that is known about a method."""
    print(f"{entry.name} ({entry.method.family}; for {', '.join(entry.method.serves)})")
    print(*filter(None, (entry.method.paper, getattr(entry, "description", ""))), sep="\n", end="\n\n")
    print(textwrap.indent(prose(inspect.getdoc(entry.documented) or ""), "  "))
    if entry.notes:
        print("\n" + textwrap.indent(entry.notes, "  "))
    print(f"\n{entry.where}")
    print(textwrap.fill(f"needs: {', '.join(entry.needs)}", WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    if entry.kind == "strategy":
        print(f"losses by default (weights): {_settings(entry.losses)}")
        for function in entry.composes:
            first = " ".join(prose(inspect.getdoc(function) or "").partition("\n\n")[0].split())
            print(
                textwrap.fill(f"composes kdlab.functional.{function.__name__}: {first}", WIDTH, subsequent_indent="  ")
            )
    if entry.parameters:
        descriptions = entry.described()
        print("\nparameters (defaults):")
        for name, value in entry.parameters.items():
            text = prose(descriptions.get(name, ""))
            print(
                textwrap.fill(
                    f"{name} = {_value(value)}" + (f"   {text}" if text else ""),
                    WIDTH,
                    initial_indent="  ",
                    subsequent_indent="      ",
                )
            )
    if entry.kind == "loss" and entry.with_ce is not None:
        print(f"\nce: loss.ce.weight={_value(entry.with_ce)} with this loss, unless a number is given for it")
    if entry.kind == "loss" and entry.presets:
        print("\npresets (preset=NAME):")
        for preset in entry.presets:
            preset_lines(preset)
    if entry.claims:
        print(f"\nverified against, value and gradients, in float64, to {TOLERANCE:g} relative:")
        for repository, cases in entry.claims.items():
            print(f"  {repository} at {COMMITS[repository]}")
            for case in cases.split():
                print(f"    {case}" + (f", with {SWITCHES[case]}" if case in SWITCHES else ""))
    else:
        print(
            "\nnot compared with code of the authors"
            + ("" if entry.kind == "strategy" else "; held to its own slow reference in tests/contract")
        )
    if entry.example:
        print(f"\n{entry.example}")


def preset_lines(preset: Preset) -> None:
    """The lines of a preset: its name, description and numbers, and their sources."""
    numbers = {f"{term}.{key}": value for term, node in preset.terms.items() for key, value in node.items()}
    print(f"  {preset.name}")
    for text in (preset.title, _settings(numbers)):
        print(
            textwrap.fill(
                text,
                WIDTH,
                initial_indent="      ",
                subsequent_indent="      ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    for source in preset.sources:
        print(f"      {source}")


def _other_defaults(entry: Any, cases: str) -> str:
    """The listed switches that must be set to agree with the code of a repository."""
    first, *further = (SWITCHES.get(case, "").split() for case in cases.split())
    others = [
        switch
        for switch in first
        if switch.partition("=")[0] in entry.parameters and all(switch in other for other in further)
    ]
    return f" with {' '.join(others)}" if others else ""


def _settings(values: dict) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in values.items())


def _value(value: object) -> str:
    """A value as in a YAML file."""
    return (
        value
        if isinstance(value, str)
        else yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()
    )
