"""Docstrings for the site: reStructuredText's roles, formulas and doctests become Markdown.

Formulas become MathML, which browsers draw by themselves: no script, and nothing is fetched.
"""

from __future__ import annotations

import re
import textwrap

import griffe
from latex2mathml.converter import convert

ROLE = re.compile(r":(?:py:)?(?:func|class|meth|mod|data|attr|exc|obj):`~?([^`]+)`")


def formula(tex: str, display: str) -> str:
    """TeX as MathML."""
    return convert(" ".join(tex.split()), display=display).replace("\n", "")


def displayed(match: re.Match) -> str:
    """A ``.. math::`` directive, with what is indented below it."""
    indent, body = match[1], textwrap.dedent(match[2])
    return f"{indent}<div>{formula(body, 'block')}</div>\n\n"


def markdown(text: str) -> str:
    """A docstring's text as Markdown.

    >>> markdown("See :func:`kdlab.functional.hint`.")
    'See `hint`.'
    """
    text = re.sub(
        r"^([ \t]*)\.\. math:: ?((?:[^\n]*\n?)(?:(?:\1[ \t]+[^\n]*|[ \t]*)(?:\n|$))*)", displayed, text, flags=re.M
    )
    text = re.sub(r":math:`([^`]+)`", lambda match: formula(match[1], "inline"), text)
    text = ROLE.sub(lambda match: f"`{match[1].rpartition('.')[2]}`", text)
    lines, inside = [], False
    for line in text.split("\n"):
        if line.lstrip().startswith(">>>") and not inside:
            indent, inside = line[: len(line) - len(line.lstrip())], True
            lines += ["", f"{indent}```pycon"]
        elif inside and not line.strip():
            lines.append(f"{indent}```")
            inside = False
        lines.append(line)
    return "\n".join([*lines, f"{indent}```"] if inside else lines)


class Markdown(griffe.Extension):
    """Turns every docstring of kdlab."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
