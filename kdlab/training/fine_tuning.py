"""Commands for messages: how to train a network that cannot teach yet on the run's data first."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from kdlab.config.forms import TEACHER_FORMS
from kdlab.config.keys import TEACHER_KEYS
from kdlab.config.missing import own_folders
from kdlab.config.quoting import value_text
from kdlab.config.signature import signature
from kdlab.errors import KdlabError
from kdlab.runs.record import command_line
from kdlab.runs.run import Run, RunStore

NAME = "fine_tuned"
#: what arguments that give the number of classes are called
CLASSES = ("classes", "num_classes", "num_labels", "n_classes", "nb_classes", "nclass", "out_features")
_OWN = ("_target_", "taps", "normalisation", "initial", *TEACHER_KEYS)  # what is no argument of the network


def commands(config: dict, key: str, student: Sequence[str] | None) -> str:
    """The end of a message, with two commands, each on its own line. The first trains a student on a run's data from
    labels alone. The second repeats the run with it as the teacher. Without the commands where the student's overrides
    are not known.

    Args:
        config: of the run.
        key: that of the teacher that cannot teach.
        student: the overrides that describe it as a student.
    """
    if student is None:
        return " (as a student with strategy=supervised), and name its run by teacher=run"
    typed = config.get("overrides") or []
    first = [*_data(config), *student, "strategy=supervised", *_recipe(config), f"name={NAME}"]
    second = [*_without(key, typed), *_taught_by(key, typed, _path(first))]
    second += _left_over(second) if key == "teacher" else []
    return f":\n  {_command(first)}\nand let that run teach:\n  {_command(second)}"


def _data(config: dict) -> list[str]:
    """The overrides that name a run's data: those on the command line, or the changes that an experiment file makes.
    Where the file of the data is not found, all of its values."""
    typed, choices = config.get("overrides") or [], config.get("choices") or {}
    if not choices.get("experiment"):
        return [text for text in typed if re.match(r"[+~]*(data|paths)[.=@]", text)]
    chosen = f"data={choices['data']}"
    try:
        usual = _composed([chosen, "teacher=none", "strategy=supervised"])["data"]
    except KdlabError:  # a file that is not found from here: every value is named
        usual = {}
    changed = [
        _override(f"++data.{name}", value)
        for name, value in config["data"].items()
        if name != "mixing" and usual.get(name) != value
    ]
    return [chosen, *changed, *(text for text in typed if re.match(r"[+~]*paths[.]", text))]


def _recipe(config: dict) -> list[str]:
    """The overrides on the command line that say how long and how a network is trained: the one that is fine-tuned is
    trained in the same way. Those of an optimiser that an experiment file chose would fit no other, so they are left
    out.

    >>> _recipe({"overrides": ["trainer.max_epochs=3", "loss=[ce,kd]", "optimizer=sgd", "seed=4"]})
    ['trainer.max_epochs=3', 'optimizer=sgd']
    """
    chosen = (config.get("choices") or {}).get("experiment")
    groups = ("task", "trainer") if chosen else ("task", "trainer", "optimizer", "scheduler")
    return [text for text in config.get("overrides") or [] if re.match(rf"[+~]*({'|'.join(groups)})[.=@]", text)]


def _without(key: str, typed: Sequence[str]) -> list[str]:
    """The overrides on the command line without those of a teacher; a member that they remove stays removed."""
    return [text for text in typed if text == f"~{key}" or not re.match(rf"[+~]*{re.escape(key)}(@\S*)?([.=]|$)", text)]


def _taught_by(key: str, typed: Sequence[str], run: str) -> list[str]:
    """The overrides that replace a teacher, or a member of one, by a run."""
    if key == "teacher":
        return ["teacher=run", _override("teacher.run", run)]
    own = any(re.match(rf"\+\+?{re.escape(key)}=", text) for text in typed)  # no file has it, or it was removed
    return [*([] if own else [f"~{key}"]), _override(f"+{key}", {"run": run})]


def _left_over(overrides: Sequence[str]) -> list[str]:
    """The overrides that remove an experiment file's keys of the teacher that is replaced."""
    try:
        teacher = _composed(overrides)["teacher"]
    except KdlabError:  # its message stands where the command is typed
        return []
    named = [f"~teacher.{name}" for name in teacher if name not in {*TEACHER_FORMS["run"], *TEACHER_KEYS, "config"}]
    return [*named, *(["teacher.normalisation=null"] if teacher.get("normalisation") else [])]


