"""The index of methods, made from the code: each file of ``conf/loss/``, the loss it names, and the pure function behind it.

Pieces that strategies compose have no loss of their own; they are the functions of :mod:`kdlab.functional` that carry a
:class:`kdlab.functional.sources.Method` and that no loss names.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kdlab import functional
from kdlab.config.build import build
from kdlab.config.compose import compose
from kdlab.config.paths import conf_dir
from kdlab.errors import InputError, did_you_mean
from kdlab.functional.sources import FAMILIES, Method
from kdlab.losses import Loss
from kdlab.schedules import at


@dataclass(frozen=True)
class Entry:
    """One method.

    Args:
        name: what stands in ``loss=[…]``; of a piece, the function's name.
        function: its mathematics.
        loss: the loss with its defaults; None for a piece.
        defaults: its YAML file without ``_target_``: the term's weight, and the loss's arguments.
    """

    name: str
    function: Callable
    loss: Loss | None
    defaults: dict[str, Any]

    @property
    def method(self) -> Method:
        return self.function.method

    @property
    def needs(self) -> list[str]:
        """What a step must give it."""
        if self.loss is None:
            return ["a strategy that calls it"]
        taps = [f"{role}'s {', '.join(names)}" for role, names in (("student", self.loss.student_taps), ("teacher", self.loss.teacher_taps)) if names]
        wanted = {"teacher": self.loss.needs_teacher, "target": self.loss.needs_target, "index": self.loss.needs_index,
                  "two views": self.loss.views == 2, "a student as wide as its teacher": self.loss.needs_equal_widths}
        return [*(name for name, asked in wanted.items() if asked), *(taps or ["logits"])]

    @property
    def parameters(self) -> dict[str, Any]:
        """Names and defaults: those of the YAML file; of a piece, those of the function."""
        if self.loss is not None:
            return self.defaults
        given = inspect.signature(self.function).parameters.values()
        return {parameter.name: parameter.default for parameter in given if parameter.default is not parameter.empty}

    @property
    def notes(self) -> str:
        """What a user of the loss must know beside the formula; empty for most."""
        text = prose(inspect.cleandoc(type(self.loss).__doc__ or "")) if self.loss is not None else ""
        return text if "\n" in text else ""

    @property
    def example(self) -> str:
        """A line that trains with it; empty for a piece, and where it reads modules that only the user's own networks have."""
        if self.loss is None or "classifier" not in self.method.serves:
            return ""
        numbers = [f" loss.{self.name}.{key}={value}" for key, value in self.defaults.items() if isinstance(value, float)]
        number = numbers[min(1, len(numbers) - 1)] if numbers else ""       # a parameter of its own rather than the weight
        wide = "student=cnn_wide" if self.loss.needs_equal_widths else "student=cnn"
        networks = f""" {wide} 'teacher.overrides=["student=cnn_wide"]'""" if self.loss.student_taps else ""
        losses = self.name if self.name == "ce" else f"ce,{self.name}"
        return f"kdlab train 'loss=[{losses}]'{number}{networks}"

    def described(self) -> dict[str, str]:
        """What the docstrings say of each parameter."""
        told: dict[str, str] = {}
        for source in (self.function, *reversed(type(self.loss).__mro__)):
            told |= parameters(inspect.cleandoc(source.__doc__ or "")) if getattr(source, "__module__", "").startswith("kdlab") else {}
        return told


def index() -> dict[str, Entry]:
    """Every method by its name, in the order of the families, then of the years.

    Raises:
        InputError: a loss of ``conf/loss/`` names no pure function, or one without its paper.
    """
    found, used = {}, set()
    paths = sorted((conf_dir() / "loss").glob("*.yaml"))
    config = compose([f"loss=[{','.join(path.stem for path in paths)}]"])
    for path in paths:
        entry = _of_file(path, config["loss"][path.stem])
        found[entry.name] = entry
        used.add(entry.function)
    for name in functional.__all__:
        function = getattr(functional, name)
        if hasattr(function, "method") and function not in used:
            found[name] = Entry(name, function, None, {})
    return dict(sorted(found.items(), key=lambda item: (FAMILIES.index(item[1].method.family), item[1].method.paper.year, item[0])))


