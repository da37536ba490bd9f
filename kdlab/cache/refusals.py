"""The errors of the cache."""

from __future__ import annotations

from kdlab.errors import InputError


class Misfit(InputError):
    """The cache holds the answers of another teacher, or to other inputs."""


class CannotKeep(InputError):
    """The answers cannot be kept: they or their inputs are not fixed, there is no room for them, or the codec cannot
    hold them."""


class Damaged(InputError):
    """A file of the cache is not what was written."""
