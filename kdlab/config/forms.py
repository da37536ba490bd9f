"""The forms in which a config names an earlier run or a network: for a teacher, and for a student's initial weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from kdlab.errors import did_you_mean
from kdlab.normalisation import problems as normalisation_problems

from .chains import are_overrides
from .keys import CACHE_CODECS, LOSSY_CODECS, TEACHER_KEYS
from .signature import fits

# form -> the keys of such a node; a teacher may also be any network by its _target_
TEACHER_FORMS = {
    "experiment": {"experiment", "seed", "overrides", "config", "normalisation"},
    "student": {"student", "seed", "overrides", "config", "normalisation"},
    "same_but": {"same_but", "seed", "config", "normalisation"},
    "run": {"run", "which", "normalisation"},
    "checkpoint": {"checkpoint", "network", "part", "normalisation"},
    "members": {"members", "average", "weights", "terms", "column", "routes", "default"},
}
CACHE_MODES = ("auto", "live", "fixed", "views", "replicas")
CACHE_DTYPES = ("float32", "float16", "bfloat16")
_PARTS = {"weights", "losses", "new_head"}
INITIAL_FORMS = {
    "experiment": {"experiment", "seed", "overrides", "config", *_PARTS},
    "same_but": {"same_but", "seed", "config", *_PARTS},
    "run": {"run", "which", *_PARTS},
    "checkpoint": {"checkpoint", "part", *_PARTS},
    "layers": {"layers", "of", "narrow", "embeddings", "head", "rows"},
}
NARROW = ("importance", "projection")
WHICH = ("last", "best")


def teacher_problems(teacher: object, prefix: str, channels: int | None) -> Iterator[str]:
    """The problems of the teacher's node, or of the nodes of an ensemble's members.

    Args:
        prefix: prefix of every key in messages.
        channels: of the inputs, where they are images.
    """
    members = teacher.get("members") if isinstance(teacher, dict) else None
    nodes = {f"teacher.members.{name}": node for name, node in members.items()} if isinstance(members, dict) else {}
    yield from _cache_problems(teacher, prefix)
    yield from (f"{prefix}{problem}" for problem in routing_problems(teacher))
    for key, node in {"teacher": teacher, **nodes}.items():
        forms = {form: keys | TEACHER_KEYS if key == "teacher" else keys for form, keys in TEACHER_FORMS.items()}
        yield from _form(node, forms, f"{prefix}{key}", "teacher")
        if isinstance(node, dict) and "members" in node and "terms" in node:
            yield from (f"{prefix}{problem}" for problem in term_problems(members or {}, node["terms"]))
            yield from (
                f"{prefix}{key}.{name}: with teacher.terms each member teaches its own terms and no average is taken; "
                "leave it out, or leave teacher.terms out"
                for name in ("average", "weights")
                if node.get(name) is not None
            )
        if isinstance(node, dict) and "members" in node and key != "teacher" and "column" in node:
            yield f"{prefix}{key}.column: a member of a teacher cannot be routed itself; leave it out"
        if isinstance(node, dict) and "members" not in node:
            yield from normalisation_problems(node.get("normalisation"), f"{prefix}{key}.normalisation", channels)


def _cache_problems(teacher: object, prefix: str) -> Iterator[str]:
    node = teacher if isinstance(teacher, dict) else {}
    mode, limit = node.get("cache", "auto"), node.get("cache_gb")
    if mode is not None and mode not in CACHE_MODES:
        yield (
            f"{prefix}teacher.cache must be one of {', '.join(CACHE_MODES)}, got {mode!r}"
            f"{did_you_mean(str(mode), CACHE_MODES)}"
        )
    dtype, modes = node.get("cache_dtype", "float32"), CACHE_MODES[2:]
    if dtype not in CACHE_DTYPES:
        yield (
            f"{prefix}teacher.cache_dtype must be one of {', '.join(CACHE_DTYPES)}, got {dtype!r}"
            f"{did_you_mean(str(dtype), CACHE_DTYPES)}"
        )
    elif dtype != "float32" and mode not in modes and mode in (None, *CACHE_MODES):
        yield (
            f"{prefix}teacher.cache_dtype={dtype} rounds answers that are kept, and teacher.cache={mode or 'auto'} "
            f"need not keep any; choose teacher.cache={', '.join(modes[:-1])} or {modes[-1]}"
        )
    yield from _codec_problems(node, mode, prefix)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0):
        yield f"{prefix}teacher.cache_gb must be a number of gigabytes greater than 0, got {limit!r}"


def _codec_problems(node: Mapping, mode: object, prefix: str) -> Iterator[str]:
    codec, modes = node.get("cache_codec", "dense"), CACHE_MODES[2:]
    if codec not in CACHE_CODECS:
        yield (
            f"{prefix}teacher.cache_codec must be one of {', '.join(CACHE_CODECS)}, got {codec!r}"
            f"{did_you_mean(str(codec), CACHE_CODECS)}"
        )
        return
    if codec in LOSSY_CODECS and mode not in modes and mode in (None, *CACHE_MODES):
        yield (
            f"{prefix}teacher.cache_codec={codec} changes answers that are kept, and teacher.cache={mode or 'auto'} "
            f"need not keep any; choose teacher.cache={', '.join(modes[:-1])} or {modes[-1]}"
        )
    for option in ("k", "samples", "exponent", "temperature"):
        value, key = node.get(f"cache_{option}"), f"{prefix}teacher.cache_{option}"
        if value is None:
            continue
        if option not in CACHE_CODECS[codec]:
            owners = [name for name, options in CACHE_CODECS.items() if option in options]
            yield f"{key} is an option of teacher.cache_codec={' or '.join(owners)}, and the codec is {codec}"
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0 or value == float("inf"):
            yield f"{key} must be a number greater than 0, got {value!r}"
        elif option in ("k", "samples") and (not isinstance(value, int) or value >= 2**15):
            yield f"{key} must be a whole number less than 32768, got {value!r}"


def term_problems(members: Collection[str], terms: object) -> list[str]:
    """The problems of ``teacher.terms`` for members of these names, independent of the loss."""
    if not isinstance(terms, Mapping) or not terms:
        return [
            f"teacher.terms must map each term of the loss to the member that teaches it, for example {{kd: "
            f"{next(iter(members), 'strong')}}}, got {terms!r}"
        ]
    wrong = [
        (
            f"teacher.terms.{term}: there is no member {name!r}{did_you_mean(name, members)} (teacher.members has "
            f"{', '.join(members)})"
        )
        for term, name in terms.items()
        if name not in members
    ]
    return wrong + [
        (
            f"teacher.members.{name}: no term of teacher.terms learns from it; give it one, or leave it out with "
            f"'~teacher.members.{name}'"
        )
        for name in members
        if name not in terms.values()
    ]


def routing_problems(teacher: object) -> list[str]:
    """The problems of a teacher's node that is routed by a column, independent of the data.

    >>> routing_problems({"members": {"maths": {"run": "a"}}, "column": "source", "default": "math"})
    ["teacher.default: there is no member 'math'; did you mean 'maths'? (teacher.members has maths)"]
    """
    node = teacher if isinstance(teacher, Mapping) else {}
    if "members" not in node:
        return []
    routes, default, column = node.get("routes"), node.get("default"), node.get("column")
    if "column" not in node:
        return [
            f"teacher.{name}: it is for a teacher that is routed by a column; teacher.column=COLUMN"
            for name, value in (("routes", routes), ("default", default))
            if value is not None
        ]
    members = node["members"]
    if not isinstance(members, Mapping) or not members:
        return [
            "teacher.members: a routed teacher needs members, by the values of its column; for example "
            "+teacher@teacher.members.maths=run teacher.members.maths.run=RUN"
        ]
    wrong = []
    if not isinstance(column, str) or not column:
        wrong.append(f"teacher.column must be the name of a column of the data, got {column!r}")
    if routes is not None and not isinstance(routes, Mapping):
        wrong.append(
            "teacher.routes must map values of the column to members, for example 'teacher.routes={gsm8k: "
            f"{next(iter(members))}}}', got {routes!r}"
        )
        routes = None
    named = {**{f"routes.{value}": name for value, name in (routes or {}).items()}, "default": default}
    wrong += [
        f"teacher.{key}: there is no member {name!r}{did_you_mean(str(name), members)} (teacher.members has "
        f"{', '.join(members)})"
        for key, name in named.items()
        if name not in members and (key != "default" or name is not None)
    ]
    return wrong + [
        f"teacher.{name}: with teacher.column one member answers a row; leave it out, or leave teacher.column out"
        for name in ("average", "weights", "terms")
        if node.get(name) is not None
    ]


def initial_problems(node: object, place: str) -> Iterator[str]:
    """The problems of the node ``student.initial``."""
    yield from _form(node, INITIAL_FORMS, place, "beginning")
    if not isinstance(node, dict):
        return
    if "layers" in node:
        yield from _layers_problems(node, place)
        return
    weights, losses = node.get("weights", True), node.get("losses", False)
    if not isinstance(weights, bool):
        yield f"{place}.weights must be true or false, got {weights!r}"
    if not isinstance(losses, bool) and not are_overrides(losses):
        yield f"{place}.losses must be true, false or a list of names, for example [factor.paraphraser], got {losses!r}"
    if not isinstance(node.get("new_head", False), bool):
        yield f"{place}.new_head must be true or false, got {node['new_head']!r}"
    if weights is False and not losses:
        yield f"{place}: with weights=false and losses=false nothing is loaded; choose initial=none"


def _layers_problems(node: dict, place: str) -> Iterator[str]:
    """The problems of a node that names layers; which layers there are is known once the networks are."""
    layers, rows, narrow = node["layers"], node.get("rows", 128), node.get("narrow", "importance")
    if not isinstance(layers, str) and not (
        isinstance(layers, list) and layers and all(isinstance(one, int) for one in layers)
    ):
        yield f"{place}.layers must be spread, every_second, first, last or numbers from 1, got {layers!r}"
    if narrow not in NARROW:
        yield f"{place}.narrow must be one of {', '.join(NARROW)}, got {narrow!r}{did_you_mean(str(narrow), NARROW)}"
    for name in ("embeddings", "head"):
        if not isinstance(node.get(name, True), bool):
            yield f"{place}.{name} must be true or false, got {node[name]!r}"
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        yield f"{place}.rows must be a whole number of at least 1, got {rows!r}"
    single = {form: keys | TEACHER_KEYS for form, keys in TEACHER_FORMS.items() if form != "members"}
    yield from _form(node.get("of"), single, f"{place}.of", "teacher")


def _form(node: object, forms: dict[str, set[str]], place: str, what: str) -> Iterator[str]:
    """A node that names a run has one form; a teacher's may also be a network by ``_target_``."""
    if node is None:
        return
    if not isinstance(node, dict):
        yield f"{place} must be a {what}, got {node!r}"
        return
    options = [*forms, *(["_target_"] if what == "teacher" else [])]
    found = [form for form in options if (form in node if form != "_target_" else node.get(form))]
    if len(found) != 1:
        absent = ". If the strategy has no teacher, leave teacher.* out"
        yield (
            f"{place} must be given in one way ({', '.join(options[:-1])} or {options[-1]}), got "
            f"{', '.join(found) or 'none of them'}{absent if what == 'teacher' and not found else ''}"
        )
        return
    form = found[0]
    if form != "_target_":
        for name in sorted(set(node) - forms[form]):
            yield f"{place}.{name}: a {what} by {form} has no key '{name}'{did_you_mean(name, forms[form])}"
    if form in ("experiment", "student", "same_but") and not fits(node.get("seed", 1), int | None):
        yield f"{place}.seed must be a whole number, or null for that of this run, got {node['seed']!r}"
    if form == "run" and node.get("which", "last") not in WHICH:
        yield f"{place}.which must be 'last' or 'best', got {node.get('which')!r}"
    if form == "checkpoint" and not fits(node.get("part"), str | None):
        yield (
            f"{place}.part must be the name of a part of the file, for example state_dict.student, got {node['part']!r}"
        )
    if (
        form == "checkpoint"
        and node.get("network") is not None
        and not (isinstance(node["network"], dict) and node["network"].get("_target_"))
    ):
        yield f"{place}.network needs a _target_, the class that the checkpoint's weights belong to"
