"""Store: the folder of a cache. Every file in it is whole or absent, and says what it holds.

| file | holds |
| --- | --- |
| ``manifest.json`` | the contents (:class:`kdlab.cache.Contents`), facts of the teacher, and a checksum of both |
| ``SLOT.NAME.DIGEST.safetensors`` | what the codec stores of one slot, ``index`` ``(N,)`` of the samples, ascending |

A slot is a part of what the teacher is asked: ``train`` (fixed), ``train-e3-v0`` (epoch 3, view 0), ``validation``,
``test``. NAME is ``logits`` or a tap. DIGEST is the beginning of the file's own SHA-256: a file of which one byte has
changed does not fit its name.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from filelock import FileLock

from kdlab.runs.files import content_hash, write_atomically, write_json
from kdlab.runs.record import now

from .codec import CODECS, Exact
from .contents import Contents, json_digest
from .refusals import CannotKeep, Damaged, Misfit

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CannotKeep", "Damaged", "Misfit", "Store", "readable_size"]

FORMAT = 1
FOLDER = ".cache"  # below paths.runs
_DIGITS = 32  # hexadecimal, of the digest in a file's name


class Store:
    """The folder of one cache.

    Args:
        path: the folder; it may not exist yet.
        contents: what it must hold; None for a cache that is only looked at.

    Raises:
        Misfit: its manifest is of other contents.
        Damaged: its manifest cannot be read.
    """

    def __init__(self, path: Path, contents: Contents | None = None):
        self.path, self.contents = path, contents
        self.codec = Exact() if contents is None else CODECS[contents.dtype]
        #: what is measured of each slot, by name: tokens, bytes and error of a language model's answers
        self.measured: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}
        self._verified: set[tuple[str, int, int]] = set()
        if (path / "manifest.json").exists():
            self._check_manifest()

    @classmethod
    def of(cls, runs: str | Path, name: str, contents: Contents) -> Store:
        """The store below ``paths.runs`` for these contents. ``name`` makes its folder readable."""
        readable = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:40].strip("-")
        return cls(Path(runs) / FOLDER / f"{readable}-{contents.key}", contents)

    # -- the manifest --------------------------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any]:
        """The manifest, its checksum compared. Raises Damaged."""
        path = self.path / "manifest.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            checksum = found.pop("checksum")
            if found["format"] != FORMAT:
                raise ValueError(f"it has format {found['format']!r}, this kdlab reads {FORMAT}")
            if checksum != json_digest(found):
                raise ValueError("its checksum is not that of its content")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{path} cannot be read ({error}); {self._removal}") from error
        return found

    def _check_manifest(self) -> None:
        found = self.manifest()
        if self.contents is not None and (wrong := self.contents.differences(found["contents"])):
            told = "; ".join(f"{name}: {_short(found['contents'].get(name))}" for name in wrong)
            raise Misfit(
                f"{self.path} holds answers of other contents than this run's: it differs in {', '.join(wrong)} "
                f"(there {told}); {self._removal}"
            )
        self.facts, self.measured = found["facts"], found.get("measured", {})

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write the manifest, if there is none yet. ``facts`` of the teacher spare later runs its network."""
        self.facts = dict(facts)
        if self.contents is None:
            return
        with self.lock("manifest"):
            if not (self.path / "manifest.json").exists():
                content = {"format": FORMAT, "contents": self.contents.as_record(), "facts": self.facts, "made": now()}
                self._write_manifest(content)

    def measure(self, slot: str, values: Mapping[str, Any]) -> None:
        """Add what was measured of a slot to the manifest."""
        with self.lock("manifest"):
            found = self.manifest()
            self.measured = {**found.get("measured", {}), slot: dict(values)}
            self._write_manifest({**found, "measured": self.measured})

    def _write_manifest(self, content: dict[str, Any]) -> None:
        content = json.loads(json.dumps(content))
        write_json(self.path / "manifest.json", {**content, "checksum": json_digest(content)})

    @property
    def _removal(self) -> str:
        return f"remove it with: kdlab cache prune {self.path} --yes"

    # -- the slots -----------------------------------------------------------------------------------------------------

    def files(self, slot: str = "*") -> dict[tuple[str, str], Path]:
        """(slot, name) -> file, of all that are there, or of one slot."""
        found: dict[tuple[str, str], Path] = {}
        for path in sorted(self.path.glob(f"{slot}.*.safetensors")):
            place, _, rest = path.name.removesuffix(".safetensors").partition(".")
            name, _, digest = rest.rpartition(".")
            if name and len(digest) == _DIGITS:
                found.setdefault((place, unquote(name)), path)
        return found

    def missing(self, slot: str, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that the slot does not hold."""
        found = self.files(slot)
        return [name for name in names if (slot, name) not in found]

    def write(self, slot: str, name: str, index: Tensor, values: Tensor) -> Path:
        """Write one file, atomically.

        Args:
            index: the numbers of the samples ``(N,)``, ascending.
            values: ``(N, ...)``.

        Raises:
            OSError: it cannot be written, for example because the disk is full. Nothing is left of it.
            CannotKeep: the codec cannot hold the values. Nothing was written.
        """
        return self.write_stored(slot, name, index, self.codec.encode(values))

    def write_stored(self, slot: str, name: str, index: Tensor, values: Mapping[str, Tensor]) -> Path:
        """As :meth:`write`, of what a codec has made.

        Args:
            values: by name; ``index`` is no such name.
        """
        from safetensors.torch import save_file

        stored = {"index": index.long(), **values}
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f"{slot}.{uuid.uuid4().hex}.part"
        told = {"slot": slot, "name": name, "key": "" if self.contents is None else self.contents.key}
        try:
            try:
                save_file({key: one.contiguous() for key, one in stored.items()}, temporary, told)
                digest = content_hash(temporary)[:_DIGITS]
            except Exception as error:  # safetensors has an error class of its own for a full disk
                raise error if isinstance(error, OSError) else OSError(None, str(error), str(temporary)) from error
            final = self.path / f"{slot}.{quote(name, safe='')}.{digest}.safetensors"
            write_atomically(final, lambda part: os.replace(temporary, part))
        finally:
            temporary.unlink(missing_ok=True)
        return final

    def read(self, slot: str, name: str) -> tuple[Tensor, Tensor] | None:
        """``(index, values)`` of one file; None where there is none.

        Raises:
            Damaged: the file does not fit its name.
        """
        found = self.stored(slot, name)
        return None if found is None else (found[0], self.codec.decode(found[1]))

    def stored(self, slot: str, name: str) -> tuple[Tensor, dict[str, Tensor]] | None:
        """The index of one file, and what its codec stores; memory-mapped. None where there is none.

        Raises:
            Damaged: the file does not fit its name.
        """
        path = self.files(slot).get((slot, name))
        if path is None:
            return None
        try:
            self.verify(path)
            return self._content(path, slot, name)
        except FileNotFoundError:  # removed since
            return None

    def _content(self, path: Path, slot: str, name: str) -> tuple[Tensor, dict[str, Tensor]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                if (told.get("slot"), told.get("name")) != (slot, name) or (
                    self.contents is not None and told.get("key") != self.contents.key
                ):
                    raise Damaged(
                        f"{path} holds {told.get('name')} of {told.get('slot')} of the cache {told.get('key')}; "
                        f"{self._removal}"
                    )
                found = {key: file.get_tensor(key) for key in file.keys()}
                return found.pop("index"), found
        except SafetensorError as error:
            raise Damaged(f"{path} cannot be read ({error}); {self._removal}") from error

    def verify(self, path: Path) -> None:
        """Compare a file with the digest in its name; once for each process and version of the file.

        Raises:
            Damaged: they differ.
            FileNotFoundError: it is not there any more.
        """
        state = path.stat()
        seen = (path.name, state.st_size, state.st_mtime_ns)
        if seen in self._verified:
            return
        if content_hash(path)[:_DIGITS] != path.name.removesuffix(".safetensors").rpartition(".")[2]:
            raise Damaged(f"{path} is damaged: its content does not fit its name; {self._removal}")
        self._verified.add(seen)

    def lock(self, slot: str) -> FileLock:
        """The lock of the process that writes a slot. The system frees the lock of a killed process."""
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / f"{slot}.lock")

    def remove_leftovers(self, slot: str) -> None:
        """Remove what a killed process has left of a slot. Only who holds the slot's lock may do so."""
        for path in self.path.glob(f"{slot}.*.part"):
            path.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.path.iterdir() if path.is_file())


def readable_size(number: float, digits: int = 1) -> str:
    """Bytes for people.

    >>> readable_size(2_500_000), readable_size(3e10, digits=2)
    ('2.5 MB', '30.00 GB')
    """
    return f"{number / 1e9:.{digits}f} GB" if number >= 1e9 else f"{number / 1e6:.{digits}f} MB"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
