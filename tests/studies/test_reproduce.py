"""``kdlab reproduce``: from nothing, found again, written, checked; what is tampered with is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kdlab.errors import InputError
from kdlab.runs.run import find_runs
from kdlab.studies import tables
from kdlab.studies.check import check
from kdlab.studies.expectations import findings
from kdlab.studies.reading import read
from kdlab.studies.records import read_records
from kdlab.studies.rerun import reruns
from kdlab.studies.study import all_studies, experiments_folders

STUDY = """
title: Labels and a teacher
paper: nobody (2026)
scale: "scaled: digits, one epoch"
tables:
  main:
    title: A student
    further: [nll, class_3]
    baseline: alone
    rows:
      "{strategy}": {overrides: ["strategy=ema", trainer.max_epochs=1], seeds: [1]}
      alone: {overrides: [strategy=supervised, trainer.max_epochs=1], seeds: [1, 2]}
      raised: {overrides: [trainer.max_epochs=1, strategy=supervised], seeds: [1], bias: {3: 100}}
curves: {rows: [alone]}
expected:
  - {table: main, row: raised, metric: class_3, value: 1.0, tolerance: 0.0}
  - {table: main, row: raised, above: alone, explained: a bias of 100 leaves one answer}
levels:
  - {table: main, row: alone, value: 0.9, tolerance: 0.1}
"""


def test_a_study_from_nothing_to_git_and_back(kdlab, workplace):
    folder = workplace / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY)
    (folder / "README.md").write_text("# Tiny\n\n<!-- table: main -->\n<!-- end of table -->\n\nThe reading.\n")

    # written into the study; the row that is the same run in other words is not trained again
    code, out, err = kdlab("reproduce", "tiny", "progress=lines", "hydra.launcher.workers=2", "--write")
    assert code == 0, out + err
    assert out.count("[3/3]") == 1 and len(list(find_runs(["runs"]))) == 3
    assert "a bias of 100 leaves one answer" in out and "here and in git" not in out

    records = [json.loads(line) for line in (folder / "results" / "runs.jsonl").read_text().splitlines()]
    assert [record["rows"] for record in records] == [
        [["main", "ema"]],
        [["main", "alone"], ["main", "raised"]],
        [["main", "alone"]],
    ]
    alone = records[1]
    assert (
        alone["class_recall"]["bias 3=100"]["last"][3] == 1.0 and alone["views"]["bias 3=100"]["test/accuracy"] < 0.15
    )
    recalls = alone["class_recall"][""]["last"]
    assert sum(recalls) / 10 == pytest.approx(alone["metrics"]["test/accuracy"], abs=0.03), "digits are nearly balanced"
    assert str(workplace) not in json.dumps(records) and "directory" not in alone
    readme = (folder / "README.md").read_text()
    assert readme.index("| alone |") < readme.index("The reading.") < readme.index("<!-- expected -->"), (
        "markers that are missing come at the end"
    )
    assert (
        "Scaled: digits, one epoch." in readme
        and "3 runs" in readme
        and "| main | alone | accuracy 0.9000 ± 0.1 |" in readme
    )
    curve = (folder / "results" / "curves.csv").read_text().splitlines()
    assert (
        curve[0] == "row,epoch,mean,low,high,n"
        and len(curve) == 2
        and curve[1].startswith("alone,1,0.")
        and curve[1].endswith(",2")
    )

    # what is in git fits together, and the rerun is it
    code, out, err = kdlab("reproduce", "--check", "tiny")
    assert code == 0 and "1 of 1 are right" in out, out
    code, out, err = kdlab("reproduce", "--list", "tiny")
    assert code == 0 and out.splitlines()[1].split()[-2:] == ["3", "3"], out
    code, out, err = kdlab("reproduce", "tiny")
    assert code == 0 and "  found  " in out and "  trained  " not in out, out + err
    assert out.split("here and in git")[1].count("the same") == 3
    assert {path.name for path in Path("runs/tiny/reproduced").iterdir()} == {
        "runs.jsonl",
        "curves.csv",
        "curves.svg",
        "tables.md",
    }

    # a rerun is kept beside them, shown in the README, and is of the same runs
    code, out, err = kdlab("reproduce", "tiny", "--keep")
    kept = folder / "results" / "rerun.jsonl"
    assert code == 0 and "experiments/tiny/results/rerun.jsonl" in out, out + err
    assert kept.read_text() == (folder / "results" / "runs.jsonl").read_text(), "these are the runs in git"
    assert {"model", "vector", "capability"} <= set(json.loads(kept.read_text().splitlines()[0])["hardware"])
    shown = (folder / "README.md").read_text().partition("<!-- rerun -->")[2]
    assert "All 3 rows agree" in shown and "| main | alone |" in shown and "the same |" in shown
    assert kdlab("reproduce", "--check", "tiny")[0] == 0
    kept.write_text(kept.read_text().replace(alone["hash"], "f" * 16))
    code, out, err = kdlab("reproduce", "--check", "tiny")
    assert (
        code == 1
        and "rerun.jsonl: run ffffffffffffffff (table 'main', row 'alone', seed 1) is not the run of that row and seed "
        "in runs.jsonl"
        in out
    )
    kept.unlink()
    (folder / "README.md").write_text(readme)

    # one digit of a table
    number = f"{(alone['metrics']['test/accuracy'] + records[2]['metrics']['test/accuracy']) / 2:.4f}"
    (folder / "README.md").write_text(readme.replace(number, "0.9999", 1))
    code, out, err = kdlab("reproduce", "--check", "tiny")
    assert (
        code == 1
        and "wrong  tiny" in out
        and "<!-- table: main -->" in out
        and "0.9999" in out
        and number in out
        and "--render" in out
    )
    (folder / "README.md").write_text(readme)

    # a study that says something else than what was run; one whose config has changed since; one whose expectation is
    # missed
    def told(text, compose=False):
        (folder / "study.yaml").write_text(text)
        return " ".join(check(read("tiny"), compose))

    assert "was trained with strategy=supervised trainer.max_epochs=1" in told(
        STUDY.replace("=supervised, trainer.max_epochs=1", "=supervised, trainer.max_epochs=2")
    )
    assert "seed 3 is missing" in told(STUDY.replace("seeds: [1, 2]", "seeds: [1, 2, 3]"))
    assert "study.yaml has no such row and seed" in told(STUDY.replace("alone", "lonely"))
    assert "curves.csv has the curves of alone, and study.yaml names ema" in told(
        STUDY.replace("curves: {rows: [alone]}", "curves: {rows: [ema]}")
    )
    missed = told(STUDY.replace(", explained: a bias of 100 leaves one answer", ""))
    assert "raised is above alone" in missed and "study.yaml does not explain it" in missed
    lines = [{**record, "config": "0" * 12} for record in records]
    write = (folder / "results" / "runs.jsonl").write_text
    write("".join(f"{json.dumps(line)}\n" for line in lines))
    assert told(STUDY, compose=True) == "", "the digest is another, the hash is the same"
    write("".join(f"{json.dumps({**line, 'hash': 'f' * 16})}\n" for line in lines))
    assert "its config is no longer that of run ffffffffffffffff" in told(STUDY, compose=True)
    write("{}\n")
    assert "line 1: it is no record of a run" in told(STUDY)

    # without the results the README shows a table of nothing
    (folder / "results" / "runs.jsonl").unlink()
    assert "there is text after <!-- table: main -->, but there are no results" in told(STUDY)


def test_a_run_that_fails_is_gone_past_listed_and_tried_again(kdlab, workplace):
    folder = workplace / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text("""
