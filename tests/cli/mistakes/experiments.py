"""What may be wrong with an experiment file."""

from .table import Mistake, Place

HEAD = "# @package _global_\n"

# what stands in mine/experiment/wrong.yaml, and words of the message
FILES = {
    "misspelled key in a file": (
        HEAD + "trainer: {max_epcohs: 3}\n",
        ["trainer.max_epcohs", "did you mean 'max_epochs'"],
    ),
    "misspelled top-level key in a file": (HEAD + "sed: 3\n", ["sed", "did you mean 'seed'"]),
    "bracket that is not closed in a file": (
        HEAD + "trainer: {max_epochs: 3\n",
        ["mine/experiment/wrong.yaml is not YAML", "line 3"],
    ),
    "tab in a file": (HEAD + "trainer:\n\tmax_epochs: 3\n", ["mine/experiment/wrong.yaml", "line 3", "tab", "spaces"]),
    "wrong indentation in a file": (
        HEAD + "trainer:\n  max_epochs: 3\n   devices: 1\n",
        ["mine/experiment/wrong.yaml", "line 4"],
    ),
    "no indentation in a file": (HEAD + "trainer:\nmax_epochs: 3\n", ["trainer", "max_epochs: kdlab has no such key"]),
    "key twice in a file": (
        HEAD + "seed: 1\nseed: 2\n",
        ["mine/experiment/wrong.yaml", "line 3", "duplicate key seed"],
    ),
    "colon left out in a file": (HEAD + "seed 3\n", ["seed 3", "no such key", "did you mean 'seed'"]),
    "bytes in a file": (HEAD + "\x00\x01", ["mine/experiment/wrong.yaml is not YAML"]),
    "file without its first line": ("seed: 3\n", ["'wrong'", "# @package _global_"]),
    "empty file": ("", ["'wrong'", "# @package _global_"]),
    "list in the place of keys": (
        HEAD + "- seed\n- 3\n",
        ["experiment/wrong", "there is a list where named keys are needed"],
    ),
    "list in the place of a group": (
        HEAD + "trainer: [1, 2]\n",
        ["experiment/wrong", "there is a list where named keys are needed"],
    ),
    "word in the place of a group": (HEAD + "trainer: fast\n", ["trainer", "is missing"]),
    "unknown group in a file": (
        HEAD + "defaults:\n  - override /studnt: mlp\n",
        ["experiment/wrong", "'studnt'", "did you mean 'student'"],
    ),
    "unknown choice in a file": (
        HEAD + "defaults:\n  - override /student: mlpp\n",
        ["student=mlpp", "did you mean 'mlp'"],
    ),
    "slash left out in a file's defaults": (
        HEAD + "defaults:\n  - override student: cnn\n",
        ["experiment/wrong", "override /student"],
    ),
    "override left out in a file's defaults": (HEAD + "defaults:\n  - student: cnn\n", ["override /student: cnn"]),
    "defaults that are no list": (HEAD + "defaults: {student: mlp}\n", ["experiment/wrong", "defaults must be a list"]),
    "file that takes in itself": (HEAD + "defaults:\n  - wrong\n", ["includes itself"]),
    "loss without a target in a file": (HEAD + "loss: {own: {weight: 1}}\n", ["loss.own", "_target_"]),
    "reference of a file to a key that is not there": (
        HEAD + "seed: ${sed}\n",
        ["seed", "'sed'", "did you mean 'seed'"],
    ),
    "experiment that is its own teacher": (
        HEAD + "teacher: {experiment: wrong}\n",
        ["teacher.experiment=wrong", "its own teacher"],
    ),
}


def _lying_there(content: str):
    def setup(place: Place) -> None:
        folder = place.folder / "mine" / "experiment"
        folder.mkdir(parents=True)
        (folder / "wrong.yaml").write_text(content)

    return setup


def _unreadable(place: Place) -> None:
    _lying_there("")(place)
    (place.folder / "mine" / "experiment" / "wrong.yaml").write_bytes(b"\xff\xfeseed: 3\n")


COMMAND = ["train", "--config-dir", "mine", "experiment=wrong"]
MISTAKES = [
    *(
        Mistake(
            what, COMMAND, words, given=f"`mine/experiment/wrong.yaml` holds {content!r}", setup=_lying_there(content)
        )
        for what, (content, words) in FILES.items()
    ),
    Mistake(
        "file that is no UTF-8",
        COMMAND,
        ["mine/experiment/wrong.yaml", "utf-8"],
        given="it is written in UTF-16",
        setup=_unreadable,
    ),
    Mistake("experiment that is not there", ["train", "experiment=teacher/digit"], ["did you mean 'teacher/digits'"]),
    Mistake(
        "sweep with an experiment that is no YAML",
        ["train", "-m", "--config-dir", "mine", "experiment=wrong", "seed=1,2"],
        ["mine/experiment/wrong.yaml is not YAML"],
        given="a bracket is not closed in it",
        setup=_lying_there(HEAD + "trainer: {\n"),
    ),
]
