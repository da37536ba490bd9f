"""Messages of the config in the words of Python: what a key is called as an argument, and cures that can be typed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from kdlab.errors import InputError

_PLAIN = (
    ("strategy.peers.", "peers."),
    ("teacher=none", "teacher=None"),
    ("mixing=none", "no mixing in the loader"),
    ("data.batch_size", "the batch size of train"),
    ("optimizer.lr", "lr"),
    ("trainer.max_epochs", "epochs"),
    ("student.taps", "taps"),
    ("data.mixing", "the mixing of train's loader"),
)
_CHOICES = re.compile(r"\b(loss)=\[([\w,… ]*)\]")
_NAMED = re.compile(r"\b(loss|strategy|scheduler|optimizer|task)=([a-z_]\w*)\b")
_AVERAGE = re.compile(r"\bteacher(?:\.members\.(\w+))?\.average=(\w+)")
_OPTION = re.compile(r"\b(strategy|scheduler|optimizer)\.(\w+)=([\w.]+)")


def in_python(message: str) -> str:
    """A message about the config as one about the arguments of :func:`kdlab.distill`.

    >>> in_python("strategy=online needs more; take loss=[ce,kd], with teacher=none")
    'strategy="online" needs more; take loss=["ce", "kd"], with teacher=None'
    >>> in_python("strategy.peers.wide.optimizer.lr: too large; strategy.keep=wide")
    'peers.wide.lr: too large; strategy={…: {"keep": "wide"}}'
    >>> in_python("with task=regression, teacher.average=logits; teacher.members.a.average=best")
    'with task="regression", Ensemble(…, average="logits"); "a": Ensemble(…, average="best")'
    """
    for old, new in _PLAIN:
        message = message.replace(old, new)
    message = _CHOICES.sub(lambda found: f"{found[1]}=[{', '.join(map(_quoted, found[2].split(',')))}]", message)
    message = _OPTION.sub(lambda found: f'{found[1]}={{…: {{"{found[2]}": {_value(found[3])}}}}}', message)
    message = _AVERAGE.sub(
        lambda found: f'{f"{_quoted(found[1])}: " if found[1] else ""}Ensemble(…, average="{found[2]}")', message
    )
    return _NAMED.sub(r'\1="\2"', message)


def _quoted(name: str) -> str:
    return name if name.strip() == "…" else f'"{name.strip()}"'


def _value(text: str) -> str:
    if text in ("true", "false", "null", "none"):
        return {"true": "True", "false": "False"}.get(text, "None")
    return text if re.fullmatch(r"[-\d.]+", text) else f'"{text}"'


@contextlib.contextmanager
def python_words() -> Iterator[None]:
    """A context in which the messages of InputError name arguments of Python."""
    try:
        yield
    except InputError as error:
        raise InputError(*map(in_python, error.problems)) from error
