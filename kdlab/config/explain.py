"""Messages for the errors of Hydra, OmegaConf and YAML."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, InterpolationToMissingValueError

from kdlab.errors import did_you_mean, yaml_problem

from .keys import TEACHER_KEYS
from .missing import groups, missing_file, own_folders
from .quoting import not_read, quoted


def explain(error: Exception, overrides: Sequence[str] = ()) -> str:
    """An error of Hydra, OmegaConf or YAML in one message, with a suggestion where a key or an option was misspelled.

    Args:
        overrides: the overrides on the command line, for errors that do not name theirs.
    """
    if isinstance(error, OverrideParseException):
        return not_read(error.override, overrides)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return missing_file(error.missing_cfg_file.removesuffix(".yaml"), own_folders(overrides))
    if isinstance(error, (yaml.YAMLError, UnicodeDecodeError)):
        file = _file_read(error)
        if file == "<unicode string>":  # no file, but the command line
            return f"{' '.join(overrides)}: this is not how a value is written: {yaml_problem(error)}"
        return f"{file or 'a config file'} is not YAML: {yaml_problem(error)}"
    if isinstance(error, RecursionError):
        return "a config file includes itself by its defaults, without end; see the files that the overrides name"
    if isinstance(error, InterpolationToMissingValueError):
        missing = str(error).splitlines()[0].rpartition(": ")[2]
        return f"{missing} has no value; give it with {missing}=… ({error.full_key} needs it)"
    message = " ".join(
        line.strip()
        for line in str(error).splitlines()
        if line.strip()
        and not line.strip().startswith(("full_key", "object_type", "reference_type", "To append", "Set the env"))
    )
    cause = error.__cause__ or error
    key = getattr(error, "full_key", None) or getattr(cause, "full_key", None)
    if isinstance(cause, InterpolationResolutionError):
        name = re.search(r"key '(.+)' not found", message)
        typed = (
            [text for text in overrides if f"${{{name[1]}}}" in text]
            if name
            else [text for text in overrides if "${" in text]
        )
        key = key or " ".join(text.partition("=")[0].lstrip("+") for text in typed) or "the config"
        if name is None:
            return f"{key}: {message}"
        known = _all_keys(getattr(cause, "parent_node", None))
        return f"{key}: it refers to '{name[1]}', and there is no such key{did_you_mean(name[1], known)}"
    refused = re.search(r"Could not override '(.+?)'\.", message)
    # where a file of these groups puts its content by default
    if refused and re.search(r"@(experiment|debug)\.", refused[1]):
        within = re.match(r"In '(.+?)'", message)
        return (
            f"the file '{within[1] if within else 'experiment/…'}' must begin with the line '# @package _global_', or "
            "its defaults count for nothing"
        )
    unmatched = re.search(r"Could not override '(.+?)'. No match in the defaults list", message)
    if unmatched:
        return f"{message.partition('. No match')[0]}: {_not_to_override(unmatched[1])}"
    if ambiguous := re.match(r"Ambiguous value for argument '(.+?)' 1\. ", message):
        return _several_values(ambiguous[1])
    if again := re.match(r"Multiple values for ([\w/@.]+)\. To override", message):
        typed = [text for text in overrides if text.startswith(f"+{again[1]}=")]
        if typed:
            cure = shlex.quote(typed[-1].lstrip("+"))
            return f"{typed[-1]}: '{again[1]}' is chosen already, so it is replaced and not added; type {cure}"
    if "group override must be a string" in message:
        wrong = [text for text in overrides if re.fullmatch(r"[+]*[\w/]*=([-+.\d]+|null|true|false)", text, re.I)]
        return (
            f"{' '.join(wrong) or message}: a group is chosen by the name of one of its files, for example student=mlp"
        )
    if "merge DictConfig with ListConfig" in message:
        return (
            f"{message.partition(': ')[0]}: there is a list where named keys are needed, or there are named keys where "
            "a list is needed; see conf/train.yaml"
        )
    if "/" in str(key or ""):
        return f"{key}: there is no such group{did_you_mean(str(key), groups())} (there are {', '.join(groups())})"
    parent = getattr(cause, "parent_node", None)
    if key and parent is not None and hasattr(parent, "keys"):
        known = [name for name in parent.keys() if name != "hydra"]
        kept = str(key).startswith("teacher.") and str(key).removeprefix("teacher.") in TEACHER_KEYS
        if kept and not known:
            return f"{key}: this run has no teacher, so there are no answers to keep; leave {key}=… out"
        if kept:
            added = next((text for text in overrides if text.startswith(f"{key}=")), f"{key}=…")
            return f"{key}: conf/teacher has no line for it, so it is given with a plus sign: +{added}"
        word = str(getattr(cause, "key", key)).split(".")[-1]
        prefix = str(key).rpartition(".")[0]
        if prefix == "teacher.members" and (new := [text for text in overrides if text.startswith(f"{key}.")]):
            added = shlex.quote(f"+{new[0]}")
            hint = did_you_mean(word, known)
            return f"{key}: there is no such member{hint}; a new one is added with a plus sign: {added}"
        place = f"'{prefix}'" if prefix else "the config"
        typed = [text for text in overrides if text.startswith(f"{prefix}={{")]
        cure = f"; to replace the schedule: '++{typed[-1]}'" if typed and "schedule" in known else ""
        return f"{key}: {place} has no key '{word}'{did_you_mean(word, known) if not cure else ''}{cure}"
    return message


def _several_values(override: str) -> str:
    """A hint on ``KEY=A,B`` outside a sweep."""
    key, _, value = override.partition("=")
    ways = shlex.quote(f"{key}=[{value}]"), shlex.quote(f"{key}={quoted(value)}")
    return (
        f"{override}: several values for one key are a sweep, which -m (--multirun) asks for: kdlab train -m "
        f"{shlex.quote(override)}. For a key that takes a list type {ways[0]}, for one that takes a text {ways[1]}"
    )


def _not_to_override(group: str) -> str:
    """A hint on a group that a file's defaults cannot override."""
    own = group.partition("@")[0]
    for known in groups():
        if own.endswith(f"/{known}"):
            return f"write '- override /{known}: …', with a slash in front"
    return f"there is no group '{own}'{did_you_mean(own, groups())} (there are {', '.join(groups())})"


