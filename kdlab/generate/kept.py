"""The answers on disk: every one in a file that only grows, those that are used in another, and a manifest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab import __version__
from kdlab.errors import InputError
from kdlab.runs.files import write_atomically, write_json

from .prompts import Prompts

RUNNING, FINISHED = "running", "finished"


@dataclass(frozen=True)
class Answer:
    """An answer of a teacher.

    Args:
        index: number of the prompt, from 0.
        sample: number of the answer to it, from 0.
        text: of the answer.
        tokens: how many the teacher generated, with the one that ended it; None where a server does not say.
        finish: ``stop`` if the teacher ended it, ``length`` if it was cut.
    """

    index: int
    sample: int
    text: str
    tokens: int | None
    finish: str


@dataclass(frozen=True)
class Filter:
    """Which answers are left out.

    Args:
        empty: those without a letter.
        truncated: those that were cut.
        duplicates: those that an earlier sample gave to the same prompt.
        characters: longer ones; None: none is too long.
    """

    empty: bool = True
    truncated: bool = True
    duplicates: bool = True
    characters: int | None = None

    def __post_init__(self) -> None:
        for name in ("empty", "truncated", "duplicates"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"filter.{name} must be true or false, got {getattr(self, name)!r}")
        number = self.characters
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise InputError(f"filter.characters must be a whole number of at least 1, or null, got {number!r}")

    def reason(self, answer: Answer, seen: set[tuple[str, str]], prompt: str) -> str | None:
        """Why an answer is left out; None if it is not. ``seen`` holds those before it, and gets this one."""
        if self.empty and not answer.text.strip():
            return "empty"
        if self.truncated and answer.finish == "length":
            return "truncated"
        if self.characters is not None and len(answer.text) > self.characters:
            return "too long"
        if self.duplicates and (prompt, answer.text) in seen:
            return "duplicate"
        seen.add((prompt, answer.text))
        return None


class Kept:
    """The files of one set of answers::

        answers.jsonl            those that are used, in the order of the prompts; written at the end
        answers.all.jsonl        every answer, in the order in which they came
        answers.manifest.json    what they depend on, and how many there are

    Args:
        out: the first of these files.
        identity: what the answers depend on.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]):
        if out.suffix != ".jsonl":
            raise InputError(f"out={out}: the answers are lines of JSON; give a name that ends in .jsonl")
        if out.is_dir():
            raise InputError(f"out={out}: this is a folder; name a file in it: out={out}/answers.jsonl")
        self.out, self.identity = out, dict(identity)
        self.every = out.with_suffix(".all.jsonl")
        self.manifest_file = out.with_suffix(".manifest.json")

    def check_prompts(self, prompts: str) -> None:
        """Raises InputError where the prompts are one of these files, which would be written over."""
        for file in (self.out, self.every, self.manifest_file):
            if file.exists() and file.samefile(prompts):
                raise InputError(
                    f"out={self.out}: {file} is the file of prompts (data.prompts), and would be written over; choose "
                    "another out=…"
                )

    # -- what is there -------------------------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any] | None:
        """The manifest; None where there is none.

        Raises:
            InputError: it cannot be read.
        """
        try:
            found = json.loads(self.manifest_file.read_text(encoding="utf-8"))
            if not isinstance(found, dict) or not isinstance(found.get("identity"), dict):
                raise ValueError("no manifest")
            return found
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InputError(
                f"{self.manifest_file} is damaged; fresh=true throws the answers away and starts over, another out=… "
                "keeps them"
            ) from error

    def check(self, fresh: bool) -> bool:
        """Whether there are answers already that were generated in this way.

        Raises:
            InputError: there are answers of another teacher, other sampling or other prompts.
        """
        if fresh:
            return False
        before = self.manifest()
        if before is None and (there := [file for file in (self.out, self.every) if file.exists()]):
            raise InputError(
                f"out={self.out}: {there[0]} exists, and no manifest says what it holds; choose another out=…, or "
                "fresh=true writes over it"
            )
        if before is not None and (changed := _changed(before["identity"], self.identity)):
            raise InputError(
                f"out={self.out} holds answers that were generated with {'; '.join(changed)}. Choose another out=…, or "
                "fresh=true throws them away"
            )
        return before is not None

    def begin(self, fresh: bool, facts: Mapping[str, Any]) -> None:
        """Make the files ready to be written. With ``fresh``, what is there is thrown away."""
        if not self.check(fresh):
            for file in (self.out, self.every):
                file.unlink(missing_ok=True)
            self.write_manifest(RUNNING, facts, {})

    def read(self) -> dict[tuple[int, int], Answer]:
        """Every answer that is there. A last line that was not written to its end is cut off.

        Raises:
            InputError: a line before it is damaged.
        """
        try:
            content = self.every.read_bytes()
        except FileNotFoundError:
            return {}
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self.every, whole)
        found = {}
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                one = Answer(**json.loads(line))
                found[one.index, one.sample] = one
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{self.every}, line {number}: this is no answer that kdlab wrote; remove the line, or start over "
                    "with fresh=true"
                ) from error
        return found

    # -- writing -------------------------------------------------------------------------------------------------------

    def add(self, answers: Iterable[Answer]) -> None:
        """Write answers at the end of the file of every answer. If that fails, what was written of them is cut off.

        Raises:
            OSError: they cannot be written; the error names the file.
        """
        lines = "".join(json.dumps(vars(one), ensure_ascii=False) + "\n" for one in answers).encode()
        with open(self.every, "ab", buffering=0) as file:
            begin = file.seek(0, os.SEEK_END)
            try:
                while lines:
                    lines = lines[file.write(lines) :]
            except OSError as error:
                os.truncate(self.every, begin)
                raise OSError(error.errno, error.strerror, str(self.every)) from error

    def finish(
        self,
        prompts: Prompts,
        answers: Mapping[tuple[int, int], Answer],
        rule: Filter,
        samples: int,
        chat: bool,
        facts: Mapping[str, Any],
    ) -> dict[str, int]:
        """Write the answers that are used, and the manifest; returns how many there are, by reason.

        Raises:
            InputError: all answers are left out.
        """
        counts = {"prompts": len(prompts), "prompts left out": len(prompts.left_out), "answers": 0, "kept": 0}
        counts.update(dict.fromkeys(("empty", "truncated", "too long", "duplicate"), 0))
        seen: set[tuple[str, str]] = set()
        lines = []
        for row in prompts.rows:
            for sample in range(samples):
                answer = answers[row, sample]
                counts["answers"] += 1
                columns = prompts.row(row, chat)
                reason = rule.reason(answer, seen, json.dumps(columns.get("prompt", columns.get("messages"))))
                if reason is not None:
                    counts[reason] += 1
                    continue
                counts["kept"] += 1
                if "messages" in columns:
                    said = {"role": "assistant", "content": answer.text}
                    columns = {**columns, "messages": [*columns["messages"], said]}
                whole = {"index": row, "sample": sample, **columns, "answer": answer.text}
                lines.append(
                    json.dumps({**whole, "tokens": answer.tokens, "finish": answer.finish}, ensure_ascii=False)
                )
        if not lines:
            reasons = ", ".join(f"{counts[name]} {name}" for name in ("empty", "truncated", "too long", "duplicate"))
            cure = (
                "; sampling.max_tokens cuts them, and filter.truncated=false keeps them" if counts["truncated"] else ""
            )
            raise InputError(
                f"filter: no answer is left of {counts['answers']} ({reasons}){cure}. All of them are in {self.every}"
            )
        content = "\n".join(lines) + "\n"
        write_atomically(self.out, lambda file: file.write_text(content, encoding="utf-8", newline="\n"))
        self.write_manifest(FINISHED, {**facts, "filter": vars(rule), "samples": samples}, counts)
        return counts

    def write_manifest(self, status: str, facts: Mapping[str, Any], counts: Mapping[str, int]) -> None:
        """Write the manifest."""
        write_json(
            self.manifest_file,
            {
                "status": status,
                "kdlab": __version__,
                "files": {"answers": self.out.name, "all answers": self.every.name},
                **facts,
                "counts": dict(counts),
                "identity": self.identity,
            },
        )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, in words."""
    return [
        f"{key}={_short(before.get(key))} (now {_short(now.get(key))})"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]


def _short(value: object) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text[:12] if len(text) == 64 else text
