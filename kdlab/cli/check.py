"""``kdlab check [EXPERIMENT…]``: compose experiments and check every name and signature in them. Nothing is built or run."""

from __future__ import annotations

from kdlab.config.check import check, check_facts
from kdlab.config.compose import compose
from kdlab.config.paths import conf_dir
from kdlab.config.presets import read
from kdlab.errors import InputError

from .parser import Parser

GROUPS = ("data", "student", "initial", "teacher", "loss", "mixing", "strategy", "preset", "optimizer", "scheduler", "trainer", "logger",
          "callbacks", "debug")
# what these choices must be given, since no default can stand for it
MUST_BE_GIVEN = {"data=image_folder": ["data.classes=10", "teacher=none", "strategy=supervised"],
                 "scheduler=multistep": ["trainer.max_epochs=240"],
                 "student=network": ["student._target_=kdlab.models.MLP", "+student.classes=10", "+student.shape=[1,8,8]"],
                 "teacher=network": ["teacher._target_=kdlab.models.MLP", "+teacher.classes=10", "+teacher.shape=[1,8,8]"],
                 "initial=run": ["student.initial.run=RUN"], "initial=checkpoint": ["student.initial.checkpoint=FILE"],
                 "initial=trained": ["student.initial.experiment=teacher/digits"],
                 "initial=same_but": ['student.initial.same_but=["loss=[ce]","initial=none"]'],
                 "teacher=same_but": ['teacher.same_but=["student=mlp_wide","teacher=trained"]'],
                 "teacher=previous_generation": ["strategy=born_again"], "teacher=run": ["teacher.run=RUN"],
                 "teacher=checkpoint": ["teacher.checkpoint=FILE"],
                 "teacher=huggingface": ["teacher.model=NAME"],
                 **{f"{role}={library}": [f"{role}.model=NAME"] for role in ("student", "teacher") for library in ("timm", "torchvision")}}


def run(arguments: list[str]) -> int:
    parser = Parser(prog="kdlab check", description=__doc__)
    parser.add_argument("experiment", nargs="*", help="names below conf/experiment; default: all, and every file of every group")
    options = parser.parse_args(arguments)
    lines = [[f"experiment={name}"] for name in options.experiment] or everything()
    failed = 0
    for overrides in lines:
        name = overrides[0]
        try:
            config = compose(overrides)
            check(config)
            check_facts(config)
        except InputError as error:
            failed += 1
            print(f"wrong  {name}")
            for problem in error.problems:
                print(f"         {problem}")
        else:
            print(f"ok     {name}")
    print(f"{len(lines) - failed} of {len(lines)} are right")
    return 2 if failed else 0


def everything() -> list[list[str]]:
    """The override lines of every experiment and of every choice of every group."""
    found = []
    for group in (*GROUPS, "experiment"):
        folder = conf_dir() / group
        for path in sorted(folder.rglob("*.yaml")):
            choice = f"{group}={path.relative_to(folder).with_suffix('')}"
            if group == "loss":
                choice = f"loss=[{path.stem}]"
            if group == "preset" and path.parent != folder:        # with the losses that it gives numbers to
                terms = ",".join(("ce", *read(path, choice).methods))
                found.append([choice, f"loss=[{terms}]"])
                continue
            found.append([choice, *MUST_BE_GIVEN.get(choice, [])])
    return found
