"""Lists of choices, ``loss=[ce,kd]``: Hydra does not record their elements. A file that is named twice is used once,
and files that exclude each other are merged, both silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser


def repeated_choices(typed: Sequence[str], choices: Mapping[str, object], folders: Sequence[Path]) -> list[str]:
    """A problem for each list of choices that repeats a choice, or holds several where only one can be built.

    Args:
        typed: the overrides of the command line.
        choices: group -> the file that was chosen, whose own defaults may hold such lists.
        folders: the config folders, the first of which has precedence.
    """
    problems = []
    for text, group, value in _typed(typed, folders):
        problems += _problem(text, text.partition("=")[0], value, "'{}=[{}]'")
        problems += _merged(text, group, value, folders)
    for file, key, value in _in_files(choices, folders):
        problems += _problem(f"{file}: '- {key}: [{', '.join(map(str, value))}]'", key, value, "'- {}: [{}]'")
    return list(dict.fromkeys(problems))


def listed_choices(
    group: str, typed: Sequence[str], choices: Mapping[str, object], folders: Sequence[Path]
) -> list[str]:
    """The choices of a group from a list: the last one typed, or else that of a file; empty if there is none.

    Args:
        typed, choices, folders: see :func:`repeated_choices`.
    """
    found = [value for _, key, value in _typed(typed, folders) if key == group]
    found = found[-1:] or [
        value for _, key, value in _in_files(choices, folders) if key.split()[-1].lstrip("/") == group
    ]
    return [str(one) for one in found[0]] if found else []


def _typed(typed: Sequence[str], folders: Sequence[Path]) -> Iterator[tuple[str, str, list]]:
    """The lists of choices among overrides: override, group, list."""
    for text, override in zip(typed, OverridesParser.create().parse_overrides(list(typed))):
        value = None if override.is_sweep_override() or override.is_delete() else override.value()
        if isinstance(value, list) and any((folder / override.key_or_group).is_dir() for folder in folders):
            yield text, override.key_or_group, value


def _in_files(choices: Mapping[str, object], folders: Sequence[Path]) -> Iterator[tuple[Path, str, list]]:
    """The lists of choices in the files that were chosen: file, key, list."""
    for group, choice in choices.items():
        if isinstance(choice, str):
            yield from _lists(f"{group.partition('@')[0]}/{choice}", folders, set())


def _problem(place: str, key: str, value: list, form: str) -> list[str]:
    twice = [str(one) for one in value if value.count(one) > 1]
    if not twice:
        return []
    counted = f". A term counts double with loss.{twice[0]}.weight=2" if key.endswith("loss") else ""
    return [
        f"{place}: '{twice[0]}' is chosen {value.count(twice[0])} times, and counts once; write "
        f"{form.format(key, ','.join(map(str, dict.fromkeys(value))))}{counted}"
    ]


def _merged(typed: str, group: str, value: list, folders: Sequence[Path]) -> list[str]:
    """A problem where several files of a list have a ``_target_``: Hydra would build the last one with arguments of the
    others."""
    targets = list(dict.fromkeys(str(one) for one in value if _has_target(group, str(one), folders)))
    if len(targets) < 2:
        return []
    return [f"{typed}: one {group} is chosen, not {len(targets)}; write {group}={targets[-1]}"]


def _has_target(group: str, name: str, folders: Sequence[Path]) -> bool:
    found = _content(f"{group}/{name}", folders)[1]
    return "_target_" in found or isinstance(own := found.get(group), dict) and "_target_" in own


def _content(name: str, folders: Sequence[Path]) -> tuple[Path | None, dict]:
    """A config file from the first folder that has it, and its content; None and empty content if no folder has it."""
    file = next((path for path in (folder / f"{name}.yaml" for folder in folders) if path.is_file()), None)
    if file is None:
        return None, {}
    content = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return file, content if isinstance(content, dict) else {}


def _lists(name: str, folders: Sequence[Path], seen: set[str]) -> Iterator[tuple[Path, str, list]]:
    """The lists of choices in the defaults of a config file and of the files that it includes: file, key, list."""
    file, content = _content(name, folders)
    if file is None or name in seen:
        return
    seen.add(name)
    defaults = content.get("defaults")
    for entry in defaults if isinstance(defaults, list) else ():
        if isinstance(entry, str) and entry != "_self_":
            inner = entry.partition("@")[0]
            yield from _lists(
                inner[1:] if inner.startswith("/") else f"{name.rpartition('/')[0]}/{inner}", folders, seen
            )
        for key, value in entry.items() if isinstance(entry, dict) else ():
            if isinstance(value, list):
                yield file, str(key), value