title: Trouble
scale: full
tables:
  main:
    title: Luck
    rows:
      unlucky:
        overrides: [strategy=supervised, trainer.max_epochs=2, strategy._target_=tests.sweep.trouble.Unlucky]
        seeds: [2, 3]
""")
    code, out, err = kdlab("reproduce", "tiny", "--write")
    assert code == 1, out + err
    line = "not in the table: unlucky, seed 2: failed: RuntimeError: out of luck"
    assert line in out and line in (folder / "README.md").read_text() and "1 of the 2 runs are not finished" in out
    assert check(read("tiny"), compose=False) == []
    Path("luck").touch()
    code, out, err = kdlab("reproduce", "tiny", "--write")
    assert code == 0 and "[2/2] trained unlucky, seed 2" in out and out.count("  found  ") == 1, out + err
    assert "not in the table" not in (folder / "README.md").read_text()


def test_what_is_in_git_fits_together():
    """Of every study of the checkout; the configs are composed by ``kdlab reproduce --check``, which takes longer."""
    checkout = experiments_folders()[-1].resolve()
    problems = {
        name: check(read(name), compose=False)
        for name, folder in all_studies()
        if folder.resolve().is_relative_to(checkout)
    }
    assert not any(problems.values()), problems


def _studied(name="logit_methods"):
    study = read(name)
    return study, read_records(study.results)


def test_a_rerun_of_what_is_in_git_agrees():
    for name, folder in all_studies():
        study = read(name)
        records = read_records(folder / "results")
        assert {one.verdict for one in reruns(study, records, records)} <= {"the same"}, name


def test_a_baseline_that_did_not_finish_costs_the_differences_alone():
    study, records = _studied()
    failed = [
        {**record, "status": "failed", "error": "no luck"} if ["logits", "student alone"] in record["rows"] else record
        for record in records
    ]
    table = tables.table(study.tables[0], failed)
    assert table.baseline is None and all(row.difference is None for row in table.rows) and len(table.rows) == 6
    assert "no differences: the baseline, 'student alone', has no finished run" in table.notes
    assert sum("not in the table: student alone" in note and "no luck" in note for note in table.notes) == 5
    assert {one.verdict for one in findings(study, failed) if one.expectation.above == "student alone"} == {"not run"}


def test_a_bias_that_no_record_has_is_told():
    study, records = _studied("hinton2015")
    table = study.table("omitted_class")
    changed = replace(table, rows=tuple(replace(row, bias={3: 3.0}) if row.bias else row for row in table.rows))
    with pytest.raises(InputError, match="the record does not have the row's bias 3=3"):
        tables.table(changed, records)
    again = reruns(replace(study, tables=(changed,)), [], records)
    assert again == []


def test_metrics_that_are_not_finite_are_no_evidence():
    study, records = _studied()
    broken = [
        {**record, "metrics": {**record["metrics"], "test/accuracy": None}}
        if ["logits", "NKD"] in record["rows"]
        else record
        for record in records
    ]
    assert {one.verdict for one in findings(study, broken) if one.expectation.row == "NKD"} == {"not run"}


def test_an_explanation_of_what_holds_is_stale():
    study, records = _studied()
    expected = tuple(
        replace(one, explained="bad luck") if one.row == "NKD" and one.above == "student alone" else one
        for one in study.expected
    )
    assert (
        sum("explains nothing" in problem for problem in check(replace(study, expected=expected), compose=False)) == 1
    )


@pytest.mark.slow
def test_the_configs_are_those_of_the_runs():
    problems = {
        name: check(read(name)) for name, folder in all_studies() if (folder / "results" / "runs.jsonl").exists()
    }
    assert not any(problems.values()), problems


def _tiny(folder, text):
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(text)
    return folder


NETWORKS = """
title: Peers
scale: full
tables:
  1:
    title: Two that learn together
    rows:
      peer: {overrides: [strategy=online, trainer.max_epochs=1, data.fraction=0.2], seeds: [1], network: peer2}
