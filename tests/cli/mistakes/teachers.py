"""What may be wrong with a teacher that is named."""

import torch

from kdlab.runs.checkpoints import student_weights
from kdlab.tasks.metric import REGRESSION

from .table import Mistake, Place

MLP = "+teacher.network={_target_: kdlab.models.MLP, classes: 10, shape: [1, 8, 8], hidden: [256, 256]}"
SMALL = "+teacher.network={_target_: kdlab.models.MLP, classes: 10, shape: [1, 8, 8], hidden: [8]}"
RUN = ["train", "teacher=run", "teacher.run={run}"]
MATHS = ["+teacher@teacher.members.maths=run", "teacher.members.maths.run={teacher}"]
PICTURES = [
    "train",
    "data=image_folder",
    "data.folder=pictures",
    "data.size=8",
    "data.workers=0",
    "data.batch_size=8",
    "student=cnn",
    "teacher=run",
    "teacher.run={teacher}",
]


def _file(name: str, content: bytes):
    return lambda place: (place.folder / name).write_bytes(content)


def _list(place: Place) -> None:
    torch.save([1, 2], place.folder / "list.ckpt")


def _noise(place: Place) -> None:
    """A teacher's weights in shape only."""
    found = place.taught()
    weights = student_weights(torch.load(found.checkpoint("last"), weights_only=True), found.checkpoint("last"))
    torch.manual_seed(0)
    torch.save({name: torch.randn_like(value) for name, value in weights.items()}, place.folder / "noise.ckpt")


def _unfinished(place: Place) -> None:
    place.finished()[0].update(status="interrupted")


def _of_values(place: Place) -> None:
    place.finished()[0].update(task=REGRESSION.as_record())


def _without_checkpoint(place: Place) -> None:
    place.finished()[0].checkpoint("last").unlink()


def _pictures(place: Place) -> None:
    from tests.data.images.pictures import folder_of_pictures

    folder_of_pictures(place.folder / "pictures")


def _torn(name: str, content: bytes, how: str) -> Mistake:
    return Mistake(
        f"{how} checkpoint of a teacher, {name.rpartition('.')[2]}",
        ["train", "teacher=checkpoint", f"teacher.checkpoint={name}", MLP],
        [name, "cannot be read"],
        given=f"{name} is {how}",
        setup=_file(name, content),
    )


MISTAKES = [
    *(
        _torn(f"torn.{ending}", content, how)
        for ending in ("ckpt", "safetensors")
        for how, content in (("empty", b""), ("torn", b"PK\x03\x04 torn"))
    ),
    Mistake(
        "checkpoint of another architecture",
        ["train", "teacher=checkpoint", "teacher.checkpoint={teacher}/checkpoints/last.ckpt", SMALL],
        ["does not fit MLP", "stage1.linear.weight"],
    ),
    Mistake(
        "checkpoint that is no state dict",
        ["train", "teacher=checkpoint", "teacher.checkpoint=list.ckpt", MLP],
        ["holds no state dict"],
        given="the file holds a list",
        setup=_list,
    ),
    Mistake(
        "checkpoint of nobody knows what network",
        ["train", "teacher=checkpoint", "teacher.checkpoint=alone.ckpt"],
        ["alone.ckpt", "teacher.network._target_"],
        given="it lies in no run",
        setup=_file("alone.ckpt", b""),
    ),
    Mistake(
        "teacher no better than chance",
        ["train", "teacher=checkpoint", "teacher.checkpoint=noise.ckpt", MLP],
        ["no better than chance"],
        given="its weights are noise",
        setup=_noise,
    ),
    Mistake(
        "teacher that is not finished",
        RUN,
        ["teacher.run", "is not finished", "interrupted"],
        given="the run was interrupted",
        setup=_unfinished,
    ),
    Mistake(
        "teacher of another task",
        RUN,
        ["task=regression (values)", "task=classification (classes)", "teacher=trained"],
        given="the run learned values",
        setup=_of_values,
    ),
    Mistake(
        "teacher's run without its checkpoint",
        RUN,
        ["there is no checkpoint", "last.ckpt"],
        given="last.ckpt was removed",
        setup=_without_checkpoint,
    ),
    Mistake(
        "teacher of other classes and inputs",
        [*PICTURES, "data.classes=3"],
        ["teacher"],
        given="it was trained on digits, these are pictures",
        setup=_pictures,
    ),
    Mistake(
        "run that would be its own teacher",
        ["train", "teacher=same_but", "teacher.same_but=[]"],
        ["teacher.same_but=[]", "its own predecessor"],
    ),
    Mistake(
        "override misspelled in the run before",
        ["train", "teacher=same_but", 'teacher.same_but=["student=mlpp","teacher=none"]'],
        ["teacher.same_but", "student=mlpp", "did you mean 'mlp'"],
    ),
    Mistake(
        "generation that is none",
        ["train", "strategy=born_again", "strategy.generation=0"],
        ["strategy.generation", "strategy=supervised"],
    ),
    Mistake(
        "assistants that are no lists",
        ["train", "strategy=assistant", "teacher.assistants=[cnn]"],
        ["teacher.assistants", "list of overrides"],
    ),
    Mistake(
        "beginning of another architecture",
        ["train", "strategy=supervised", "initial=run", "student.initial.run={teacher}"],
        ["student.initial", "does not fit MLP"],
    ),
    Mistake(
        "codec of kept answers that does not exist",
        ["train", "teacher.cache=fixed", "teacher.cache_codec=topk"],
        ["teacher.cache_codec must be one of", "did you mean 'top_k'"],
    ),
    Mistake(
        "codec without answers that are kept",
        ["train", "teacher.cache_codec=top_k"],
        ["teacher.cache_codec=top_k changes answers that are kept"],
    ),
    Mistake(
        "option of another codec",
        ["train", "teacher.cache=fixed", "teacher.cache_codec=top_k", "+teacher.cache_samples=9"],
        ["teacher.cache_samples is an option of teacher.cache_codec=sampled"],
    ),
    Mistake(
        "option of a codec without a plus sign",
        ["train", "teacher.cache=fixed", "teacher.cache_codec=top_k", "teacher.cache_k=9"],
        ["it is given with a plus sign: +teacher.cache_k=9"],
    ),
    Mistake(
        "codec of tokens for another task",
        ["train", "teacher.cache=fixed", "teacher.cache_codec=hidden"],
        ["teacher.cache_codec=hidden is for the words of a vocabulary"],
    ),
    Mistake(
        "column that names teachers, of data without columns",
        ["train", "teacher=routed", "teacher.column=source", "+teacher@teacher.members.maths=trained"],
        ["teacher.column=source: Digits has no columns beside inputs and labels", "data=causal_text"],
    ),
    Mistake(
        "teachers by a column, and none is named",
        ["train", "teacher=routed", "teacher.column=source"],
        ["teacher.members: a routed teacher needs members", "+teacher@teacher.members.maths=run"],
    ),
    Mistake(
        "default among teachers by a column that is none of them",
        ["train", "teacher=routed", "teacher.column=source", *MATHS, "teacher.default=math"],
        ["teacher.default: there is no member 'math'; did you mean 'maths'"],
    ),
]