def _all_keys(node: Any) -> list[str]:
    """The dotted keys of the whole config that contains a node."""

    def walk(value: Any, prefix: str) -> Iterator[str]:
        for key in value.keys() if OmegaConf.is_dict(value) else ():
            yield f"{prefix}{key}"
            child = value._get_node(key)
            if (
                OmegaConf.is_dict(child)
                and not child._is_none()
                and not child._is_missing()
                and not child._is_interpolation()
            ):
                yield from walk(child, f"{prefix}{key}.")

    return [] if node is None else [key for key in walk(node._get_root(), "") if not key.startswith("hydra.")]


def _file_read(error: Exception) -> str | None:
    """The file that was being read: YAML errors name it, decoding errors do not."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    named = getattr(mark, "name", None) or getattr(error, "name", None)
    trace = error.__traceback__
    while trace is not None and not named:
        named = trace.tb_frame.f_locals.get("full_path")  # of Hydra's own reader
        trace = trace.tb_next
    if not isinstance(named, str):
        return None
    return os.path.relpath(named) if os.path.isabs(named) and named.startswith(os.getcwd() + os.sep) else named


def made_by_hydra(error: BaseException) -> bool:
    """Whether Hydra itself raised an error, not code of kdlab's that it called. Then the command line or a config file
    is wrong."""
    trace, inside = error.__traceback__, False
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if inside and name.startswith("kdlab."):
            return False
        inside = inside or name.startswith("hydra.")
        trace = trace.tb_next
    return inside
