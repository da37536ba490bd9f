"""Errors for people: what was wrong, which key or file, what to do. The command line prints the message and no
traceback."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Collection, Iterable
from difflib import get_close_matches

#: exceptions that a loop, or its caller, takes for its end and does not pass on
LOOP_ENDERS = (StopIteration, StopAsyncIteration, GeneratorExit)


class KdlabError(Exception):
    """An error whose message is written for the user. ``exit_code`` is what the command line ends with."""

    exit_code = 1


class InputError(KdlabError):
    """Bad input, found before anything was trained or written. One message may list several problems, and end with
    advice."""

    exit_code = 2

    def __init__(self, *problems: str, advice: str = ""):
        self.problems = list(problems)
        text = (
            problems[0]
            if len(problems) == 1
            else f"{len(problems)} problems:\n" + "\n".join(f"  - {p}" for p in problems)
        )
        super().__init__("\n".join(filter(None, [text, advice])))


class DataDamaged(InputError):
    """A file of the data cannot be read. What mends it changes the data, and with them the run's identity: the run
    cannot be resumed.

    Args:
        reason: why, in a few words.
    """

    def __init__(self, *problems: str, reason: str = ""):
        super().__init__(*problems)
        self.reason = reason


class RunFailed(KdlabError):
    """A run failed while training; its directory holds the traceback."""


class EndedEarly(KdlabError):
    """A loop would have ended before its end: an exception that loops take for it, or data that ran out."""


class BeingTrained(KdlabError):
    """Another process is training the run at this moment."""


class RunPruned(KdlabError):
    """A search has stopped the run, since others do better. What it has finished is kept."""


class WeightsMissing(ValueError):
    """Pretrained weights of a library are not on this machine and cannot be downloaded.

    Args:
        problem: what is missing, and how it can be brought here.
        library: ``timm`` or ``torchvision``.
        model: the library's name of the network.
        argument: what asks for the weights, with the value that asks for none: ``pretrained=false``.
    """

    def __init__(self, problem: str, library: str, model: str, argument: str = "pretrained=false"):
        self.problem, self.library, self.model, self.argument = problem, library, model, argument
        super().__init__(f"{problem}, or set {argument}")

    def of_key(self, key: str) -> str:
        """The message for a network of a config. A teacher without weights teaches nothing, so it is trained.

        >>> error = WeightsMissing("no weights", "timm", "resnet18")
        >>> error.of_key("student")
        'student: no weights, or set student.pretrained=false'
        >>> print(error.of_key("teacher"))
        teacher: no weights, or train this network on your data, in place of teacher=timm teacher.model=resnet18:
          teacher=trained teacher.student=timm 'teacher.overrides=["student.model=resnet18"]'
        """
        if key.partition(".")[0] != "teacher":
            return f"{key}: {self.problem}, or set {key}.{self.argument}"
        if key != "teacher":  # a member
            return f"{key}: {self.problem}"
        override = f"student.model={self.model}"
        return (
            f"{key}: {self.problem}, or train this network on your data, in place of teacher={self.library} "
            f"teacher.model={self.model}:\n"
            f"  teacher=trained teacher.student={self.library} 'teacher.overrides=[\"{override}\"]'"
        )


def shortened(names: Collection[str], most: int = 4) -> str:
    """The first names, and how many more there are.

    >>> shortened(["a", "b", "c", "d", "e"])
    'a, b, c, d and 1 more'
    """
    return ", ".join(list(names)[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def yaml_problem(error: Exception) -> str:
    """What is wrong with a YAML file, in one line: where, and what."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
    if "\\t" in what:
        what = "a tab; YAML is indented by spaces"
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}" if mark else what


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: the machine's or a GPU's. PyTorch says it in several ways.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    True
    >>> out_of_memory(RuntimeError("out of luck"))
    False
    """
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or isinstance(error, RuntimeError)
        and any(words in text for words in ("out of memory", "can't allocate memory", "cannot allocate memory"))
    )


def ended_early(error: BaseException) -> str | None:
    """A message where an exception is one that loops take for their end, with its place; None for every other.

    Inside a generator Python makes ``RuntimeError: generator raised StopIteration`` of one; then its cause is meant.

    >>> try:
    ...     next(iter([]))
    ... except StopIteration as error:
    ...     print(ended_early(error)[:27])
    StopIteration was raised at
    >>> ended_early(ValueError("x")) is None
    True
    """
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, LOOP_ENDERS):
        error = error.__cause__
    if not isinstance(error, LOOP_ENDERS):
        return None
    return (
        f"{raised(error)}. Loops take it for their end, so the rest would be skipped silently; give next() a "
        "default, or start the iterator again where it ends"
    )


def raised(error: BaseException) -> str:
    """That an exception was raised, and where: file, line, function."""
    first = (str(error).strip().splitlines() or [""])[0].strip()
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {_short(frames[-1].filename)}:{frames[-1].lineno}, in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}{f' ({first})' if first else ''} was raised{place}"


def _short(path: str) -> str:
    """A file below the working directory by its path from there."""
    return os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path


def told(error: BaseException) -> str:
    """What went wrong in one line, with advice where there is some: a message for people as it stands, anything else
    with its kind."""
    first = (str(error).strip().splitlines() or [""])[0].strip()
    if out_of_memory(error):
        return (
            f"the memory ran out ({first or type(error).__name__}); a smaller data.batch_size, or "
            "trainer.accumulate_grad_batches=2 with half of it, needs less"
        )
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else ""
        cure = "; make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"{place}{error.strerror}{cure}"
    if isinstance(error, KdlabError):
        return str(error).strip()
    if ended := ended_early(error):
        return ended
    if "find_unused_parameters" in str(error):  # Lightning's advice names its own argument
        return (
            "some parameters of the student were not used for the loss, which DistributedDataParallel takes for a"
            " mistake. If it is none, type trainer.strategy=ddp_find_unused_parameters_true"
        )
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def to_user_error(error: BaseException) -> KdlabError | None:
    """An error of the machine's (a file that cannot be read or written, no memory), or one that loops take for their
    end, as one with a message; None for what is none of them."""
    if isinstance(error, KdlabError):
        return error
    if ended := ended_early(error):
        return EndedEarly(ended)
    if out_of_memory(error) or isinstance(error, OSError) and error.errno is not None:
        return RunFailed(told(error))
    return None


def did_you_mean(word: str, choices: Iterable[object]) -> str:
    """A hint to append to a message, or nothing.

    >>> did_you_mean("max_epcohs", ["max_epochs", "devices"])
    "; did you mean 'max_epochs'?"
    >>> did_you_mean("zzz", ["max_epochs"])
    ''
    """
    close = get_close_matches(str(word), [str(choice) for choice in choices], n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
