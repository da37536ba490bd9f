"""Files of weights, read without running code: tensors and plain containers. Every other object becomes an inert
stand-in.

Checkpoints of other projects hold more than weights: the arguments of the training (``argparse.Namespace``, omegaconf,
EasyDict), scalars of NumPy, paths, dates. None of this is needed, and pickle would import and call what the file names.
So torch's restricted reader (``weights_only=True``) gets an empty class of kdlab's under each of those names. Nothing
that a file names is imported or called.
"""

from __future__ import annotations

import pickletools
import shlex
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from kdlab.errors import InputError

from .file_kinds import is_safetensors, no_weights

# a file that refers to one of these is refused, although nothing would be called
_CODE = frozenset(
    {
        "os",
        "posix",
        "nt",
        "sys",
        "subprocess",
        "shutil",
        "importlib",
        "runpy",
        "pickle",
        "_pickle",
        "ctypes",
        "socket",
        "pty",
        "code",
        "webbrowser",
        "builtins.eval",
        "builtins.exec",
        "builtins.compile",
        "builtins.open",
        "builtins.__import__",
        "builtins.breakpoint",
        "builtins.input",
        "torch.load",
        "torch.hub.load",
    }
)


class StandIn:
    """Replaces an object whose class is not read: it accepts any arguments and does nothing."""

    kind: type = object  # the container type that the reader expects in its place, if it is filled like a container

    def __new__(cls, *arguments, **options):
        """A stand-in, or an empty container of the class's ``kind``."""
        return super().__new__(cls) if cls.kind is object else cls.kind()

    def __init__(self, *arguments, **options):
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        """Nothing: readers before torch 2.7 fill any object like a dict, later ones ask for a ``kind``."""


def read_checkpoint(path: Path) -> Any:
    """What a file of weights holds: tensors, plain containers, and a :class:`StandIn` for everything else. Its first
    bytes, not its name, decide whether safetensors or torch reads it.

    Raises:
        InputError: the file is missing, is no file of weights, is damaged, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}" + (", but a folder of that name" if path.is_dir() else ""))
    try:
        if is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        reason = no_weights(path)
        if reason is None:
            return _load(path)
    except InputError:
        raise
    except Exception as error:  # a reader may raise any error for damaged bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]
        raise InputError(
            f"{path} cannot be read as a checkpoint: {reason}; it is damaged or cut short, fetch it again"
        ) from error
    raise InputError(f"{path} cannot be read as a checkpoint: {reason}")


def whole_network(path: Path, what: str, keys: Sequence[str] = ()) -> str:
    """The message for a file that holds a whole network, with the command that saves only its weights.

    Args:
        what: its class, or what is known of it.
        keys: of the file, below which the network lies.
    """
    target, place = path.with_name(f"{path.stem}_weights.pth"), "".join(f'["{key}"]' for key in keys)
    read = f'torch.load("{path}", map_location="cpu", weights_only=False){place}'
    code = f'import torch; torch.save({read}.state_dict(), "{target}")'
    return (
        f"{path} holds a whole network ({what}), and to read that is to run its code. If you trust the file, save "
        f"its weights alone, where its class can be imported:\n  python -c {shlex.quote(code)}\nand name {target}"
    )


def _read(path: Path) -> Any:
    with open(path, "rb") as file:  # given a path, torch would decide by its ending
        return torch.load(file, map_location="cpu", weights_only=True)


def _load(path: Path) -> Any:
    try:
        return _read(path)
    except Exception:
        found = sorted(set(_globals(path)))
        if not found:
            raise
    wanted = [name for name in found if name in _CODE or name.partition(".")[0] in _CODE]
    if wanted:
        raise InputError(
            f"{path} is refused: to read it as it was written would call {', '.join(wanted)}; weights need "
            "no such thing"
        )
    known = {name for name in found if name.startswith(("torch.", "collections.OrderedDict", "_codecs."))}
    stand_ins = {name: _stand_in(name) for name in found if name not in known}
    while True:
        try:
            with torch.serialization.safe_globals([(cls, name) for name, cls in stand_ins.items()]):
                return _read(path)
        except Exception as error:
            if "persistent_load" in str(error):  # torch's old format also stores the source of a module
                raise InputError(whole_network(path, "in the format before torch 1.6")) from error
            if not _fill(stand_ins, str(error)) and not _allow(stand_ins, found, str(error)):
                raise


def _stand_in(name: str) -> type[StandIn]:
    module, _, attribute = name.rpartition(".")
    return type(attribute, (StandIn,), {"__module__": module, "__qualname__": attribute})


def _fill(stand_ins: dict[str, type[StandIn]], message: str) -> bool:
    """Turn one stand-in into the container that the reader missed; returns whether there was one."""
    kind = (
        OrderedDict
        if "SETITEM" in message
        else list
        if "append to lists" in message or "extend lists" in message
        else None
    )
    for cls in stand_ins.values():
        if kind is not None and cls.kind is object and repr(cls) in message:
            cls.kind = kind
            return True
    return False


def _allow(stand_ins: dict[str, type[StandIn]], found: list[str], message: str) -> bool:
    """Add a stand-in for a torch class that torch's reader refuses (an optimiser, a module); returns whether there was
    one."""
    for name in found:
        if name not in stand_ins and f"GLOBAL {name} " in message:
            stand_ins[name] = _stand_in(name)
            return True
    return False


def _globals(path: Path) -> Iterator[str]:
    """The dotted names that a file of ``torch.save`` refers to, by reading its opcodes alone."""
    if zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        pickles = [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
        for content in pickles:
            yield from _names(pickletools.genops(content))
        return
    with open(path, "rb") as file:
        for _ in range(4):  # before torch 1.6: a number, the version, facts of the system, then the object
            yield from _names(pickletools.genops(file))


def _names(operations: Iterable) -> Iterator[str]:
    strings: list[str] = []
    for operation, argument, _ in operations:
        if operation.name == "GLOBAL":
            module, name = argument.split(" ", 1)
            if (module, name) in NAME_MAPPING:  # names of Python 2, which pickle's protocol 2 still writes
                module, name = NAME_MAPPING[module, name]
            yield f"{IMPORT_MAPPING.get(module, module)}.{name}"
        elif operation.name == "STACK_GLOBAL" and len(strings) > 1:
            yield f"{strings[-2]}.{strings[-1]}"
        elif isinstance(argument, str):
            strings.append(argument)
