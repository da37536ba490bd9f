"""Every command of the READMEs is run, page by page, in its order, in one folder.

The pages on losses, strategies and the library have tests of their own; those of the studies are run by ``kdlab
reproduce``. What needs a cluster stands in blocks of the kind ``sh``.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.images.pictures import COLOURS, folder_of_pictures

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks_of(text: str) -> list[tuple[str, str]]:
    return re.findall(r"```(bash|python)\n(.*?)```", text, re.DOTALL)


BLOCKS = blocks_of(README)
FIRST, SECOND = [text.strip() for kind, text in BLOCKS if "venv" in text]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *(ROOT / "kdlab").rglob("README.md")]
    if path.parent.name not in ("losses", "strategies", "library", "generate")  # of generate, all lines need a network
)


def _verbs(line: str) -> list[list[str]]:
    """The kdlab commands of a line of shell, as arguments."""
    return [
        shlex.split(part)[1:] for part in line.split(" && ") if part.strip().startswith((".venv/bin/kdlab ", "kdlab "))
    ]


def test_readme_is_short():
    assert len(README.encode()) <= 7 * 1024


def test_links_of_the_pages_lead_somewhere():
    pages = [
        *PAGES,
        *(f"kdlab/{name}/README.md" for name in ("losses", "strategies", "library")),
        "kdlab/models/LARGE.md",
        ".github/CONTRIBUTING.md",
    ]
    pages += [path.relative_to(ROOT).as_posix() for path in (ROOT / "experiments").rglob("README.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert "://" in target or (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_the_two_lines_do_their_own_set_up():
    for line in (FIRST, SECOND):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install") and "\n" not in line
    assert [arguments[0] for arguments in _verbs(FIRST)] == ["train", "train", "compare"]
    assert "pytest" in SECOND


@pytest.mark.slow
def test_the_first_line_in_one_epoch(kdlab):
    """As it stands in the README, but one epoch a run; the whole of it is a slow test."""
    for arguments in _verbs(FIRST):
        shorter = (
            ["trainer.max_epochs=1", 'teacher.overrides=["trainer.max_epochs=3"]'] if arguments[0] == "train" else []
        )
        if "strategy=supervised" in arguments:
            shorter = shorter[:1]
        code, out, err = kdlab(*arguments, *shorter)
        assert code == 0, err
    assert "kd.temperature=2" in out and "student baseline" in out and "teacher/digits" in out
    # head, teacher, baseline, variants
    assert Path("runs/quickstart/compare.csv").read_text().count("\n") == 1 + 1 + 1 + 6


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_page(kdlab, workplace, monkeypatch, page):
    monkeypatch.syspath_prepend(workplace)
    folder_of_pictures(workplace / "FOLDER", colours={**COLOURS, "yellow": (220, 210, 40)})
    commands = 0
    for kind, text in blocks_of((ROOT / page).read_text(encoding="utf-8")):
        if kind == "python" and text.startswith("# my_"):  # a file of the user's own
            (workplace / text.split()[1]).write_text(text)
        elif kind == "python":
            exec(compile(text, page, "exec"), {})
        elif "venv" not in text:
            for line in text.strip().splitlines():
                if "RUN" in line:
                    runs = sorted(str(path.parent) for path in Path("runs").glob("quickstart/*/run.json"))
                    if not runs:
                        assert kdlab("train", "trainer.max_epochs=1")[0] == 0
                        runs = [str(path.parent) for path in Path("runs").glob("quickstart/*/run.json")]
                    line = line.replace("RUN", runs[0]).replace("OTHER", runs[-1])
                (arguments,) = _verbs(line)
                if "FOLDER" in line and arguments[0] == "train":  # 36 small images
                    arguments += ["data.batch_size=8", "data.workers=0", "trainer.max_epochs=2"]
                code, out, err = kdlab(*arguments)
                assert code == 0, (line, err)
                commands += 1
                if arguments[:2] == ["train", "-m"] and "hydra/sweeper=optuna" not in arguments:
                    assert out.count("trained") > 1, "a sweep ends with a table of its jobs"
                elif arguments[0] == "train" and "-m" not in arguments:
                    assert (Path(out.strip().splitlines()[-1]) / "run.json").is_file(), "it prints its directory last"
    assert commands >= 2, "a page without commands needs no test"


@pytest.mark.slow
def test_the_first_line_whole(tmp_path):
    """In a process of its own, as a newcomer types it, with this Python's packages."""
    for arguments in _verbs(FIRST):
        done = subprocess.run(
            [sys.executable, "-c", "from kdlab.cli.main import script; script()", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert "student baseline" in done.stdout


def test_the_table_is_what_the_study_generates():
    from kdlab.studies import tables
    from kdlab.studies.reading import read
    from kdlab.studies.records import read_records

    study = read(ROOT / "experiments" / "logit_methods")
    left_out = (
        "role",
        "weights",
        "best",
        "effect",
        "detectable",
        "retention",
        "gap_closed",
        "ece",
        "parameters",
        "flops",
        "seconds",
    )
    table = tables.table(study.tables[0], read_records(study.results)).markdown(left_out).split("\n\n")[0]
    assert table.count("\n") == 8 and table in README
