"""``kdlab methods [NAME]``: lists kdlab's methods, or describes one."""

from __future__ import annotations

from kdlab.errors import InputError, did_you_mean
from kdlab.methods.printed import Printed, stored

from .parser import Parser


def run(arguments: list[str]) -> int:
    """Run ``kdlab methods``: list the methods, or describe one.

    Returns:
        0.

    Raises:
        InputError: there is no such method, or the options contradict each other.
    """
    printed = stored() or _rendered()
    parser = Parser(prog="kdlab methods", description=__doc__)
    parser.add_argument("name", nargs="?", help="one method: formula, parameters, an example")
    parser.add_argument("--family", choices=printed.families, help="only these")
    parser.add_argument("--for", dest="task", choices=printed.kinds, help="only methods for this kind of network")
    options = parser.parse_args(arguments)
    if options.name:
        if options.family or options.task:
            raise InputError(f"methods: --family and --for choose from the list, and '{options.name}' is one method")
        print(_page(printed, options.name), end="")
        return 0
    entries = [
        entry
        for entry in printed.entries
        if options.family in (None, entry.family) and (options.task is None or options.task in entry.serves)
    ]
    family, pieces = None, False
    for entry in entries:
        if entry.family != family:
            family = entry.family
            print(f"\n{family.upper()}" if family != "strategy" else "\nSTRATEGY (who learns from whom: strategy=NAME)")
        if family == "strategy" and entry.kind == "piece" and not pieces:
            pieces = True
            print("\nPIECES (functions that no strategy composes at present, no loss terms)")
        print(entry.line, end="")
    print(f"\n{len(entries)} methods; {printed.ending}")
    return 0


def _page(printed: Printed, name: str) -> str:
    pages = {**printed.pieces, **{entry.name: entry.page for entry in printed.entries}}
    if name not in pages:
        raise InputError(f"there is no method '{name}'{did_you_mean(name, pages)} (kdlab methods lists them)")
    return pages[name]


def _rendered() -> Printed:
    """The index from the code, where that has changed since the printed one was made."""
    from kdlab.methods.pages import render

    return render()