def as_student(node: dict, answered: int | None = None, classes: int | None = None) -> list[str] | None:
    """The overrides that describe a teacher's network as a student with a head for the data's classes; None where its
    argument for the number of classes is not known.

    Args:
        node: the network's, by ``_target_``.
        answered: how many classes it has now.
        classes: of the data.

    >>> as_student({"_target_": "kdlab.models.timm_model", "model": "resnet18", "pretrained": True,
    ...             "options": {"drop_rate": 0.1}})
    ['student=timm', 'student.model=resnet18', 'student.pretrained=true', '+student.options.drop_rate=0.1']
    >>> as_student({"_target_": "kdlab.models.MLP", "classes": 100, "shape": [1, 8, 8]}, 100, 4)
    ['student=network', 'student._target_=kdlab.models.MLP', '+student.classes=4', '+student.shape=[1,8,8]']
    """
    node = _by_name(node)
    target = node["_target_"]
    if target.startswith("kdlab.models.") and target.rpartition(".")[2] in ("timm_model", "torchvision_model"):
        library = target.rpartition(".")[2].removesuffix("_model")
        weights = ["student.pretrained=true"] if node.get("pretrained") else []
        if node.get("weights"):
            weights = [_override("student.weights", node["weights"])]
        options = [_override(f"+student.options.{name}", value) for name, value in (node.get("options") or {}).items()]
        return [f"student={library}", _override("student.model", node["model"]), *weights, *options]
    if target == "kdlab.models.HuggingFaceClassifier":
        revision = [_override("student.revision", node["revision"])] if node.get("revision") else []
        return ["student=huggingface", _override("student.model", node["model"]), *revision]
    if target == "kdlab.models.TextEncoder" and node.get("pretrained"):
        own = ("pretrained", "revision", "head", "pooling", "normalise", "allow_pickle", "trust_remote_code")
        return ["student=encoder", *(_override(f"student.{name}", node[name]) for name in own if node.get(name))]
    arguments = {name: value for name, value in node.items() if name not in _OWN}
    name = classes_argument(node, answered)
    if classes is not None and answered != classes:
        if name is None:
            return None
        arguments[name] = classes
    taps = [_override("+student.taps", node["taps"])] if node.get("taps") else []
    given = [_override(f"+student.{name}", value) for name, value in arguments.items()]
    return ["student=network", f"student._target_={target}", *given, *taps]


def _by_name(node: dict) -> dict:
    """kdlab's node, by model name, for the node of a library's own function. kdlab's function can replace the head."""
    target, options = node["_target_"], {name: value for name, value in node.items() if name not in _OWN}
    if target == "timm.create_model" and options.get("model_name"):
        pretrained = options.pop("pretrained", False)
        own = {"_target_": "kdlab.models.timm_model", "model": options.pop("model_name"), "pretrained": pretrained}
    elif re.fullmatch(r"torchvision\.models\.[a-z]\w*", target):
        own = {
            "_target_": "kdlab.models.torchvision_model",
            "model": target.rpartition(".")[2],
            "weights": options.pop("weights", None),
        }
    else:
        return node
    given = ("num_classes", "in_chans", "progress")
    return {**own, "options": {name: value for name, value in options.items() if name not in given}}


def run_as_student(config: dict, run: Run) -> list[str]:
    """The overrides that describe the student of another run's config. If that run is finished, the student begins with
    its weights and a new head."""
    choice = (config.get("choices") or {}).get("student")
    own = [text for text in config.get("overrides") or [] if re.match(r"[+~]*student\.(?!initial|classes)", text)]
    return [f"student={choice}", *own, *(beginning("run", run.path) if run.finished else [])]


def beginning(form: str, path: Path | str) -> list[str]:
    """The overrides for a student that begins with weights of other classes."""
    return [f"initial={form}", _override(f"student.initial.{form}", str(path)), "student.initial.new_head=true"]


def classes_argument(node: dict, answered: int | None) -> str | None:
    """The argument that gives a network's number of classes, guessed from names and values."""
    try:
        accepted = signature(node["_target_"]).accepted
    except LookupError:
        accepted = {}
    named = [name for name in CLASSES if name in node or name in accepted]
    if named:
        return named[0]
    equal = [name for name, value in node.items() if value == answered and not isinstance(value, bool)]
    return equal[0] if answered is not None and len(equal) == 1 else None


def _path(overrides: Sequence[str]) -> str:
    """Where the run of a command will lie."""
    try:
        config = _composed(overrides)
        return str(RunStore(config["paths"]["runs"]).run(config).path)
    except KdlabError:  # its message stands where the command is typed
        return f"runs/{NAME}/…"


def _composed(overrides: Sequence[str]) -> dict:
    """A config of overrides that may choose files of the user's own folders."""
    from kdlab.config.compose import compose

    return compose([*overrides, *_search_path()])


def _search_path() -> list[str]:
    """The override that names the user's own folders of config files, as far as the command line or Hydra names any."""
    program, *typed = shlex.split(command_line()) or [""]
    folders = own_folders(typed if program.startswith("kdlab") else [])
    places = dict.fromkeys(f"file://{folder.resolve()}" for folder in folders)
    return [_override("hydra.searchpath", list(places))] if places else []


def _command(overrides: Sequence[str]) -> str:
    return " ".join(["kdlab train", *map(shlex.quote, [*overrides, *_search_path()])])


def _override(key: str, value: object) -> str:
    return f"{key}={value_text(value)}"
