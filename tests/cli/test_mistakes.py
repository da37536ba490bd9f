"""Every mistake of the tables ends with its exit code and one readable message; what is finished is kept; bad input
writes nothing.

``KDLAB_MISTAKES=tests/cli/MISTAKES.md pytest tests/cli/test_mistakes.py`` writes the list of them again.
"""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from kdlab.runs.run import Run, find_runs
from tests.cli.mistakes import (
    command_line,
    data,
    experiments,
    files,
    generating,
    machine,
    studies,
    sweeps,
    teachers,
    texts,
)
from tests.cli.mistakes.table import SHORT, Place, neutral, row

TABLES = {
    "On the command line": command_line,
    "In experiment files": experiments,
    "In teachers": teachers,
    "In data": data,
    "In texts": texts,
    "In what is generated": generating,
    "In files on disk": files,
    "In sweeps": sweeps,
    "In studies": studies,
    "While training": machine,
}
MISTAKES = {mistake.what: mistake for table in TABLES.values() for mistake in table.MISTAKES}
# as many again, each of which begins a run
SLOW = (
    "In experiment files",
    "In teachers",
    "In data",
    "In texts",
    "In sweeps",
    "While training",
)
UNSEEN = {".locks", ".tokens"}  # folders of what counts for nothing
LIST = Path(__file__).with_name("MISTAKES.md")
HEAD = """# Mistakes

The messages of kdlab for mistakes. Exit codes: 0 done; 1 a run failed while training, or some jobs of a sweep did;
2 bad input, found before anything was written; 130 interrupted. The tests write this list, and each of them makes one
mistake: see `test_mistakes.py`.
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with two finished runs."""
    from kdlab import train

    folder = tmp_path_factory.mktemp("finished")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for seed in (1, 2):
            train([*SHORT[1:], f"seed={seed}", "progress=none"])
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def told():
    """What was said of each mistake; the list is made of it at the end, where one is asked for."""
    said = {}
    yield said
    if os.environ.get("KDLAB_MISTAKES"):
        parts = [HEAD]
        for title, table in TABLES.items():
            rows = [said[mistake.what] for mistake in table.MISTAKES if mistake.what in said]
            parts.append(
                "\n".join(
                    [
                        f"## {title}",
                        "",
                        "| what | command | exit code | message |",
                        "| --- | --- | ---: | --- |",
                        *rows,
                        "",
                    ]
                )
            )
        Path(os.environ["KDLAB_MISTAKES"]).write_text("\n".join(parts), encoding="utf-8")


def _state(folder: Path) -> dict[str, str]:
    """The files of a folder and what is in them, without locks, notes of what is finished, and kept tokens."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if not {*UNSEEN, ".known"} & set(path.relative_to(folder).parts)
        and not (path.is_dir() and not any(below.is_file() for below in path.rglob("*") if not UNSEEN & {*below.parts}))
    }


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(mistake.what, marks=pytest.mark.slow)
        if title in SLOW or mistake.what in command_line.MORE
        else mistake.what
        for title, table in TABLES.items()
        for mistake in table.MISTAKES
    ],
)
def test_mistake(kdlab, workplace, monkeypatch, finished, taught, told, request, what):
    mistake = MISTAKES[what]
    monkeypatch.setattr("kdlab.data.images.fashion_mnist.SYSTEM_FOLDER", Path("nowhere"))

    def copied():
        shutil.copytree(finished / "runs", "runs", ignore=shutil.ignore_patterns(".known"), dirs_exist_ok=True)
        runs = [Run(path) for path in Place(workplace, monkeypatch, None, None).names().values()]
        return runs[0], runs[1]

    with pytest.MonkeyPatch.context() as patch:
        place = Place(workplace, patch, copied, lambda: taught)
        if mistake.setup is not None:
            mistake.setup(place)
        command = [
            text.format(**place.names(), teacher=taught.path)
            if any(f"{{{name}}}" in text for name in ("run", "other", "teacher"))
            else text
            for text in mistake.command
        ]
        before = _state(workplace)
        code, out, err = kdlab(*command)
    assert code == mistake.code, (out, err)
    assert "Traceback" not in out + err and "Error executing job" not in err
    message = out if mistake.stream == "out" else err
    for word in mistake.words:
        assert word in message, message
    if mistake.stream == "err":
        assert err.startswith("kdlab: ") and err.count("kdlab: ") == 1, err
    after = _state(workplace)
    if mistake.code == 2:
        assert after == before, "something was written, or taken away"
    else:
        assert not [path for path in after if path.endswith(".part")]
        lost = [path for path, content in before.items() if path.endswith("run.json") and after.get(path) != content]
        assert not lost, "a finished run was touched"
    if mistake.goes_on:
        code, out, err = kdlab(*command)
        assert code == 0, (out, err)
        assert all(run.finished for run in find_runs(["runs"]))
    told[what] = row(mistake, neutral(message, place))


def test_the_list_holds_these_mistakes():
    """Exit codes and names; the list itself is written by the tests above."""
    listed = []
    for line in LIST.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 4 and cells[2].isdigit():
            listed.append((cells[0].replace("¦", "|"), int(cells[2])))
    assert listed == [(mistake.what, mistake.code) for mistake in MISTAKES.values()], (
        "write it again; the module's docstring says how"
    )


def test_no_two_mistakes_have_one_name():
    assert len(MISTAKES) == sum(len(table.MISTAKES) for table in TABLES.values()) >= 40
