"""Networks for data that are tokens: what they must read, and the number of tokens that a new one needs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from .keys import GIVE_IT
from .references import StudentRun, composed_runs
from .signature import locate

_NO_VOCABULARY = "data.vocabulary has no value"


def inputs_of(data: dict) -> tuple[str, ...]:
    """The names of the inputs that a network must read, by the class of a config's ``data``
    (:attr:`kdlab.data.Data.INPUTS`); empty where the inputs have no names.

    >>> inputs_of({"_target_": "kdlab.data.TextFiles"})
    ('input_ids', 'attention_mask')
    """
    try:
        return tuple(getattr(locate(data["_target_"]), "INPUTS", ()))
    except (LookupError, KeyError):  # reported by the check of the config
        return ()


def usual_student(data: dict) -> str:
    """The choice of a new student for the texts of a config's ``data``. With ``_wide`` at its end, that of a teacher.

    >>> usual_student({"_target_": "kdlab.data.TextFiles"}), usual_student({"_target_": "kdlab.data.CausalTextFiles"})
    ('bert', 'llama')
    """
    try:
        return str(getattr(locate(data["_target_"]), "USUAL_STUDENT", "bert"))
    except (LookupError, KeyError):  # reported by the check of the config
        return "bert"


def token_problems(config: dict, prefix: str) -> Iterator[str]:
    """A student that cannot read named inputs, and networks that need the number of tokens where it is not given."""
    data, student = _node(config, "data"), _node(config, "student")
    lacks = "vocabulary" in data and data["vocabulary"] is None
    own = next((one for one in composed_runs(config) if isinstance(one, StudentRun)), None)
    networks = {"this student": student}
    if own is not None:
        choice = f"{own.key}.student={own.student}"
        networks[choice] = _node(own.config, "student")
        if text := _cannot_read(f"{prefix}{choice}", networks[choice], data):
            yield f"{text}{own.key}.student={usual_student(data)}_wide"
    chosen = (config.get("choices") or {}).get("student") or student.get("_target_")
    if text := _cannot_read(f"{prefix}student={chosen}", student, data):
        new, loaded = usual_student(data), "causal" if usual_student(data) == "llama" else "encoder"
        cure = f"student={new}" + (f" data.vocabulary={_vocabulary(data)}" if lacks else "")
        yield f"{text}{cure}, or a pretrained one: student={loaded} student.pretrained=NAME"
        return
    needing = [who for who, node in networks.items() if "vocabulary" in node and node["vocabulary"] is None]
    if not needing and data.get("classes") is None:  # the classes are the tokens
        needing = ["this task"]
    if lacks and needing:
        need = "needs it" if len(needing) == 1 else "need it"
        yield (
            f"{prefix}{_NO_VOCABULARY}, and {' and '.join(needing)} {need}: it is the number of tokens of "
            f"data.tokenizer, len(tokenizer){GIVE_IT}data.vocabulary={_vocabulary(data)}"
        )
    if own is not None and data.get("teacher_tokenizer") is not None:
        yield (
            f"{prefix}data.teacher_tokenizer={data['teacher_tokenizer']}: {own.key}.student={own.student} is trained "
            "on the tokens of data.tokenizer, so it reads the same tokens as the student; leave it out, or choose a "
            "teacher that was trained with this tokenizer"
        )


def told_of_its_student(problem: str, one: StudentRun) -> bool:
    """Whether a problem of the config of a teacher that learns the labels is one that :func:`token_problems` of its
    student's config reports: the two share their data."""
    return problem.startswith((_NO_VOCABULARY, f"student={one.student}:"))


def _node(config: dict, key: str) -> dict:
    node = config.get(key)
    return node if isinstance(node, dict) else {}


def _cannot_read(choice: str, student: dict, data: dict) -> str:
    """The beginning of a message where a student cannot read the named inputs of the data; empty where it can."""
    unread = _unread(student, inputs_of(data))
    if not unread:
        return ""
    return (
        f"{choice}: {student.get('_target_')} has no input {unread[0]}, so it cannot read the tokens of these data. "
        f"Take a {'causal language model' if usual_student(data) == 'llama' else 'text encoder'}: "
    )


def _unread(student: dict, inputs: tuple[str, ...]) -> list[str]:
    """The named inputs that the class of a student cannot read; empty where that is not known."""
    if not inputs:
        return []
    try:
        parameters = inspect.signature(locate(student["_target_"]).forward).parameters  # type: ignore[attr-defined]
    except (LookupError, KeyError, AttributeError, TypeError, ValueError):
        return []  # a function, or reported elsewhere
    if any(one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in parameters.values()):
        return []
    return [name for name in inputs if name not in parameters]


def _vocabulary(data: dict) -> object:
    """The number of tokens for a line to paste; … where the data do not state it."""
    try:
        find = getattr(locate(data["_target_"]), "stated_vocabulary", None)
    except (LookupError, KeyError):  # reported by the check of the config
        return "…"
    return (None if find is None else find(data)) or "…"
