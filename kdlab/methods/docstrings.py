"""Docstrings for a terminal: the description of each argument, and the prose with readable formulas."""

from __future__ import annotations

import inspect
import re


def parameters(docstring: str) -> dict[str, str]:
    """The ``Args:`` of a docstring: name -> text.

    >>> text = "What.\\n\\nArgs:\\n    alpha, beta: weights,\\n        positive.\\n    mask: rows."
    >>> parameters(text + "\\n\\nReturns:\\n    x: no")
    {'alpha': 'weights, positive.', 'beta': 'weights, positive.', 'mask': 'rows.'}
    """
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n(?=[ \t]))*)", docstring, re.MULTILINE)
    descriptions: dict[str, str] = {}
    for block in re.split(r"\n(?=    \S)", section[1].rstrip()) if section else []:
        names, colon, text = block.strip().partition(":")
        if colon and re.fullmatch(r"[\w, ]+", names):
            descriptions |= dict.fromkeys((name.strip() for name in names.split(",")), " ".join(text.split()))
    return descriptions


def told_by(*sources: object) -> dict[str, str]:
    """The description of each argument in the docstrings of kdlab's functions and classes. The last docstring that has
    one counts."""
    descriptions: dict[str, str] = {}
    for source in sources:
        descriptions |= (
            parameters(inspect.cleandoc(source.__doc__ or ""))
            if getattr(source, "__module__", "").startswith("kdlab")
            else {}
        )
    return descriptions


def prose(docstring: str) -> str:
    """A docstring for a terminal: without examples and without the markup of roles."""
    text = re.split(r"\n(?:Args|Returns|Raises):\n|\n\s*>>> ", docstring)[0]
    text = re.sub(r":(?:func|class|mod|meth):`~?([^`]*)`", r"\1", text)
    text = re.sub(r":math:`([^`]*)`", lambda match: _readable(match[1]), text)
    text = re.sub(
        r"^[ \t]*\.\. math::((?:.*\n?)(?:[ \t]+.*\n?)*)",
        lambda match: f"    {_readable(match[1].strip())}\n",
        text,
        flags=re.MULTILINE,
    )
    return text.replace("``", "").strip()


_SIGNS = {
    "sum": "Σ",
    "log": "log",
    "exp": "exp",
    "cdot": "·",
    "to": "→",
    "|": "‖",
    "lVert": "‖",
    "rVert": "‖",
    "Vert": "‖",
    "cos": "cos",
    "le": "≤",
    "ge": "≥",
    "ne": "≠",
    "in": "∈",
    "infty": "∞",
    "times": "×",
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "eta": "η",
    "theta": "θ",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "pi": "π",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "phi": "φ",
    "psi": "ψ",
    "Phi": "Φ",
    "Delta": "Δ",
    "top": "ᵀ",
    "odot": "⊙",
    "sqrt": "√",
    "langle": "⟨",
    "rangle": "⟩",
    "ell": "ℓ",
    "min": "min",
    "max": "max",
    "ldots": "…",
    "dots": "…",
    "quad": " ",
    "mid": "|",
    "sim": "~",
}


def _bracketed(part: str) -> str:
    """In brackets where it is more than one sign."""
    return part if re.fullmatch(r"\\?\w+", part) else f"({part})"


def _readable(formula: str) -> str:
    """The LaTeX of a formula with its commonest commands written out; the rest stays as it is."""
    formula = re.sub(r"\\(?:mathrm|operatorname|text|mathbf|mathcal)\{([^{}]*)\}", r"\1", formula)
    formula = re.sub(r"\\[td]?frac\s*(\w)\s*(\w)", r"\1/\2", formula)
    formula = re.sub(
        r"\\[td]?frac\{([^{}]*)\}\{([^{}]*)\}",
        lambda match: "/".join(_bracketed(part) for part in match.groups()),
        formula,
    )
    formula = re.sub(r"\\[,;:]", " ", re.sub(r"\\!|\\(?:Bigg|bigg|Big|big|left|right)[lr]?(?![a-z])", "", formula))
    formula = re.sub(r"\\([A-Za-z]+|\|)", lambda match: _SIGNS.get(match[1], match[0]), formula)
    return re.sub(r"(?<=\S)  +", " ", formula)
