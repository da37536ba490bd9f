"""Contents: everything that decides a teacher's answers, and so the key of a cache."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

from kdlab.config.signature import locate


@dataclass(frozen=True)
class Contents:
    """What decides the answers, as plain values. Two runs with equal contents share a cache.

    Args:
        teacher: the identity of the teacher: the hash of its run, the content of its file, or its description.
        weights: a digest of its weights.
        data: the identity of the data set, without what changes only the batches.
        task: the identity of the task, which calls the network.
        normalisation: of the inputs that the data give, as text.
        mode: ``fixed``: each training sample has one answer. ``views``: it has one for each epoch and view.
        augment_seed: of the augmentation; None with ``fixed``.
        rows: of a training batch in one process. The last digits of an answer depend on it.
        device: ``cpu`` or ``cuda``; with what else the last digits depend on: the number of threads on a CPU, and
            whether the weights have the channels last.
        torch: its version.
        inputs: a digest of what the data give (:func:`kdlab.cache.inputs.inputs_digest`).
        code: a digest of the files with the user's own classes (:func:`code_digest`).
        dtype: the name of the codec (:mod:`kdlab.cache.codec`); it counts where it is not ``float32``.
        codec: of a language model's answers, the ``name`` and the options of :mod:`kdlab.cache.rows`; None for others.
    """

    teacher: dict
    weights: str
    data: dict
    task: dict
    normalisation: str
    mode: str
    augment_seed: int | None
    rows: int
    device: str
    torch: str
    inputs: str = ""
    code: str = ""
    dtype: str = "float32"
    codec: dict | None = None

    @property
    def key(self) -> str:
        """16 hexadecimal digits."""
        return json_digest(self.as_record())[:16]

    def as_record(self) -> dict[str, Any]:
        """The contents as the manifest of a cache keeps them."""
        record = asdict(self)
        if self.dtype == "float32":  # the caches from before there were others keep their key
            del record["dtype"]
        if self.codec is None:
            del record["codec"]
        return record

    def differences(self, record: dict) -> list[str]:
        """The names of the fields in which the manifest of a cache differs."""
        mine = json.loads(json.dumps(self.as_record()))
        return [one.name for one in fields(self) if record.get(one.name) != mine.get(one.name)]


def json_digest(value: dict) -> str:
    """SHA-256 of plain values, whatever the order of their keys.

    >>> json_digest({"a": 1, "b": 2}) == json_digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of the names, types and values of a network's parameters and buffers.

    >>> from torch import nn
    >>> one = nn.Linear(2, 2)
    >>> weights_digest(one) == weights_digest(one), weights_digest(one) == weights_digest(nn.Linear(2, 2))
    (True, False)
    """
    import torch

    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def code_digest(*nodes: Any) -> str:
    """SHA-256 of the source files that define the classes and functions which are not kdlab's, in nodes of a config;
    empty where there are none. A file that such a file imports does not count.

    >>> code_digest({"_target_": "kdlab.data.Digits", "augment": None})
    ''
    >>> len(code_digest({"members": [{"_target_": "json.JSONDecoder"}]}))
    64
    """
    digest, own = hashlib.sha256(), sorted(set(_own_targets(list(nodes))))
    for target in own:
        digest.update(f"{target} ".encode())
        try:
            file = inspect.getsourcefile(inspect.unwrap(locate(target)))
            digest.update(Path(file).read_bytes() if file else b"")
        except (LookupError, TypeError, OSError):  # no Python file defines it
            pass
    return digest.hexdigest() if own else ""


def _own_targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        target = node.get("_target_")
        if isinstance(target, str) and not target.startswith("kdlab."):
            yield target
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _own_targets(value)
