"""The arguments that a ``_target_`` accepts, from the signature of its dotted name."""

from __future__ import annotations

import inspect
import pkgutil
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from kdlab.errors import did_you_mean

_SIMPLE = (bool, int, float, str)


#: optional packages that have the name of their module
PACKAGES = ("timm", "torchvision", "tensorboard")


@dataclass
class Signature:
    """The arguments of a target.

    ``accepted`` maps a name to its annotation, or to None. ``open`` is true where any further name is accepted.
    """

    accepted: dict[str, object] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    defaults: dict[str, object] = field(default_factory=dict)
    open: bool = False


def locate(target: str) -> Callable[..., Any]:
    """The class or function of a dotted name.

    Raises:
        LookupError: there is none; the message is meant for the user.
    """
    if not isinstance(target, str) or not target:
        raise LookupError(f"_target_ must be the dotted name of a class or function, got {target!r}")
    try:
        found = pkgutil.resolve_name(target)
    except ModuleNotFoundError as error:
        missing = error.name or target
        package = missing.split(".")[0]
        cure = f"; install it with: pip install {package}" if package in PACKAGES else ""
        raise LookupError(f"_target_ '{target}': there is no module '{missing}'{cure}") from error
    except (AttributeError, ValueError) as error:
        parent, _, name = target.rpartition(".")
        try:
            hint = did_you_mean(name, dir(pkgutil.resolve_name(parent)))
        except (ImportError, AttributeError, ValueError):
            hint = ""
        raise LookupError(f"_target_ '{target}' does not exist: '{parent}' has no '{name}'{hint}") from error
    except (Exception, SystemExit) as error:  # the user's own module may fail in any way while it is imported
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise LookupError(f"_target_ '{target}' cannot be imported: {what}") from error
    if not callable(found):
        raise LookupError(f"_target_ '{target}' is a {type(found).__name__}, not a class or function")
    return found


@cache
def signature(target: str) -> Signature:
    """The signature of a target. ``**options`` of a class are followed to its bases, so that their names are known
    too."""
    found = locate(target)
    result = Signature()
    if not inspect.isclass(found):
        result.open = not _add(result, found, skip_self=False)
        return result
    bases: tuple[Any, ...] = found.__mro__[:-1]
    for cls in bases:
        if "__init__" in vars(cls):
            if _add(result, cls.__init__, skip_self=True):
                break
    else:
        result.open = not any("__init__" in vars(cls) for cls in bases) and found.__init__ is not object.__init__
    return result


def _add(result: Signature, function: Callable[..., Any], skip_self: bool) -> bool:
    """Add a function's parameters; whether that was all (it has no ``**options``)."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip_self:]
    except (TypeError, ValueError):  # built-in without a signature
        return False
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # annotations of other libraries may name what is not imported
        hints = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in result.accepted:
            continue
        result.accepted[parameter.name] = hints.get(parameter.name)
        if parameter.default is parameter.empty:
            result.required.add(parameter.name)
        else:
            result.defaults[parameter.name] = parameter.default
    return not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def fits(value: object, annotation: object) -> bool:
    """Whether a config value fits an annotation. Only simple types are checked; any value fits other annotations.

    >>> fits("abc", float), fits(3, float), fits(True, int), fits(None, int | None), fits("x", dict)
    (False, True, False, True, True)
    """
    if typing.get_origin(annotation) is typing.Literal:
        return value in typing.get_args(annotation)
    options = (
        typing.get_args(annotation)
        if typing.get_origin(annotation) in (typing.Union, types.UnionType)
        else (annotation,)
    )
    if not all(option in (*_SIMPLE, type(None)) for option in options):
        return True
    if value is None:
        return type(None) in options
    if isinstance(value, bool):
        return bool in options
    if isinstance(value, int):
        return int in options or float in options
    if isinstance(value, float):
        return float in options or (int in options and value.is_integer())
    if isinstance(value, str):
        return str in options
    return False


def type_name(annotation: Any) -> str:
    """An annotation in words."""
    if typing.get_origin(annotation) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(annotation)))}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    options = typing.get_args(annotation) or (annotation,)
    return " or ".join(names.get(option, str(option)) for option in options)
