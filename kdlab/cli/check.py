"""``kdlab check [EXPERIMENT…]``, ``kdlab check OVERRIDE…``: compose experiments, or one run, and check every name and
signature in them. No data are opened, no network is built, and nothing is run: ``kdlab train`` checks those before it
trains. ``kdlab check data=image_folder data.folder=FOLDER --images`` reads every
image of a folder. ``kdlab check task=causal_lm OVERRIDE… --memory`` estimates memory and operations of a step on
each device, from the sizes of the networks alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from kdlab.config.chains import place
from kdlab.config.check import check, check_facts
from kdlab.config.compose import compose
from kdlab.config.paths import GROUPS, conf_dir
from kdlab.config.presets import read
from kdlab.errors import InputError

from .parser import Parser

_TOKENS = ["data.classes=2", "data.tokenizer=NAME", "data.vocabulary=30522", "student=bert"]
_CAUSAL = ["data.train=FILE", "data.tokenizer=NAME", "data.vocabulary=49152"]
_CAUSAL_DATA = ["task=causal_lm", "data=causal_text", *_CAUSAL]
_GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")
# the keys that these choices need, since they have no default
MUST_BE_GIVEN = {
    "data=text": [*_TOKENS, "data.train=FILE"],
    "data=huggingface": [*_TOKENS, "data.dataset=NAME"],
    **{f"data=glue/{name}": ["student=bert", *(["task=regression"] * (name == "stsb"))] for name in _GLUE},
    "data=movie_snippets": ["student=bert"],
    "task=masked_lm": ["data=text", "data.train=FILE", *_TOKENS[1:], "student.head=masked_lm", "strategy=supervised"],
    "task=causal_lm": ["data=causal_text", *_CAUSAL, "student=llama"],
    "data=causal_text": ["task=causal_lm", *_CAUSAL, "student=llama"],
    "data=sums": ["task=causal_lm", "student=llama"],
    "student=llama": _CAUSAL_DATA,
    "student=llama_wide": _CAUSAL_DATA,
    "student=causal": [*_CAUSAL_DATA, "student.pretrained=NAME"],
    "teacher=served": [*_CAUSAL_DATA, "student=llama", "teacher.address=http://localhost:8000", "teacher.model=NAME"],
    "teacher=routed": [
        *(*_CAUSAL_DATA, "student=llama", "teacher.column=source"),
        *("+teacher@teacher.members.maths=run", "teacher.members.maths.run=RUN"),
        *("+teacher@teacher.members.code=causal", "teacher.members.code.pretrained=NAME"),
    ],
    "teacher=causal": [*_CAUSAL_DATA, "student=llama", "teacher.pretrained=NAME"],
    "data=diabetes": ["task=regression"],
    "data=digit_attributes": ["task=multilabel"],
    "data=image_folder": ["data.classes=10", "teacher=none", "strategy=supervised"],
    "scheduler=multistep": ["trainer.max_epochs=240"],
    "student=network": ["student._target_=kdlab.models.MLP", "+student.classes=10", "+student.shape=[1,8,8]"],
    "teacher=network": ["teacher._target_=kdlab.models.MLP", "+teacher.classes=10", "+teacher.shape=[1,8,8]"],
    "initial=run": ["student.initial.run=RUN"],
    "initial=checkpoint": ["student.initial.checkpoint=FILE"],
    "initial=trained": ["student.initial.experiment=teacher/digits"],
    "initial=teacher_layers": ["teacher=run", "teacher.run=RUN"],
    "initial=same_but": ['student.initial.same_but=["loss=[ce]","initial=none"]'],
    "teacher=same_but": ['teacher.same_but=["student=mlp_wide","teacher=trained"]'],
    "teacher=previous_generation": ["strategy=born_again"],
    "teacher=run": ["teacher.run=RUN"],
    "teacher=checkpoint": ["teacher.checkpoint=FILE"],
    "student=encoder": ["student.pretrained=NAME"],
    "teacher=encoder": ["teacher.pretrained=NAME"],
    **{
        f"{role}={library}": [f"{role}.model=NAME"]
        for role in ("student", "teacher")
        for library in ("timm", "torchvision", "huggingface")
    },
}


def run(arguments: list[str]) -> int:
    """Run ``kdlab check``; returns 0 if everything is right, 2 if not.

    Raises:
        InputError: the options are wrong, ``--images`` is given without image folders, or ``--memory`` without a run.
    """
    parser = Parser(prog="kdlab check", description=__doc__)
    parser.add_argument(
        "experiment",
        nargs="*",
        help=(
            "names below conf/experiment, or the overrides of one run (KEY=VALUE); default: all experiments, and "
            "every file of every group"
        ),
    )
    parser.add_argument(
        "--images",
        action="store_true",
        help="with data=image_folder: read every image, and list those that cannot be read",
    )
    parser.add_argument(
        "--memory",
        action="store_true",
        help="with task=causal_lm: estimate memory and operations of a step on each device",
    )
    options = parser.parse_args(arguments)
    typed = [text for text in options.experiment if "=" in text]
    if options.images:
        return _images([text if "=" in text else f"experiment={text}" for text in options.experiment])
    lines = [
        *([typed] if typed else []),
        *([f"experiment={name}"] for name in options.experiment if name not in typed),
    ]
    if options.memory and not lines:
        raise InputError(f"check: --memory needs the overrides of a run; for example {_EXAMPLE}")
    lines = lines or everything()
    failed = 0
    for overrides in lines:
        name = " ".join(overrides) if overrides is typed else overrides[0]
        try:
            config = compose(overrides)
            check(config)
            check_facts(config)
            estimated = _estimated(config) if options.memory else ""
        except InputError as error:
            failed += 1
            print(f"wrong  {name}")
            for problem in error.problems:
                print(f"         {problem}")
        else:
            print(f"ok     {name}")
            if estimated:
                print(f"\n{estimated}\n")
    print(
        f"{len(lines) - failed} of {len(lines)} are right (names and values; no data were opened, and no networks "
        "built)"
    )
    return 2 if failed else 0


_EXAMPLE = (
    "kdlab check --memory task=causal_lm data=causal_text data.train=FILE data.tokenizer=NAME data.vocabulary=128256 "
    "student=causal student.pretrained=meta-llama/Llama-3.1-8B strategy=supervised"
)


def _estimated(config: dict) -> str:
    """Memory and operations of a training step, as they are printed."""
    from kdlab.training.estimating import estimate

    return estimate(config).text()


def everything() -> list[list[str]]:
    """The override lines of every experiment and of every choice of every group."""
    found = []
    for group in (*GROUPS, "experiment"):
        folder = conf_dir() / group
        for path in sorted(folder.rglob("*.yaml")):
            choice = f"{group}={path.relative_to(folder).with_suffix('')}"
            if group == "loss":
                choice = f"loss=[{path.stem}]"
            if group == "preset" and path.parent != folder:  # with the losses whose numbers it sets
                terms = ",".join(("ce", *read(path, choice).methods))
                found.append([choice, f"loss=[{terms}]"])
                continue
            found.append([choice, *MUST_BE_GIVEN.get(choice, [])])
    return found


def _images(overrides: list[str]) -> int:
    """Read every image of a run's data; returns 2 if some cannot be read, else 0."""
    from kdlab.data.images.image_folder import ImageFolder
    from kdlab.training.assemble import make_data

    if not overrides:
        raise InputError(
            "check: --images needs the data set; for example kdlab check data=image_folder data.folder=FOLDER --images"
        )
    kept = [text for text in overrides if place(text).partition(".")[0] in ("experiment", "data", "paths")]
    # the rest need not be given
    composed = compose([*kept, "student=network", "teacher=none", "strategy=supervised"])["data"]
    data = make_data(composed)
    if not isinstance(data, ImageFolder):
        raise InputError(
            "check: --images is for images in class folders (data=image_folder), and data.name is"
            f" {composed.get('name')}"
        )
    splits = data.read()
    for line in data.listed():
        print(line)
    number = wrong = 0
    with ThreadPoolExecutor() as pool:
        for split in splits:
            for problem in _each(pool, data.problem, (split.path(row) for row in range(len(split.target)))):
                number += 1
                if problem is not None:
                    wrong += 1
                    print(f"wrong  {problem}", flush=True)
    print(f"{number - wrong} of {number} images can be read")
    return 2 if wrong else 0


def _each(pool: ThreadPoolExecutor, function: Callable, items: Iterator, at_once: int = 1024) -> Iterator:
    """Like a pool's ``map``, but it does not read all items in advance."""
    while chunk := list(islice(items, at_once)):
        yield from pool.map(function, chunk)
