"""A teacher for data without a teacher experiment: a network that learns their labels, with the recipe of the run that
it will teach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .keys import takes_over_the_seed
from .names import data_name
from .quoting import value_text
from .tokens import inputs_of, usual_student

# what a teacher takes from the run's config: the data and the recipe; and the data keys that are the student's alone: a
# teacher sees all data
SHARED = ("task", "data", "optimizer", "scheduler", "trainer")
STUDENTS_OWN = (
    "data.fraction",
    "data.omit_classes",
    "data.mixing",
    "data.replicas",
    "data.labelled",
    "data.rest",
    "data.unlabelled",
    "data.unlabelled_split",
    "data.teacher_pad_to",
)
FOR_IMAGES, FOR_THE_REST = "cnn_wide", "mlp_wide"


def settle(node: dict, run: dict, folders: Sequence[Path]) -> None:
    """Decide whether a teacher's node is trained by its experiment or as the network that it names, and remove the
    other key.

    If both are given, the network replaces that of the experiment. The experiment may follow from the name of the data;
    if it does not exist, the network learns from labels. If no network is named, it is ``cnn_wide`` for images,
    ``bert_wide`` or ``llama_wide`` for texts, and ``mlp_wide`` otherwise.

    Args:
        node: of a teacher or of a member; changed.
        run: the composed config of the run that it teaches.
        folders: those of config files, kdlab's own among them.
    """
    named = node.get("student")
    if named is None:
        node.pop("student", None)
    experiment = node.get("experiment")
    if experiment is None:
        return
    if is_by_name(experiment, run) and not any(
        (folder / "experiment" / f"{experiment}.yaml").is_file() for folder in folders
    ):
        learn_from_labels(node, run)
    elif named is not None:
        node["overrides"] = [f"student={named}", *(node.get("overrides") or [])]
        del node["student"]


def learn_from_labels(node: dict, run: dict) -> None:
    """Replace the experiment in a teacher's node by a network."""
    del node["experiment"]
    if len(run["data"].get("shape") or ()) == 3:
        usual = FOR_IMAGES
    else:
        texts = "input_ids" in inputs_of(run["data"])
        usual = f"{usual_student(run['data'])}_wide" if texts else FOR_THE_REST
    node.setdefault("student", usual)


def is_by_name(experiment: object, run: dict) -> bool:
    """Whether an experiment is the one that follows from the name of the data."""
    return experiment == f"teacher/{data_name(run)}"


def trains_on_other_data(theirs: dict, run: dict) -> bool:
    """Whether the experiment that follows from the name of the data was written for other data: another Python class,
    with other classes or inputs."""
    return theirs["data"].get("_target_") != run["data"].get("_target_") and any(
        theirs["data"].get(key) != run["data"].get(key) for key in ("classes", "shape")
    )


def overrides_of(node: dict, run: dict, compose: Callable[[Sequence[str]], dict]) -> list[str]:
    """The command line of the run that trains the teacher: ``kdlab train`` with these overrides is that run.

    Args:
        node: of the teacher, with ``student`` and perhaps ``seed`` and ``overrides``.
        run: the composed config of the run that it teaches.
        compose: a plain config of overrides.
    """
    choices, data = run.get("choices") or {}, run["data"]
    begun = [
        *(
            f"{group}={choices[group]}"
            for group in SHARED
            if choices.get(group) and (group, choices[group]) != ("task", "classification")
        ),
        f"student={node['student']}",
        "strategy=supervised",
        f"seed={run['seed'] if takes_over_the_seed(node) else node.get('seed', 1)}",
        "name=teachers",
        f"threads={value_text(run['threads'])}",
    ]
    facts = [
        f"++data.{key}={value_text(data[key])}" for key in ("classes", "shape") if data.get(key) not in (None, "???")
    ]
    head = (run.get("student") or {}).get("head")
    typed = [*begun, *facts]
    plain = compose(typed)
    if head is not None and plain["student"].get("head", head) != head:  # both answer the same question
        typed.append(f"student.head={head}")
        plain = compose(typed)
    for key in SHARED:
        both = isinstance(run.get(key), dict) and isinstance(plain.get(key), dict)
        if changes := list(_changes(key, plain[key], run[key])) if both else []:
            typed += changes
            # a value that refers to a changed one (onecycle's max_lr to the optimizer's lr) has changed too. It must
            # stay a reference: teacher.overrides may change the other value again
            plain = compose(typed)
    return [*typed, *(node.get("overrides") or [])]


def _changes(key: str, before: dict, after: dict) -> Iterator[str]:
    """Overrides that turn one node into another."""
    for name, value in after.items():
        place = f"{key}.{name}"
        if place in STUDENTS_OWN or name in before and before[name] == value:
            continue
        both = isinstance(value, dict) and isinstance(before.get(name), dict)
        if both and value.get("_target_") == before[name].get("_target_"):
            yield from _changes(place, before[name], value)
            continue
        if both:
            yield f"~{place}"
        yield f"++{place}={value_text(value)}"
    # Hydra's grammar cannot remove a key that is null
    yield from (
        f"~{key}.{name}"
        for name in before
        if name not in after and before[name] is not None and f"{key}.{name}" not in STUDENTS_OWN
    )
