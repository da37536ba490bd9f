"""``kdlab reproduce --extend``: rows and seeds that are added to a study."""

import json
import shutil

import pytest

from kdlab.runs.run import find_runs
from kdlab.studies.curves import _values, kept_curves
from kdlab.studies.reading import read
from kdlab.studies.records import read_records

STUDY = """
title: A small student
scale: full
tables:
  main:
    title: A student
    baseline: alone
    rows:
      alone: {overrides: [strategy=supervised, trainer.max_epochs=1], seeds: [1, 2]}
curves: {rows: [alone]}
"""
LONGER = STUDY.replace("[1, 2]", "[1, 2, 3]").replace(
    "curves",
    '      "half": {overrides: [strategy=supervised, trainer.max_epochs=1, data.fraction=0.5], seeds: [1]}\ncurves',
)


def test_runs_in_git_are_kept_and_the_others_are_trained(kdlab, workplace):
    folder = workplace / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY)
    code, out, err = kdlab("reproduce", "tiny", "--extend")
    assert code == 2 and "tiny has none; --write writes them" in err

    assert kdlab("reproduce", "tiny", "--write")[0] == 0
    before = read_records(folder / "results")
    shutil.rmtree("runs")
    (folder / "study.yaml").write_text(LONGER)
    code, out, err = kdlab("reproduce", "tiny", "progress=lines", "--extend")
    assert code == 0 and "2 of 4 runs are those in git" in out and "[2/2]" in out, out + err
    after = read_records(folder / "results")
    assert after[:2] == before and [(one["rows"][0][1], one["seed"]) for one in after[2:]] == [
        ("alone", 3),
        ("half", 1),
    ]
    assert sorted(run.record["seed"] for run in find_runs(["runs"])) == [1, 3]
    three = [record["metrics"]["val/accuracy"] for record in after[:3]]
    (curve,) = (folder / "results" / "curves.csv").read_text().splitlines()[1:]
    name, epoch, mean, low, high, number = curve.split(",")
    assert (name, epoch, number) == ("alone", "1", "3")
    assert [float(mean), float(low), float(high)] == pytest.approx([sum(three) / 3, min(three), max(three)], abs=2e-5)
    assert kdlab("reproduce", "--check", "tiny")[0] == 0

    # nothing is missing: nothing is trained, and nothing changes
    kept = (folder / "results" / "runs.jsonl").read_text(), (folder / "results" / "curves.csv").read_text()
    shutil.rmtree("runs")
    code, out, err = kdlab("reproduce", "tiny", "--extend")
    assert code == 0 and "4 of 4 runs are those in git" in out and not list(find_runs(["runs"])), out + err
    assert kept == ((folder / "results" / "runs.jsonl").read_text(), (folder / "results" / "curves.csv").read_text())

    # a record of another run is not kept; its row's curve is a mean over it, so the whole row is trained again
    (folder / "results" / "runs.jsonl").write_text(kept[0].replace(before[0]["hash"], "f" * 16))
    code, out, err = kdlab("reproduce", "tiny", "--extend")
    assert code == 0 and "1 of 4 runs are those in git" in out, out + err
    again = [json.loads(line) for line in (folder / "results" / "runs.jsonl").read_text().splitlines()]
    assert [one["hash"] for one in again] == [one["hash"] for one in after]


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.75], [0.5, 0.5, 0.75], [0.1, 0.2, 0.4, 0.9]])
def test_kept_curves_have_the_mean_and_the_ends_of_the_file(values):
    found = _values(sum(values) / len(values), min(values), max(values), len(values))
    assert len(found) == len(values) and (min(found), max(found)) == (min(values), max(values))
    assert sum(found) == pytest.approx(sum(values), abs=1e-9)


def test_a_study_without_curves_keeps_none(kdlab, workplace):
    folder = workplace / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY)
    assert kept_curves(read("tiny")) == {}
