"""The schema of run.json: every entry with its type, its unit and its meaning, and the one check of them.

run.json stays plain JSON. :class:`RunRecord` is its typed form. A line of a study's ``runs.jsonl`` holds a part of the
same entries, so the same check is made there. Entries that the schema does not know are kept and not checked: another
version of kdlab may have added them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, cast

from kdlab.errors import InputError
from kdlab.tasks.metric import CLASSIFICATION, Report

#: the version of the schema; a record of a later version is refused
FORMAT = 1

Check = Callable[[object, str], str]  # (value, place) -> what is wrong; empty if nothing


def is_number(value: object) -> bool:
    """Whether a value of JSON is a number.

    >>> is_number(0.5), is_number(True), is_number("1")
    (True, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: object, place: str) -> str:
    return "" if is_number(value) else f"{place} is {value!r}, not a number"


def _numbers(values: object, place: str) -> str:
    """Named numbers. null is correct: it replaces a number that is not finite."""
    if not isinstance(values, Mapping):
        return f"{place} is {values!r}, and should hold numbers by name"
    found = (_number(value, f"{place}.{name}") for name, value in values.items() if value is not None)
    return next(filter(None, found), "")


def _of_kind(kind: type | tuple[type, ...], words: str) -> Check:
    return lambda value, place: "" if isinstance(value, kind) else f"{place} is {value!r}, and should {words}"


_text, _list = _of_kind(str, "be a text"), _of_kind(list, "be a list")
_flag, _names = _of_kind(bool, "be true or false"), _of_kind(Mapping, "hold names")


def _with(check: Check, **inner: Check) -> Check:
    """A check of a mapping and of some of its entries, each of which may be absent or null."""

    def checked(value: Any, place: str) -> str:
        wrong = check(value, place)
        found = inner.items() if not wrong else ()
        below = (one(value[key], f"{place}.{key}") for key, one in found if value.get(key) is not None)
        return wrong or next(filter(None, below), "")

    return checked


def _each(check: Check, words: str) -> Check:
    """A check of every value of a mapping."""

    def checked(values: object, place: str) -> str:
        if not isinstance(values, Mapping):
            return f"{place} is {values!r}, and should {words}"
        return next(filter(None, (check(value, f"{place}.{name}") for name, value in values.items())), "")

    return checked


def _metrics_of_one(value: object, place: str) -> str:
    return _numbers(value, place) if isinstance(value, Mapping) else f"{place} is {value!r}, and should hold metrics"


def _teachers_runs(values: object, place: str) -> str:
    if not isinstance(values, list) or not all(
        isinstance(one, Mapping) and isinstance(one.get("hash"), str) for one in values
    ):
        return f"{place} is {values!r}, and should list runs"
    return next(filter(None, (_with(_names, metrics=_numbers, durations=_numbers)(one, place) for one in values)), "")


def _teacher(value: object, place: str) -> str:
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return f"{place} is {value!r}, and should tell of a teacher"
    return problem_of(TeacherRecord, value, f"{place}.")


def _kept(value: object, place: str) -> str:
    wrong = _with(_names, last=_names, best=_names)(value, place)
    return wrong and f"{place} is {value!r}, and should name a network of each checkpoint"


def _task(value: object, place: str) -> str:
    try:
        Report.of({"task": value})
    except ValueError as error:
        return str(error)
    return ""


KINDS: dict[str, Check] = {
    "text": _text,
    "number": _number,
    "flag": _flag,
    "list": _list,
    "names": _names,
    "numbers by name": _numbers,
    "metrics by network": _each(_metrics_of_one, "hold names"),
    "network of each checkpoint": _kept,
    "teacher": _teacher,
    "teachers by name": _each(_teacher, "hold names"),
    "list of runs": _teachers_runs,
    "code": _with(_names, commit=_text),
    "hardware": _with(_names, gpus=_list),
    "task": _task,
}


def entry(kind: str, meaning: str, default: Any = None, null: bool = True) -> Any:
    """A field of a record.

    Args:
        kind: a key of :data:`KINDS`.
        meaning: what it is, with its unit.
        default: where it is absent; ``MISSING``: it must be there. Containers are given as their type.
        null: whether null is a value.
    """
    made = {"default_factory": default} if isinstance(default, type) else {"default": default}
    return field(**made, metadata={"kind": kind, "meaning": meaning, "null": null})