def lookup(name: str) -> Entry:
    """The method of that name. Raises InputError, with the nearest names, where there is none."""
    entries = index()
    if name not in entries:
        raise InputError(f"there is no method '{name}'{did_you_mean(name, entries)} (kdlab methods lists them)")
    return entries[name]


def _of_file(path: Path, arguments: dict[str, Any]) -> Entry:
    # as plain values: what is tied to another key (the weight of ce) is shown as it is written
    [(name, written)] = OmegaConf.to_container(OmegaConf.load(path), resolve=False).items()
    loss = build(at({key: value for key, value in arguments.items() if key != "weight"}, 0.0), f"loss.{name}")
    function = getattr(loss, "function", None)
    if not hasattr(function, "method"):
        raise InputError(f"loss.{name}: {type(loss).__name__} names no pure function that knows its paper (kdlab.functional.sources.method)")
    return Entry(name, function, loss, {key: value for key, value in written.items() if key != "_target_"})


def parameters(docstring: str) -> dict[str, str]:
    """The ``Args:`` of a docstring: name -> text.

    >>> parameters("What.\\n\\nArgs:\\n    alpha, beta: weights,\\n        positive.\\n    mask: rows.\\n\\nReturns:\\n    x: no")
    {'alpha': 'weights, positive.', 'beta': 'weights, positive.', 'mask': 'rows.'}
    """
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n(?=[ \t]))*)", docstring, re.MULTILINE)
    told: dict[str, str] = {}
    for block in re.split(r"\n(?=    \S)", section[1].rstrip()) if section else []:
        names, colon, text = block.strip().partition(":")
        if colon and re.fullmatch(r"[\w, ]+", names):
            told |= dict.fromkeys((name.strip() for name in names.split(",")), " ".join(text.split()))
    return told


def prose(docstring: str) -> str:
    """A docstring for a terminal: without examples and without the markup of roles."""
    text = re.split(r"\n(?:Args|Returns|Raises):\n|\n\s*>>> ", docstring)[0]
    text = re.sub(r":(?:func|class|mod|meth):`~?([^`]*)`", r"\1", text)
    text = re.sub(r":math:`([^`]*)`", lambda match: _readable(match[1]), text)
    text = re.sub(r"^[ \t]*\.\. math::((?:.*\n?)(?:[ \t]+.*\n?)*)", lambda match: f"    {_readable(match[1].strip())}\n", text, flags=re.MULTILINE)
    return text.replace("``", "").strip()


_SIGNS = {
    "sum": "Σ", "log": "log", "exp": "exp", "cdot": "·", "to": "→", "|": "‖", "lVert": "‖", "rVert": "‖", "Vert": "‖", "cos": "cos",
    "le": "≤", "ge": "≥", "ne": "≠", "in": "∈", "infty": "∞", "times": "×", "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ",
    "epsilon": "ε", "eta": "η", "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ",
    "phi": "φ", "psi": "ψ", "Phi": "Φ", "Delta": "Δ", "top": "ᵀ", "odot": "⊙", "sqrt": "√", "langle": "⟨", "rangle": "⟩", "ell": "ℓ",
    "min": "min", "max": "max", "ldots": "…", "dots": "…", "quad": " ", "mid": "|", "sim": "~",
}


def _bracketed(part: str) -> str:
    """In brackets where it is more than one sign."""
    return part if re.fullmatch(r"\\?\w+", part) else f"({part})"


def _readable(formula: str) -> str:
    """The LaTeX of a formula with its commonest commands written out; the rest stays as it is."""
    formula = re.sub(r"\\(?:mathrm|operatorname|text|mathbf|mathcal)\{([^{}]*)\}", r"\1", formula)
    formula = re.sub(r"\\[td]?frac\s*(\w)\s*(\w)", r"\1/\2", formula)
    formula = re.sub(r"\\[td]?frac\{([^{}]*)\}\{([^{}]*)\}", lambda match: "/".join(_bracketed(part) for part in match.groups()), formula)
    formula = re.sub(r"\\[,;:]", " ", re.sub(r"\\!|\\(?:Bigg|bigg|Big|big|left|right)[lr]?(?![a-z])", "", formula))
    formula = re.sub(r"\\([A-Za-z]+|\|)", lambda match: _SIGNS.get(match[1], match[0]), formula)
    return re.sub(r"(?<=\S)  +", " ", formula)
