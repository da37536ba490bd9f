"""What a file without weights is instead, recognised by its first bytes."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

_AGAIN = "fetch it again"
# first bytes -> kind of file, and advice
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "it is a pointer of Git LFS, not the weights themselves; in its repository: git lfs pull",
    ),
    (b"\x1f\x8b", "it is compressed by gzip; unpack it first"),
    (b"BZh", "it is compressed by bzip2; unpack it first"),
    (b"\xfd7zXZ\x00", "it is compressed by xz; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed by zstd; unpack it first"),
    (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file (Keras, TensorFlow), which holds no weights of PyTorch"),
    (b"\x93NUMPY", "it is an array of NumPy (.npy), not named weights"),
    (b"GGUF", "it is a GGUF file, which holds no weights of PyTorch"),
)
_PICKLE = b"\x80"
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch.save wrote first before torch 1.6


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a header, then a JSON object.

    Args:
        path: of an existing file; its name is ignored.
    """
    with open(path, "rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def no_weights(path: Path) -> str | None:
    """Why a file cannot hold weights, for a message; None where its first bytes are those of a file of weights."""
    with open(path, "rb") as file:
        head = file.read(1024)
    if not head:
        return f"it is empty (0 bytes); {_AGAIN}"
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return what
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"<" and any(tag in start.lower() for tag in (b"<html", b"<!doctype", b"<?xml", b"<head")):
        return (
            "it is a web page (HTML) that was saved in place of the file; fetch the file itself (the link of its "
            "download)"
        )
    if head[257:262] == b"ustar":
        return "it is a tar archive; unpack it first (tar -xf)"
    if head.startswith(b"PK"):
        return _zip(path)
    if head.startswith(_PICKLE) and head[2 : 2 + len(_LEGACY)] != _LEGACY:
        return (
            "it is a pickle that torch.save did not write, and reading it could run code; where you trust it, load "
            "it and write its state dict by torch.save"
        )
    if _is_text(head):
        return f"it is a text that begins {head[:40].decode('utf-8', 'replace').splitlines()[0]!r}"
    return None


def _zip(path: Path) -> str | None:
    """``torch.save`` writes a zip that holds a ``data.pkl``."""
    if not zipfile.is_zipfile(path):
        return f"it is cut short (its end is missing); {_AGAIN}"
    names = zipfile.ZipFile(path).namelist()
    inside = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in inside:
        target = path.with_name(f"{path.stem}_weights.pth")
        code = f'import torch; torch.save(torch.jit.load("{path}", map_location="cpu").state_dict(), "{target}")'
        return (
            "it is a network of TorchScript, which is code. Save its weights alone:\n"
            f"  python -c {shlex.quote(code)}\nand name {target}"
        )
    if "data.pkl" in inside:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "it is a file of NumPy's arrays (.npz: JAX, Flax), not of PyTorch"
    return f"it is a zip archive of {', '.join(names[:3]) or 'nothing'}; unpack it first and name the file in it"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8") if len(head) < 1024 else head[:-4].decode("utf-8", "ignore")
        return all(letter.isprintable() or letter in "\r\n\t" for letter in text) and len(text) > len(head) // 2
    except UnicodeDecodeError:
        return False
