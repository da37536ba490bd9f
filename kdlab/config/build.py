"""From a config node to the object it describes: the only module that calls Hydra's ``instantiate``."""

from __future__ import annotations

import functools
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate

from kdlab.errors import InputError, KdlabError, WeightsMissing, ended_early

from .keys import own_keys


def recipe(node: dict, key: str) -> functools.partial:
    """A plain partial of the node's target with the node's arguments, to be called later with more arguments.

    Nested nodes are built now. Hydra's own partials cannot be pickled, so they are unwrapped here and never kept.
    """
    arguments = {name: value for name, value in node.items() if name not in own_keys(key)}
    try:
        made = instantiate({**arguments, "_partial_": True}, _convert_="all")
    except HydraException as error:
        raise _explained(key, error.__cause__ or error) from error
    return functools.partial(made.func, *made.args, **made.keywords)


def build(node: dict, key: str, **given: Any) -> Any:
    """The object that a node describes.

    Args:
        node: a plain dict with ``_target_``; kdlab's own keys in it are left out.
        key: the node's dotted key, for messages and to know kdlab's own keys.
        given: arguments that come from kdlab and not from the config.

    Raises:
        InputError: the target refused its arguments; the message names the key.
    """
    made = recipe(node, key)
    try:
        return made(**given)
    except KdlabError:
        raise
    except Exception as error:  # any exception of a constructor is taken as bad input of the user, and names the key
        raise _explained(key, error) from error


def _explained(key: str, error: BaseException) -> InputError:
    if isinstance(error, KdlabError):
        return InputError(str(error))
    if isinstance(error, WeightsMissing):
        return InputError(error.of_key(key))
    kind = "" if isinstance(error, (ValueError, InputError)) else f"{type(error).__name__}: "
    return InputError(f"{key}: {ended_early(error) or f'{kind}{error}'}")
