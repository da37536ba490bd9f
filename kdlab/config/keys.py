"""kdlab's own keys: those that the schema allows in addition to the arguments of the constructors.

A node with ``_target_`` holds the arguments of that target. Some nodes also hold a few of kdlab's own keys, which the
constructor does not get. Some arguments come from kdlab at run time, so they need not be in the config.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

GIVE_IT = "; give it with "  # before the line to type, in messages on values that are missing

# how a teacher's answers are kept (kdlab.cache). Every mode is exact, so they are no part of a run's identity
CACHE_KEYS = frozenset({"cache", "cache_gb", "cache_auto"})
# kdlab's own keys of a teacher as a whole: also that which changes its answers, and so counts
TEACHER_KEYS = CACHE_KEYS | {
    "cache_dtype",
    "cache_codec",
    "cache_k",
    "cache_samples",
    "cache_exponent",
    "cache_temperature",
}

#: codec of a language model's kept answers -> its options, as keys of the teacher, each with its default
CACHE_CODECS: dict[str, dict[str, int | float]] = {
    "dense": {},
    "hidden": {},
    "top_k": {"k": 64, "temperature": 1.0},
    "sampled": {"samples": 50, "exponent": 1.0, "temperature": 1.0},
}
#: those that keep a part of a distribution, so that a student learns something else
LOSSY_CODECS = ("top_k", "sampled")


def cache_codec(teacher: Mapping[str, object]) -> dict[str, Any]:
    """The codec of a teacher's kept answers: its ``name`` and its options.

    >>> cache_codec({"cache_codec": "top_k", "cache_k": 8})
    {'name': 'top_k', 'k': 8, 'temperature': 1.0}
    """
    name = str(teacher.get("cache_codec") or "dense")
    options = CACHE_CODECS.get(name, {})  # an unknown name is refused by the checks
    given = {option: teacher.get(f"cache_{option}") for option in options}
    return {"name": name, **{key: default if given[key] is None else given[key] for key, default in options.items()}}


# node (a pattern over dotted keys) -> kdlab's own keys in it
OWN_KEYS: dict[str, set[str]] = {
    "data": {"name", "classes", "shape", "vocabulary"},
    "student": {"taps", "initial"},
    "student.initial.of": {"taps", "normalisation", "class_names", *TEACHER_KEYS},
    "teacher": {"taps", "normalisation", "class_names", *TEACHER_KEYS},
    "teacher.members.*": {"taps", "normalisation", "class_names"},
    "teacher*.network": {"taps", "initial"},
    "loss.*": {"weight"},
    "strategy.peers.*": {"taps", "optimizer"},
    "scheduler": {"interval", "horizon"},
    "trainer": {"every_n_train_steps"},
}

# node -> arguments that kdlab gives at run time
GIVEN: dict[str, set[str]] = {
    "optimizer": {"params"},
    "scheduler": {"optimizer"},
    "strategy": {"student", "teacher", "objective", "task", "optimization", "seed", "epochs", "taps", "earlier"},
    "logger": {"run"},
    "task": {"classes", "shape", "vocabulary", "end_tokens", "decode"},
    "trainer": {
        "callbacks",
        "logger",
        "plugins",
        "enable_progress_bar",
        "enable_model_summary",
        "enable_checkpointing",
        "use_distributed_sampler",
        "num_sanity_val_steps",
        "default_root_dir",
    },
}

# Keys that do not change the result, so they are no part of a run's identity. The list is short on purpose.
NOT_IDENTITY = frozenset(
    {
        "choices",
        "overrides",  # what was typed
        "name",
        "paths",
        "fresh",
        "progress",
        "logger",  # where the run is kept and how it is shown
        "data.vocabulary",  # a fact of the data; a network that needs it has it as an argument of its own
        *(f"teacher.{key}" for key in CACHE_KEYS),
    }
)

#: the task of configs that were written before tasks could be chosen
DEFAULT_TASK = {"_target_": "kdlab.tasks.Classification"}

# Keys of kdlab's own that were added after the first hashes were made, each with its default: pattern over dotted keys
# -> default. Such a key counts only where it differs from its default, so runs from before it keep their hash.
# (Arguments of kdlab's classes need no entry: kdlab.runs.identity.) A default in this table must never change: existing
# hashes would then mean another run.
ADDED: dict[str, object] = {
    "teacher.part": None,
    "teacher.cache_dtype": "float32",
    "teacher.cache_codec": "dense",
    "teacher.members.*.part": None,
    "student.initial.part": None,
    "student.initial.new_head": False,
    "student.initial.rows": 128,
    "task": DEFAULT_TASK,
    "channels_last": False,
    "data.augment_seed": None,
    "data.replicas": None,
    "trainer.max_steps": -1,
    "trainer.every_n_train_steps": None,
}

# a task of kdlab -> its loss on labels (empty: it has none), and its loss on a teacher's outputs
LOSSES: dict[str, tuple[str, str]] = {
    "kdlab.tasks.Classification": ("ce", "kd"),
    "kdlab.tasks.MultiLabel": ("bce", "sigmoid_kd"),
    "kdlab.tasks.Regression": ("mse", "logit_mse"),
    "kdlab.tasks.TokenClassification": ("ce", "kd"),
    "kdlab.tasks.MaskedLM": ("ce", "kd"),
    "kdlab.tasks.Embedding": ("", "logit_mse"),
}

# Spellings of one value: dotted key -> {spelling: canonical spelling}.
SPELLINGS: dict[str, dict[str, str]] = {
    "trainer.precision": {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"},
}


def matching(table: dict[str, set[str]], key: str) -> set[str]:
    """The union of a table's entries whose pattern matches the dotted key."""
    return set().union(*(names for pattern, names in table.items() if fnmatchcase(key, pattern)))