@dataclass(frozen=True, kw_only=True)
class TeacherRecord:
    """The entry ``teacher``: what was measured of a teacher. Where terms have teachers of their own, ``members`` holds
    one of these for each."""

    name: str = entry("text", "name for people", MISSING, null=False)
    normalisation: list | None = entry("list", "own normalisations of the inputs, where they are not the student's")
    terms: dict | None = entry("names", "term of the loss -> member, where each term has its own teacher")
    column: str | None = entry(
        "text", "column of the data that names the member of a row, where each row has its own teacher"
    )
    rows: dict[str, dict[str, float]] = entry("metrics by network", "rows of each split that a member answers", dict)
    members: dict[str, TeacherRecord] = entry("teachers by name", "the teachers of the terms, or of the rows", dict)
    identity: dict | None = entry("names", "hash of its run or file, or its description, of a member that answers rows")
    validation: dict[str, float] = entry(
        "numbers by name", "metrics on validation (``validation_NAME`` in the file)", dict
    )
    test: dict[str, float] = entry("numbers by name", "metrics on test, once the run is finished", dict)
    parameters: int | None = entry("number", "number of parameters; null for several networks")
    runs: list[dict] = entry("list of runs", "runs that trained it: path, hash, metrics, parameters, durations", list)

    @classmethod
    def read(cls, content: Mapping) -> TeacherRecord:
        """The typed form of the entry, which :func:`problem` has checked."""
        known = {name: content[name] for name in _fields(cls) if content.get(name) is not None}
        prefix = "validation_"
        known["validation"] = {
            key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)
        }
        made = cls(**known)  # its members are still as they are written
        return replace(made, members={name: cls.read(cast(Mapping, one)) for name, one in made.members.items()})


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """run.json."""

    format: int = entry("number", "version of this schema", FORMAT, null=False)
    hash: str = entry("text", "hash of the config; it names the run", MISSING, null=False)
    group: str = entry("text", "hash of the config without the seed", MISSING, null=False)
    status: str = entry("text", "running, finished, failed, interrupted or pruned", MISSING, null=False)
    made_by: str | None = entry("text", "`kdlab.distill`, if Python began the run and no config can rebuild it")
    command: str = entry("text", "command line that began the run", "")
    overrides: list[str] = entry("list", "overrides that were typed", list)
    choices: dict[str, object] = entry("names", "file that was chosen of each config group", dict)
    task: Report = entry("task", "the task and its metrics; without it, classification", CLASSIFICATION)
    seed: int | None = entry("number", "seed of the run")
    threads: int | None = entry("number", "CPU threads of torch in each process")
    weights: dict[str, object] = entry("names", "weight of each term of the loss: a number, or scheduled", dict)
    code: dict[str, Any] = entry("code", "version of kdlab, its commit, and whether files had changed", dict)
    versions: dict[str, str] = entry("names", "versions of Python and of packages", dict)
    hardware: dict[str, object] = entry("hardware", "machine, processor, cores, GPUs", dict)
    parameters: int | None = entry("number", "number of parameters of the network that is kept")
    trainable_parameters: int | None = entry("number", "number of parameters that the optimiser changes")
    uses_teacher: bool = entry("flag", "whether a frozen teacher taught", False)
    taught: bool = entry("flag", "whether a teacher or a peer taught", False)
    teacher: TeacherRecord | None = entry("teacher", "what was measured of the teacher")
    initial: dict | None = entry("names", "path and hash of what the student began with; the `layers` of a teacher")
    metrics: dict[str, float] = entry("numbers by name", "final metrics, such as `test/accuracy`", dict, null=False)
    durations: dict[str, float] = entry(
        "numbers by name", "seconds: `train_seconds` of the epochs, `wall_seconds` in all", dict, null=False
    )
    teacher_share: float | None = entry("number", "share of the training time that the teacher took, in [0, 1]")
    cache: dict | None = entry(
        "names",
        "kept answers of the teacher: mode, type, passes that live training takes, those computed here, seconds, bytes",
    )
    stacked: dict | None = entry(
        "names", "runs that were trained together with it, itself included, and how many times faster a step was"
    )
    fresh: bool = entry("flag", "whether it was begun with fresh=true", False)
    directory: str | None = entry("text", "working directory")
    slurm: dict | None = entry("names", "job, step and task of Slurm")
    began: str | None = entry("text", "time at which it was begun (UTC, ISO 8601)")
    resumed: list[dict] = entry("list", "time and code of each resumption", list)
    ended: str | None = entry("text", "time at which it ended (UTC, ISO 8601)")
    error: str | None = entry("text", "what ended it, if it failed")
    flops: int | None = entry("number", "operations of a forward pass of one sample")
    checkpoint_bytes: int | None = entry("number", "bytes of the kept network's weights")
    kept: dict[str, Any] = entry(
        "network of each checkpoint",
        "network that is kept of `last` and `best`, and the rule that chose it",
        dict,
    )
    networks: dict[str, dict[str, float]] = entry(
        "metrics by network", "metrics of each network and ensemble, where there are several", dict
    )
    network_parameters: dict[str, int] = entry("numbers by name", "number of parameters of each of them", dict)
    peak_memory_bytes: int | None = entry("number", "bytes, the peak during training")
    peak_memory_of: str | None = entry("text", "what that peak is of: process or cuda")

    @classmethod
    def read(cls, content: object) -> RunRecord:
        """The typed form of a record.

        Args:
            content: of run.json.

        Raises:
            InputError: an entry is missing or has another type.

        >>> record = RunRecord.read({"hash": "a", "group": "b", "status": "finished", "metrics": {"test/nll": 0.5}})
        >>> record.metrics, record.kept_network("last"), record.teacher
        ({'test/nll': 0.5}, 'student', None)
        """
        wrong = problem(content, REQUIRED)
        if wrong or not isinstance(content, Mapping):
            raise InputError(wrong)
        known = {name: content[name] for name in _fields(cls) if content.get(name) is not None}
        known["task"] = Report.of(content)
        if "teacher" in known:
            known["teacher"] = TeacherRecord.read(known["teacher"])
        return cls(**known)

    @property
    def rule(self) -> str:
        """The rule that chose the network that is kept: ``student``, ``validation`` or a network's name."""
        return self.kept.get("rule", "student")

    def kept_network(self, which: str = "last") -> str:
        """The name of the network that is kept of a checkpoint."""
        return (self.kept.get(which) or {}).get("network", "student")

    def kept_module(self, which: str = "last") -> str:
        """The name of that network's module within the strategy."""
        return (self.kept.get(which) or {}).get("module", "student")


