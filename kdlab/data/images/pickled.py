"""Pickles of plain containers and numpy arrays, read without running anything that a file names.

A pickle may call any function by its name. Here only names in a short list are allowed, and these are inert: an array's
pickle becomes a record of its fields, and the array is then built from the record's bytes. Nothing else is called.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, cast

import numpy as np


def load(path: Path) -> Any:
    """What a pickle holds: containers, numbers, text, bytes; arrays of numbers as numpy arrays. Text of Python 2 comes
    as bytes.

    Raises:
        ValueError: the file is damaged, or holds anything else.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            return _plain(_Restricted(file, encoding="bytes").load())
        except (OSError, ValueError):
            raise
        except Exception as error:  # a reader of bytes that mean nothing may fail in any way
            raise ValueError(f"it is damaged: {type(error).__name__}: {error}") from error


class _Dtype:
    """An array's type in a pickle: a name such as ``u1``, and the byte order."""

    def __init__(self, name, *rest):
        self.name, self.order = name.decode() if isinstance(name, bytes) else str(name), "|"

    def __setstate__(self, state):
        order = state[1]
        self.order = order.decode() if isinstance(order, bytes) else str(order)

    def numpy(self) -> np.dtype:
        found = np.dtype(self.name)
        if found.kind not in "buif":
            raise ValueError(f"it holds an array of '{self.name}', which is no array of numbers")
        return found.newbyteorder(cast(Any, self.order))  # numpy raises ValueError for what is no order


class _Array:
    """An array in a pickle: shape, type, order of its axes, bytes."""

    def __init__(self, *ignored):
        self.state = None

    def __setstate__(self, state):
        self.state = state[-4:]  # the oldest pickles have no version in front

    def numpy(self) -> np.ndarray:
        if self.state is None:
            raise ValueError("it holds an array without content")
        shape, dtype, columns_first, content = self.state
        if not isinstance(dtype, _Dtype) or not isinstance(content, (bytes, bytearray)):
            raise ValueError("it holds an array that is no array of numbers")
        dtype = dtype.numpy()
        if math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f"it holds an array of shape {tuple(shape)}, but {len(content)} bytes of it")
        return np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")


def _from_buffer(content, dtype, shape, order):
    array = _Array()
    array.state = (shape, dtype, order in ("F", b"F"), bytes(content))
    return array


def _encoded(text="", encoding="latin1"):
    """How Python 3 writes bytes in the older protocols; with no arguments those that are empty."""
    if encoding not in ("latin1", b"latin1"):
        raise ValueError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _encoded,
    **{(module, "_reconstruct"): _Array for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{(module, "_frombuffer"): _from_buffer for module in ("numpy.core.numeric", "numpy._core.numeric")},
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ValueError(
                f"it asks for '{module}.{name}', and nothing but arrays and plain containers is read"
            ) from None


def _plain(value):
    """``value`` with records replaced by their arrays."""
    if isinstance(value, _Array):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value