def own_keys(key: str) -> set[str]:
    """kdlab's own keys in the node at a dotted key.

    >>> own_keys("loss.kd"), own_keys("optimizer")
    ({'weight'}, set())
    """
    return matching(OWN_KEYS, key)


def teacher_nodes(teacher: object) -> dict[str, dict]:
    """The teacher's node, and those of its members if it is an ensemble, by their dotted keys."""
    if not isinstance(teacher, dict):
        return {}
    members = teacher.get("members")
    found = {
        "teacher": teacher,
        **{f"teacher.members.{name}": node for name, node in (members.items() if isinstance(members, dict) else ())},
    }
    return {key: node for key, node in found.items() if isinstance(node, dict)}


def run_nodes(config: dict) -> dict[str, dict]:
    """Every node of a config that may name an earlier run, by its dotted key: those of teachers, and of the student's
    initial weights.

    >>> list(run_nodes({"teacher": {"members": {"a": {"run": "x"}}}, "student": {"initial": {"run": "y"}}}))
    ['teacher', 'teacher.members.a', 'student.initial']
    """
    student = config.get("student")
    initial = student.get("initial") if isinstance(student, dict) else None
    of = initial.get("of") if isinstance(initial, dict) else None
    return {
        **teacher_nodes(config.get("teacher")),
        **({"student.initial": initial} if isinstance(initial, dict) else {}),
        **({"student.initial.of": of} if isinstance(of, dict) else {}),
    }


def takes_over_the_seed(node: dict) -> bool:
    """Whether the run that a node names takes the seed of the run that names it. It does with a null ``seed``, and by
    default with ``same_but``.

    >>> nodes = {"experiment": "teacher/digits"}, {"experiment": "teacher/digits", "seed": None}, {"same_but": []}
    >>> [takes_over_the_seed(node) for node in nodes]
    [False, True, True]
    """
    return node.get("seed", None if "same_but" in node else 1) is None


def role_of(key: str) -> str:
    """The role, in one word, of the run that a node names.

    >>> role_of("teacher.members.a"), role_of("student.initial")
    ('teacher', 'initial')
    """
    return key.split(".")[key.startswith("student.")]