curves: {metric: val/accuracy}
expected: [{table: 1, row: peer, value: 0.5, tolerance: 0.5}]
"""


def test_networks_that_no_run_will_have_are_found_before_training(kdlab, workplace):
    _tiny(workplace / "peers", NETWORKS.replace("network: peer2", "network: peer_2"))
    code, out, err = kdlab("reproduce", "peers")
    assert (
        code == 2
        and "tables.1.rows.peer: network: its runs have no 'peer_2'; did you mean 'peer2'? (they have student, peer2)"
        in err
    ), out + err
    assert not list(find_runs([workplace]))


def test_curves_that_no_run_has_cost_nothing_else(kdlab, workplace):
    folder = _tiny(workplace / "peers", NETWORKS.replace("metric: val/accuracy", "metric: train/loss_ce"))
    code, out, err = kdlab("reproduce", "peers", "--write")
    assert (
        code == 2 and "curves.metric: the runs' metrics.csv have no 'train/loss_ce'; did you mean 'train/loss'?" in err
    ), out + err
    assert "| peer |" in (folder / "README.md").read_text() and len(read_records(folder / "results")) == 1
    (folder / "study.yaml").write_text(NETWORKS.replace("metric: val/accuracy", "metric: train/loss_ce_peer2"))
    assert kdlab("reproduce", "peers", "--write")[0] == 0 and (folder / "results" / "curves.csv").exists()


VALUES = """
title: Values
scale: full
tables:
  1:
    title: Two that learn values together
    rows:
      kept: {overrides: &values [task=regression, strategy=online, trainer.max_epochs=2], seeds: [1]}
      peer: {overrides: *values, seeds: [1], network: peer2}
