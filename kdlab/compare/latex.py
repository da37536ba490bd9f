r"""A table for a paper: LaTeX with booktabs, ready to be pasted, and at most as wide as the line."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from .collect import NETWORK
from .columns import Column, several
from .rows import Row
from .statistics import BETTER, LEVEL, WORSE

#: columns that fit into a paper, in addition to the table's further metrics; the others are only in the CSV
KEPT = ("label", "last", "n", "difference", "p")
#: a box that is no wider than the line, by graphicx alone
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_SHOWN = {BETTER: "textbf", WORSE: "textit"}
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "[": "{[}",
    "·": r"\textperiodcentered{}",
    "…": r"\dots{}",
}


def latex(table: Any) -> str:
    """The table as a LaTeX ``table`` that needs booktabs and graphicx; its notes follow as comments."""
    columns = [column for column in table.columns() if column.key in (*KEPT, *table.further)]
    caption = " ".join(_caption(table, columns))
    body = []
    for before, row in pairwise([None, *table.rows]):
        if before and row.role not in (before.role, NETWORK) and before.role != NETWORK:
            body.append(r"    \midrule")
        body.append(f"    {' & '.join(_cell(column, row) for column in columns)} " + r"\\")
    return "\n".join(
        [
            r"% in the preamble: \usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"  \centering\small",
            f"  \\caption{{{escaped(caption)}}}",
            r"  \label{tab:comparison}",
            f"  {_FITTED}",
            f"  \\begin{{tabular}}{{{''.join('l' if column.words else 'r' for column in columns)}}}",
            r"    \toprule",
            f"    {' & '.join(escaped(column.head) for column in columns)} " + r"\\",
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"  \end{tabular}}",
            r"\end{table}",
            *(f"% {line}" for line in table.notes),
            "",
        ]
    )


def _caption(table: Any, columns: list[Column]) -> list[str]:
    metric = table.metric[:1].upper() + table.metric[1:]
    lines = [
        f"{metric} on test: mean ± half width of the 95 % interval (Student's t) over n seeds.",
        *table.explanation(columns)[1:],
    ]
    if table.comparisons:
        lines.append(
            f"Bold: better, italic: worse, p < {LEVEL:g} in a two-sided paired t test after Holm's correction over "
            f"{several(table.comparisons, 'comparison')}; p is corrected."
        )
    return lines


def _cell(column: Column, row: Row) -> str:
    text = column.cell(row)
    if column.key == "last" and row.difference and row.difference.verdict in _SHOWN:
        return f"\\{_SHOWN[row.difference.verdict]}{{{escaped(text)}}}"
    if column.key == "label" and row.role == NETWORK:
        return r"\quad " + escaped(text.removeprefix("· "))
    if not column.words and text[:1] in ("-", "+"):
        return f"${text[0]}$" + escaped(text[1:])  # a hyphen is no minus
    return escaped(" ".join(text.split()))


def escaped(text: str) -> str:
    r"""Text escaped for LaTeX.

    >>> print(escaped("ce+kd  loss_a=50% ± {1}"))
    ce+kd  loss\_a=50\% $\pm$ \{1\}
    """
    return "".join(_ESCAPES.get(character, character) for character in text)
