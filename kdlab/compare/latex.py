r"""A table for a paper: LaTeX with booktabs, ready to be pasted."""

from __future__ import annotations

from itertools import pairwise

from .collect import NETWORK
from .columns import Column

#: columns that a paper has no room for
LEFT_OUT = ("role", "weights", "effect", "detectable", "flops", "seconds")
_ESCAPES = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
            "^": r"\textasciicircum{}", "±": r"$\pm$", "<": "$<$", ">": "$>$", "|": r"\textbar{}", "·": r"\textperiodcentered{}", "…": r"\dots{}"}


def latex(table) -> str:
    columns = [column for column in table.columns() if column.key not in LEFT_OUT]
    metric = table.metric[:1].upper() + table.metric[1:]
    caption = [f"{metric} on test: mean ± half width of the 95 % interval (Student's t) over n seeds.", *table.explanation(columns)[1:]]
    body = []
    for before, row in pairwise([None, *table.rows]):
        if before and row.role not in (before.role, NETWORK) and before.role != NETWORK:
            body.append(r"    \midrule")
        body.append(f"    {' & '.join(_cell(column, row) for column in columns)} " + r"\\")
    return "\n".join([
        r"% in the preamble: \usepackage{booktabs}", r"\begin{table}", r"  \centering", f"  \\caption{{{escaped(' '.join(caption))}}}",
        r"  \label{tab:comparison}", f"  \\begin{{tabular}}{{{''.join('l' if column.words else 'r' for column in columns)}}}", r"    \toprule",
        f"    {' & '.join(escaped(column.head) for column in columns)} " + r"\\", r"    \midrule", *body, r"    \bottomrule", r"  \end{tabular}",
        r"\end{table}", ""])


def _cell(column: Column, row) -> str:
    text = column.cell(row)
    if column.key == "label" and row.role == NETWORK:
        return r"\quad " + escaped(text.removeprefix("· "))
    if not column.words and text[:1] in ("-", "+"):
        return f"${text[0]}$" + escaped(text[1:])       # a hyphen is no minus
    return escaped(" ".join(text.split()))


def escaped(text: str) -> str:
    r"""Text that LaTeX prints as it stands.

    >>> print(escaped("ce+kd  loss_a=50% ± {1}"))
    ce+kd  loss\_a=50\% $\pm$ \{1\}
    """
    return "".join(_ESCAPES.get(character, character) for character in text)
