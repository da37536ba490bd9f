"""What may be wrong with a study."""

from .table import Mistake, Place

STUDY = """title: Tiny
scale: full
tables:
  main:
    title: A table
    rows:
      alone: {overrides: [strategy=supervised, trainer.max_epochs=1], seeds: [1]}
"""


def having(old: str = "", new: str = ""):
    """Writes the study with a change."""

    def write(place: Place) -> None:
        folder = place.folder / "experiments" / "tiny"
        folder.mkdir(parents=True)
        assert old in STUDY
        (folder / "study.yaml").write_text(STUDY.replace(old, new) if old else STUDY)

    return write


def tampered(place: Place) -> None:
    having()(place)
    (place.folder / "experiments" / "tiny" / "README.md").write_text(
        "<!-- table: main -->\n| typed | by hand |\n<!-- end of table -->\n"
    )


TINY = ["reproduce", "tiny"]

MISTAKES = [
    Mistake("study that is not named", ["reproduce"], ["which study", "kdlab reproduce --list"]),
    Mistake(
        "misspelled study", ["reproduce", "tniy"], ["there is no study 'tniy'", "did you mean 'tiny'"], setup=having()
    ),
    Mistake(
        "folder without a study", ["reproduce", "experiments"], ["experiments holds no study.yaml"], setup=having()
    ),
    Mistake("two studies at a time", [*TINY, "tiny"], ["one study at a time"], setup=having()),
    Mistake(
        "study that is changed on the command line",
        [*TINY, "trainer.max_epochs=9"],
        ["trainer.max_epochs=9", "study.yaml"],
        setup=having(),
    ),
    Mistake(
        "option of reproduce misspelled", [*TINY, "--wirte"], ["--wirte", "kdlab reproduce --help"], setup=having()
    ),
    Mistake(
        "writing the tables of a study that is not there",
        ["reproduce", "--render", "tniy"],
        ["there is no study 'tniy'"],
        setup=having(),
    ),
    Mistake(
        "writing tables with an override",
        ["reproduce", "--render", "tiny", "paths.runs=x"],
        ["--render trains nothing", "paths.runs=x"],
        setup=having(),
    ),
    Mistake(
        "launcher of a study",
        [*TINY, "hydra.launcher.wrokers=2"],
        ["wrokers", "did you mean 'workers'"],
        setup=having(),
    ),
    Mistake(
        "workers for a study",
        [*TINY, "hydra.launcher.workers=0"],
        ["hydra.launcher.workers", "at least 1"],
        setup=having(),
    ),
    Mistake(
        "misspelled key of a study",
        TINY,
        ["study.yaml", "there is no key 'titel'", "did you mean 'title'"],
        given="`titel:` in study.yaml",
        setup=having("title: Tiny", "titel: Tiny"),
    ),
    Mistake(
        "seeds of a study",
        TINY,
        ["tables.main.rows.alone: seeds must be a list"],
        given="`seeds: 1` in study.yaml",
        setup=having("[1]", "1"),
    ),
    Mistake(
        "sweep that a row's name says nothing of",
        TINY,
        ["strategy=supervised,ema is a sweep", "{strategy}"],
        given="a row of `strategy=supervised,ema`",
        setup=having("[strategy=supervised,", '["strategy=supervised,ema",'),
    ),
    Mistake(
        "misspelled choice in a study",
        TINY,
        ["strategy=supervisde", "did you mean 'supervised'", "[in strategy=supervisde"],
        given="`strategy=supervisde` in study.yaml",
        setup=having("supervised", "supervisde"),
    ),
    Mistake(
        "value in a study that cannot be",
        TINY,
        ["trainer.max_epochs must be a whole number of at least 1"],
        given="`trainer.max_epochs=0` in study.yaml",
        setup=having("max_epochs=1", "max_epochs=0"),
    ),
    Mistake(
        "study.yaml that is no YAML",
        TINY,
        ["study.yaml cannot be read", "line 2, column 6"],
        given="`title: [Tiny`",
        setup=having("title: Tiny\nscale", "title: [Tiny\nscale"),
    ),
    Mistake(
        "table of a study typed by hand",
        ["reproduce", "--check", "tiny"],
        ["there is text after <!-- table: main -->", "no results", "0 of 1"],
        code=1,
        setup=tampered,
        stream="out",
    ),
]