def _fields(kind: type) -> dict[str, Field[Any]]:
    return {one.name: one for one in fields(kind)}


#: entries that every run.json has
REQUIRED = tuple(one.name for one in fields(RunRecord) if one.default is one.default_factory is MISSING)


def problem_of(kind: type, content: Mapping, prefix: str = "") -> str:
    """The first entry that is not of its type; empty if there is none."""
    for name, one in _fields(kind).items():
        if name not in content or content[name] is None and one.metadata["null"]:
            continue
        if wrong := KINDS[one.metadata["kind"]](content[name], f"{prefix}{name}"):
            return wrong
    return ""


def problem(content: object, required: Sequence[str] = ()) -> str:
    """What is wrong with a record; empty if nothing is.

    Args:
        content: of run.json, or of a line of a study's results.
        required: entries that must be there.

    >>> fine, damaged = {"test/accuracy": 0.9}, {"test/accuracy": "high"}
    >>> problem({"hash": "a", "metrics": fine, "seed": 1}), problem({"hash": "a", "metrics": damaged})
    ('', "metrics.test/accuracy is 'high', not a number")
    >>> problem({"hash": "a"}, ["hash", "group"])
    'group is missing'
    """
    if not isinstance(content, Mapping):
        return "it holds no names"
    missing = [name for name in required if content.get(name) is None]
    return f"{missing[0]} is missing" if missing else problem_of(RunRecord, content)
