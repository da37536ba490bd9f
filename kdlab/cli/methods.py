"""``kdlab methods [NAME]``: every method that kdlab has, and what one of them computes."""

from __future__ import annotations

import inspect
import textwrap

import yaml

from kdlab.errors import InputError
from kdlab.functional.sources import COMMITS, FAMILIES, TASKS, TOLERANCE

from .parser import Parser

WIDTH = 140


def run(arguments: list[str]) -> int:
    parser = Parser(prog="kdlab methods", description=__doc__)
    parser.add_argument("name", nargs="?", help="one method: formula, parameters, an example")
    parser.add_argument("--family", choices=FAMILIES, help="only these")
    parser.add_argument("--for", dest="task", choices=TASKS, help="only those that serve this kind of network")
    options = parser.parse_args(arguments)
    from kdlab import methods

    if options.name:
        if options.family or options.task:
            raise InputError(f"methods: --family and --for choose from the list, and '{options.name}' is one method")
        show(methods.lookup(options.name))
        return 0
    entries = [entry for entry in methods.index().values()
               if options.family in (None, entry.method.family) and (options.task is None or options.task in entry.method.serves)]
    family = None
    for entry in entries:
        if entry.method.family != family:
            family = entry.method.family
            print(f"\n{family.upper()}" if family != "strategy" else "\nSTRATEGY (pieces that strategies compose, no loss terms)")
        line(entry)
    print(f"\n{len(entries)} methods; verified: value and gradients of the named code, run in float64, agree to {TOLERANCE:g} relative "
          "(tests/golden). kdlab methods NAME says more.")
    return 0


def line(entry) -> None:
    """A method in a few lines."""
    paper, method = entry.method.paper, entry.method
    print(f"  {entry.name:<24} {paper}")
    details = [f"needs {', '.join(entry.needs)}", f"for {', '.join(method.serves)}"]
    if entry.defaults:
        details.append(" ".join(f"{name}={_value(value)}" for name, value in entry.defaults.items()))
    details.append("verified: " + ", ".join(f"{repository}@{COMMITS[repository][:7]}" for repository in method.verified) if method.verified
                   else "verified: by its reference in tests/contract only")
    for detail in details:
        print(textwrap.fill(detail, WIDTH, initial_indent=" " * 27, subsequent_indent=" " * 29, break_long_words=False, break_on_hyphens=False))


def show(entry) -> None:
    """Everything that is known of a method."""
    from kdlab.methods import prose

    print(f"{entry.name} ({entry.method.family}; for {', '.join(entry.method.serves)})\n{entry.method.paper}\n")
    print(textwrap.indent(prose(inspect.getdoc(entry.function)), "  "))
    where = f"function: kdlab.functional.{entry.function.__name__}"
    if entry.loss is not None:
        where += f"   loss: kdlab.losses.{type(entry.loss).__name__}   file: conf/loss/{entry.name}.yaml"
    if entry.notes:
        print("\n" + textwrap.indent(entry.notes, "  "))
    print(f"\n{where}")
    print(textwrap.fill(f"needs: {', '.join(entry.needs)}", WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    if entry.parameters:
        told = {"weight": "the term's weight in the total", **entry.described()}
        print("\nparameters (defaults):")
        for name, value in entry.parameters.items():
            text = prose(told.get(name, ""))
            print(textwrap.fill(f"{name} = {_value(value)}" + (f"   {text}" if text else ""), WIDTH, initial_indent="  ", subsequent_indent="      "))
    if entry.method.verified:
        print(f"\nverified against, value and gradients, in float64, to {TOLERANCE:g} relative:")
        for repository, cases in entry.method.verified.items():
            print(f"  {repository} at {COMMITS[repository]} ({', '.join(cases.split())})")
    else:
        print("\nnot compared with code of the authors; held to its own slow reference in tests/contract")
    if entry.example:
        print(f"\n{entry.example}")


def _value(value) -> str:
    """As it would stand in a YAML file."""
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()
