"""Checkpoints of kdlab's runs: written whole or not at all; and the networks in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import nn

from kdlab.config.build import build
from kdlab.errors import InputError
from kdlab.weights.fit import misfits
from kdlab.weights.reading import read_checkpoint

from .files import write_atomically

STUDENT = "student"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically. Lightning's own class writes to the system's temporary folder and moves the file,
    which is not atomic across file systems."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write the checkpoint to a temporary file in the same folder, then rename it.

        Raises:
            OSError: it cannot be written; the error names ``path``.
        """
        write_atomically(Path(path), lambda temporary: _save(checkpoint, temporary))


def _save(content: dict[str, Any], path: Path) -> None:
    """``torch.save`` with the system's error. For a full disk torch reports only an unexpected position. Its error has
    the system's as context, but only where torch writes to a Python file object."""
    with open(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            cause = error.__context__
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__context__
            if cause is not None:
                raise OSError(cause.errno, cause.strerror, str(path)) from error
            raise


@contextlib.contextmanager
def naming(key: str) -> Iterator[None]:
    """Errors inside get the config's key that caused them as a prefix."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {error}") from error


def student_weights(content: dict, path: Path, module: str = STUDENT) -> dict[str, torch.Tensor]:
    """The student's weights in a checkpoint of a run, or all weights of a plain state dict.
    :mod:`kdlab.weights.foreign` reads the files of other projects.

    Args:
        module: the name of the network's module within the strategy, if another network than the student is kept.
    """
    state = content.get("state_dict", content.get("model", content)) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InputError(f"{path} holds no state dict (names of parameters with tensors)")
    kept = {name.removeprefix(f"{module}."): value for name, value in state.items() if name.startswith(f"{module}.")}
    state = kept or state
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path} holds no state dict (names of parameters with tensors)")
    return state


def student_network(config: dict) -> nn.Module:
    """The student's architecture, with the weights of its constructor."""
    return build(config["student"], "student")


def peer_nodes(config: dict) -> dict[str, dict]:
    """The config nodes of the student's peers, by name. Where ``strategy.peers`` is a number, that many copies of the
    student's node."""
    peers = (config.get("strategy") or {}).get("peers")
    if isinstance(peers, int):
        return {f"peer{number}": config["student"] for number in range(2, peers + 2)}
    return dict(peers or {})


def network_node(config: dict, name: str = STUDENT) -> dict:
    """The config's node of a network that a run may keep: a peer's, or the student's (which its averages share)."""
    node = peer_nodes(config).get(name, config["student"])
    return {key: value for key, value in node.items() if key != "optimizer"}  # options of a peer's training


def expected_node(config: dict) -> dict:
    """The config's node of the network that a run will keep. Before training it is unknown which network validation
    will choose; then it is the student's."""
    return network_node(config, (config.get("strategy") or {}).get("keep") or STUDENT)


def load_student(network: nn.Module, path: Path, content: dict | None = None, module: str = STUDENT) -> None:
    """Load the student's weights of a checkpoint into a network.

    Args:
        module: as for :func:`student_weights`.

    Raises:
        InputError: the checkpoint is of another architecture; the first differences are named.
    """
    weights = student_weights(read_checkpoint(path) if content is None else content, path, module)
    wrong = misfits(weights, network.state_dict())
    if wrong:
        raise InputError(f"{path} does not fit {type(network).__name__}: {wrong}")
    network.load_state_dict(weights)