"""


@pytest.mark.slow
def test_a_study_of_another_task_shows_its_headline_and_its_networks(kdlab, workplace):
    folder = _tiny(workplace / "values", VALUES)
    code, out, err = kdlab("reproduce", "values", "--write")
    assert code == 0, out + err
    (record,) = read_records(folder / "results")
    networks = record["networks"]
    assert networks["student"]["test/mse"] != networks["peer2"]["test/mse"]
    text = (folder / "README.md").read_text()
    assert "mse, last epoch" in text
    for row, network in (("kept  (kept: student)", "student"), ("peer", "peer2")):
        assert f"| {row} | mse=1 logit_mse=1 | {networks[network]['test/mse']:.4f} |" in text, text
    lines = (folder / "results" / "curves.csv").read_text().splitlines()
    run = next(iter(find_runs([workplace / "runs"])))
    assert lines[2].split(",")[:3] == ["kept", "2", f"{round(run.metrics['val/mse'], 5)}"]
    assert kdlab("reproduce", "values", "--check")[0] == 0
    (folder / "README.md").write_text("")
    assert kdlab("reproduce", "values", "--render")[0] == 0 and "| peer |" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    "old, new, words",
    [
        (
            "network: peer2",
            "bias: {0: 1.0}",
            "tables.1.rows.peer: bias: it is added to the logits of classes, and with task=regression a network "
            "answers with values; leave it out",
        ),
        (
            "overrides: *values, seeds: [1], network: peer2",
            "overrides: [strategy=supervised], seeds: [1]",
            "tables.1: its rows are of different tasks (regression, classification), which cannot be compared; name "
            "rows of one task",
        ),
        (
            "seeds: [1], network",
            "seeds: [1]}\ncurves: {metric: val/accuracy}\n#",
            "curves.metric: there is no 'val/acc",
        ),
    ],
)
def test_what_another_task_cannot_have_is_found_before_training(kdlab, workplace, old, new, words):
    assert old in VALUES
    _tiny(workplace / "values", VALUES.replace(old, new))
    code, out, err = kdlab("reproduce", "values")
    assert code == 2 and words in " ".join(err.split()), out + err
    assert not list(find_runs([workplace]))


def test_a_readme_that_cannot_be_filled_is_found_before_training(kdlab, workplace):
    folder = _tiny(workplace / "peers", NETWORKS)
    (folder / "README.md").write_text("<!-- table: 1 -->\n")
    code, out, err = kdlab("reproduce", "peers", "--write")
    assert (
        code == 2
        and "peers/README.md has <!-- table: 1 --> without <!-- end of table --> after it" in err
        and not list(find_runs([workplace]))
    )
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    code, out, err = kdlab("reproduce", "peers", "--write")
    assert code == 2 and "peers/README.md cannot be read" in err and not list(find_runs([workplace]))


def test_a_metric_that_only_failed_runs_would_have_costs_its_column_alone():
    study, records = _studied()
    broken = [
        {**record, "metrics": {key: value for key, value in record["metrics"].items() if "agreement" not in key}}
        for record in records
    ]
    table = tables.table(study.tables[0], broken)
    assert (
        "agreement" not in table.head()
        and "nll" in table.head()
        and "no column for agreement: no finished run has it" in table.notes
    )
    assert not tables.any_finished(replace(study.tables[0], metric="agreement"), broken) and tables.any_finished(
        study.tables[0], broken
    )


def test_a_sign_against_a_claim_is_explained_before_it_goes_into_git(kdlab, workplace):
    _tiny(
        workplace / "one",
        """
title: One seed
scale: full
tables:
  1:
    title: a
    rows:
      alone: {overrides: [strategy=supervised, trainer.max_epochs=2], seeds: [1]}
      less: {overrides: [strategy=supervised, trainer.max_epochs=1], seeds: [1]}
expected: [{table: 1, row: less, above: alone}]
""",
    )
    assert kdlab("reproduce", "one")[0] == 0, "one seed tells nothing against it"
    code, out, err = kdlab("reproduce", "one", "--write")
    assert code == 1 and kdlab("reproduce", "one", "--check")[0] == 1, out + err


def test_a_run_that_stands_twice_in_the_records_is_told(kdlab, workplace):
    folder = _tiny(workplace / "experiments" / "tiny", NETWORKS)
    code, out, err = kdlab("reproduce", "tiny", "--write")
    assert code == 0, out + err
    path = folder / "results" / "runs.jsonl"
    path.write_text(2 * path.read_text())
    [problem] = check(read("tiny"), compose=False)
    assert "table '1', row 'peer', seed 1 is there several times" in problem


def test_runs_in_other_words_count_once_in_the_list(kdlab, workplace):
    _tiny(
        workplace / "mine",
        """
title: One run in two wordings
scale: full
tables:
  first: {title: a, rows: {alone: {overrides: [strategy=supervised, trainer.max_epochs=1], seeds: [1, 2]}}}
  second:
    title: b
    rows: {alone: {overrides: [strategy=supervised, "loss=[ce]", trainer.max_epochs=1], seeds: [1, 2]}}
""",
    )
    assert kdlab("reproduce", "mine")[0] == 0
    code, out, err = kdlab("reproduce", "--list", "mine")
    assert code == 0 and out.splitlines()[1].split()[-2:] == ["2", "2"], out
