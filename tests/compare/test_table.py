"""Differences, gap and columns of a table, and what it writes, on records made by hand."""

import csv
import io
from dataclasses import replace

import pytest

from kdlab.compare import Group, table_of
from kdlab.compare.collect import BASELINE
from kdlab.compare.columns import columns_of
from kdlab.compare.text import arranged
from kdlab.errors import InputError

TEACHER = {"name": "teacher/wide (seed 1)", "parameters": 5000, "test": {"accuracy": 0.9, "nll": 0.3}, "runs": []}


def _group(label, accuracies, role="variant", seeds=None, teacher=TEACHER, **further):
    records = [
        {
            "hash": f"{label}{seed}",
            "status": "finished",
            "seed": seed,
            "parameters": 100,
            "flops": 2000,
            "weights": {"ce": 0.1, "kd_x": 0.9},
            "metrics": {
                "test/accuracy": accuracy,
                "test/accuracy_best": accuracy,
                "test/nll": 1 - accuracy,
                **{f"test/{key}": value for key, value in further.items()},
            },
            "durations": {"train_seconds": 2.0},
            "uses_teacher": role != BASELINE,
            "teacher": None if role == BASELINE else teacher,
        }
        for seed, accuracy in zip(seeds or range(1, 100), accuracies)
    ]
    return Group(label=label, role=role, records=records)


ALONE = _group("alone", [0.80, 0.81, 0.79, 0.80, 0.82], BASELINE)
BETTER = _group("T = 4", [0.85, 0.86, 0.83, 0.85, 0.88])
SAME = _group("T = 1 & 50%", [0.81, 0.80, 0.79, 0.81, 0.81], agreement=0.95)


def test_rows_keep_their_order_and_have_differences():
    table = table_of([SAME, ALONE, BETTER])
    assert [row.label for row in table.rows] == [
        "teacher/wide (seed 1)",
        "T = 1 & 50%",
        "alone",
        "T = 4",
    ] and table.baseline == "alone"
    same, alone, better = table.rows[1:]
    assert alone.difference is None and table.rows[0].difference is None and table.comparisons == 2
    assert better.difference.mean == pytest.approx(0.05) and better.difference.p_adjusted == pytest.approx(
        2 * better.difference.p
    )
    assert better.difference.verdict == "better" and better.difference.p == pytest.approx(9.349e-5, rel=1e-3), (
        "t = 0.05 * 5**0.5 / 0.00707 = 15.81, df = 4"
    )
    assert same.difference.mean == pytest.approx(0.0, abs=1e-9) and same.difference.verdict == "too few seeds to tell"
    assert better.gap_closed == pytest.approx(0.05 / (0.9 - 0.804)) and better.retention == pytest.approx(0.854 / 0.9)


def test_a_note_names_the_metrics_of_which_less_is_better():
    note = "Lower is better: nll."
    table = table_of([SAME, ALONE, BETTER], further=["nll"])
    assert table.explanation()[1] == note and note in table.markdown() and note in table._repr_html_()
    assert note in table.latex() and "Lower is better" not in table.csv()
    assert "Lower is better" not in table.markdown(leave_out=["nll"])
    assert table_of([SAME, ALONE], metric="nll").explanation()[1] == note
    assert not any("Lower is better" in line for line in table_of([SAME, ALONE]).explanation())


def test_the_p_that_is_shown_is_corrected():
    little = _group("little", [0.81, 0.83, 0.79, 0.83, 0.83])
    table = table_of([ALONE, SAME, little])
    column = next(column for column in columns_of(table) if column.key == "p")
    assert table.rows[3].difference.p == pytest.approx(0.0516, abs=1e-4), "t = 0.014 * 5**0.5 / 0.0114 = 2.746, df = 4"
    assert [column.cell(row) for row in table.rows] == ["", "", "1.000", "0.103"]


def test_where_less_is_better_everything_turns_around():
    table = table_of([ALONE, BETTER], "nll")
    better = table.rows[2]
    assert better.difference.mean == pytest.approx(-0.05) and better.difference.verdict == "better"
    # (0.146 - 0.196) / (0.3 - 0.196) would be a gap if the teacher, 0.3, were better than the baseline, 0.196
    assert better.gap_closed is None and better.retention is None
    assert "retention" not in table.head() and "gap closed" not in table.head()
    closer = table_of(
        [ALONE, _group("T = 4", [0.85, 0.86, 0.83, 0.85, 0.88], teacher={**TEACHER, "test": {"nll": 0.1}})], "nll"
    ).rows[2]
    assert closer.gap_closed == pytest.approx(-0.05 / (0.1 - 0.196))


def test_a_teacher_among_the_runs_is_no_comparison():
    """It has seeds of its own, but the students are compared with the baseline, and Holm's correction counts them
    alone."""
    table = table_of([_group("wide", [0.90, 0.91, 0.92, 0.90, 0.93], "teacher", teacher=None), ALONE, BETTER])
    wide = next(row for row in table.rows if row.label == "wide")
    assert wide.role == "teacher" and wide.last.n == 5 and wide.difference is None and table.comparisons == 1


@pytest.mark.parametrize(
    "metric, verdict",
    [("accuracy", "better"), ("agreement", "better"), ("nll", "worse"), ("ece", "worse"), ("kl_to_teacher", "worse")],
)
def test_more_is_better_or_worse_by_the_metric(metric, verdict):
    """Of every metric that a run records."""

    def rising(group, by):
        return replace(
            group,
            records=[
                {**record, "metrics": {f"test/{metric}": record["metrics"]["test/accuracy"] + by}}
                for record in group.records
            ],
        )

    difference = table_of([rising(ALONE, 0.0), rising(BETTER, 0.0)], metric).rows[-1].difference
    assert difference.mean == pytest.approx(0.05) and difference.verdict == verdict


def test_a_share_of_a_teacher_needs_one_known_score():
    """The student alone has that of the one teacher that all share; a row has the mean of its own, if each of its runs
    has one."""
    other = _group(
        "T = 1",
        [0.81, 0.80, 0.79, 0.81, 0.81],
        teacher={**TEACHER, "name": "teacher/other", "test": {"accuracy": 0.95}},
    )
    assert table_of([ALONE, BETTER]).rows[1].retention == pytest.approx(0.804 / 0.9)
    rows = {row.label: row for row in table_of([ALONE, BETTER, other]).rows}
    assert rows["alone"].retention is None and rows["T = 1"].retention == pytest.approx(0.804 / 0.95)
    partly = replace(BETTER, records=[*BETTER.records[:4], {**BETTER.records[4], "teacher": {**TEACHER, "test": {}}}])
    row = {row.label: row for row in table_of([ALONE, partly]).rows}["T = 4"]
    assert row.retention is None and row.gap_closed is None and row.last.n == 5


def test_a_gap_that_is_noise_is_not_divided_by():
    """The teacher is better than the baseline by 0.006, the baseline's interval is ± 0.014."""
    near = {**TEACHER, "test": {"accuracy": 0.81}}
    assert table_of([ALONE, _group("T = 4", [0.85, 0.86, 0.83, 0.85, 0.88], teacher=near)]).rows[2].gap_closed is None


def test_gap_and_difference_are_over_common_seeds():
    table = table_of([ALONE, _group("late", [0.84, 0.86, 0.9], seeds=[4, 5, 6])])
    row = table.rows[2]
    assert row.difference.n == 2 and row.difference.unpaired == 4 and row.difference.mean == pytest.approx(0.04)
    assert row.gap_closed == pytest.approx(0.04 / (0.9 - 0.81))
    assert "differences over the seeds that the baseline has too: late (2 of 3)" in table.notes
    assert (
        "seed 6, which other rows have, is missing in: alone" in table.notes
        and "seeds 1, 2, 3, which other rows have, are missing in: late" in table.notes
    )


def test_the_baseline_is_named_by_what_is_unambiguous():
    found = [
        ALONE,
        _group("T = 4  weight=0.5", [0.8, 0.9]),
        _group("T = 4  weight=0.9", [0.8, 0.9]),
        _group("T = 40", [0.8, 0.9]),
    ]
    assert table_of(found, baseline="t = 4 WEIGHT=0.9").baseline == "T = 4  weight=0.9"
    assert (
        table_of(found, baseline="0.5").baseline == "T = 4  weight=0.5"
        and table_of([*found, _group("T = 4", [0.8])], baseline="T = 4").baseline == "T = 4"
    )
    with pytest.raises(InputError, match="2 rows have that in their name.*\n  T = 4  weight=0.5\n  T = 4  weight=0.9"):
        table_of(found, baseline="weight")
    with pytest.raises(InputError, match="no row is called so; did you mean 'alone'"):
        table_of(found, baseline="alon3")
    two = table_of([ALONE, _group("mixup", [0.8, 0.81], BASELINE), BETTER])
    assert two.baseline is None and any(
        note.startswith("no differences: there are 2 student baselines; --baseline names") for note in two.notes
    )


def test_networks_of_a_run_are_compared_once():
    """The network that is kept has the run's values: one comparison, not two."""
    group = _group("online", [0.85, 0.86, 0.83, 0.85, 0.88])
    for record in group.records:
        record["networks"] = {
            "student": dict(record["metrics"]),
            "peer2": {"test/accuracy": record["metrics"]["test/accuracy"] - 0.04 + 0.003 * (record["seed"] % 2)},
        }
    table = table_of([ALONE, group])
    assert [row.role for row in table.rows[2:]] == ["variant", "network", "network"] and table.comparisons == 2
    assert table.rows[2].difference == table.rows[3].difference != table.rows[4].difference


def test_columns_that_nobody_fills_are_left_out():
    assert table_of([ALONE]).head() == [
        "role",
        "variant",
        "weights",
        "accuracy, last epoch",
        "accuracy, best on validation",
        "n",
        "parameters",
        "FLOPs",
        "seconds",
    ]
    table = table_of([ALONE, SAME], further=["nll", "agreement"])
    assert table.head()[-5:] == ["nll", "agreement", "parameters", "FLOPs", "seconds"]
    assert [row[table.head().index("agreement")] for row in table.cells()] == ["", "", "0.9500 ± 0.0000"]
    with pytest.raises(
        InputError, match="no finished run has 'agreemnt'; they have agreement, nll; did you mean 'agreement'"
    ):
        table_of([SAME], further=["agreemnt"])


def test_the_terminal_shows_what_fits():
    table = table_of([ALONE, BETTER], further=["nll"])
    [narrow], hidden = arranged(table.columns(), table.rows, 80, everything=False)
    assert [column.key for column in narrow] == ["label", "last", "n", "difference", "verdict"] and len(hidden) == len(
        table.head()
    ) - 5
    [wide], hidden = arranged(table.columns(), table.rows, 300, everything=False)
    assert [column.head for column in wide] == table.head() and not hidden
    blocks, hidden = arranged(table.columns(), table.rows, 80, everything=True)
    keys = [column.key for block in blocks for column in block]
    assert (
        not hidden
        and set(keys) == {column.key for column in table.columns()}
        and keys.count("label") == len(blocks) > 1
    )


def test_no_line_is_wider_than_the_terminal(monkeypatch, capsys):
    long = _group("offline ce+kd  student=mlp_wide  kd.weight=0.9  kd.temperature=4", [0.85, 0.86, 0.83, 0.85, 0.88])
    for width in (80, 100, 130):
        monkeypatch.setenv("COLUMNS", str(width))
        for name, value in (("TTY_COMPATIBLE", "1"), ("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("TERM", "dumb")):
            monkeypatch.setenv(name, value)
        table_of([ALONE, long, SAME], further=["nll"]).show(everything=True)
        lines = capsys.readouterr().out.splitlines()
        rows = lines[: next(number for number, line in enumerate(lines) if line.startswith("Means over"))]
        assert (
            max(map(len, rows)) <= width
            and sum("student baseline" in row for row in rows) == 1
            and "too few seeds" in " ".join(rows)
        )


def test_csv_has_everything_in_full():
    rows = list(csv.DictReader(io.StringIO(table_of([ALONE, BETTER, SAME]).csv())))
    assert (
        float(rows[2]["difference_mean"]) == pytest.approx(0.05, abs=1e-12)
        and rows[2]["verdict"] == "better"
        and rows[2]["difference_n"] == "5"
    )
    assert float(rows[2]["p_adjusted"]) == pytest.approx(2 * float(rows[2]["p"])) and float(
        rows[2]["gap_closed"]
    ) == pytest.approx(0.05 / 0.096)
    assert (
        float(rows[2]["nll_mean"]) == pytest.approx(0.146)
        and rows[3]["agreement_mean"] == "0.95"
        and rows[2]["flops"] == "2000"
    )


def test_latex_is_ready_to_paste():
    text = table_of([ALONE, BETTER, SAME]).latex()
    assert text.count(r"\begin{") == text.count(r"\end{") == 2 and r"\toprule" in text and r"\bottomrule" in text
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    columns = text.partition(r"\begin{tabular}{")[2].partition("}")[0]
    assert len(lines) == 5 and {line.replace(r"\&", "").count("&") for line in lines} == {len(columns) - 1}
    assert r"T = 1 \& 50\% & 0.8040 $\pm$ 0.0111" in text and "$+$0.0500 $\\pm$" in text
    assert (
        r"\textbf{0.8540 $\pm$" in text
        and text.count(r"\textbf") == 1
        and r"\resizebox{\ifdim\width>\linewidth" in text
    )
    assert "over n seeds" in text and r"Holm's correction over 2 comparisons" in text and not set("±·…") & set(text)


def test_markdown_escapes_and_leaves_out():
    text = table_of([ALONE, _group("a|b", [0.85, 0.86, 0.83, 0.85, 0.88])]).markdown(leave_out=["weights", "seconds"])
    head, _, *rows = text.splitlines()[:5]
    assert (
        "a\\|b" in rows[2] and "weights" not in head and "seconds" not in head and head.count("|") == rows[0].count("|")
    )
    assert "after Holm's correction over 1 comparison." in text


def test_the_baseline_s_own_network_is_no_comparison():
    """It would count in Holm's correction with p = 1."""
    alone = replace(ALONE, records=[{**record, "networks": {"student": record["metrics"]}} for record in ALONE.records])
    table = table_of([alone, BETTER])
    assert table.comparisons == 1 and [
        row.difference is None for row in table.rows if row.label.startswith(alone.label)
    ] == [True, True]


def test_values_that_are_not_finite_are_named():
    broken = replace(
        BETTER,
        records=[
            {**record, "metrics": {**record["metrics"], "test/nll": None if record["seed"] in (2, 3) else 0.1}}
            for record in BETTER.records
        ],
    )
    table = table_of([ALONE, broken], further=["nll"])
    assert f"{broken.label}: nll is not finite for seeds 2, 3; its mean is without them" in table.notes
    assert "% " + table.notes[-1] in table.latex()


def test_the_baselines_runs_in_other_words_are_no_comparison():
    """In a study a sweep may hold the baseline's own value; what is the same by chance is compared all the same."""
    again = Group(label="alone again", role="variant", records=ALONE.records)
    chance = _group("as good", [0.80, 0.81, 0.79, 0.80, 0.82])
    table = table_of([ALONE, again, BETTER])
    assert [row.difference is None for row in table.rows[1:]] == [True, True, False] and table.comparisons == 1
    assert table.rows[3].difference.p_adjusted == table.rows[3].difference.p
    assert table_of([ALONE, chance, BETTER]).comparisons == 2
    fewer = Group(label="three of them", role="variant", records=ALONE.records[:3])
    assert table_of([ALONE, fewer, BETTER]).comparisons == 1


def test_other_data_are_not_compared():
    def on(group, **config):
        return replace(group, config=config)

    table = table_of([on(ALONE, data="digits"), on(BETTER, data="digits"), on(SAME, data="mnist")])
    assert [row.difference is None for row in table.rows[1:]] == [True, False, True] and table.comparisons == 1
    assert "no differences to the baseline, which was tested on digits: T = 1 & 50% (mnist)" in table.notes
    for first, second in (
        ({"data": "image_folder", "data.folder": "a"}, {"data": "image_folder", "data.folder": "/there/a"}),
        ({"data": "mine", "data.name": "digits"}, {"data": "digits", "data.name": "digits"}),
        ({"data": "digits"}, {}),
    ):
        assert table_of([on(ALONE, **first), on(BETTER, **second)]).comparisons == 1, "what may be the same is compared"


def test_no_further_metrics_are_none():
    assert table_of([ALONE, BETTER], further="").further == table_of([ALONE, BETTER]).further == ()
    assert table_of([ALONE, SAME], further="nll, agreement,").further == ("nll", "agreement")
    lenient = table_of([ALONE, BETTER], further=["nll", "agreement"], strict=False)
    assert lenient.further == ("nll",) and "no column for agreement: no finished run has it" in lenient.notes


def test_a_teachers_mean_alone_is_no_baseline():
    with pytest.raises(InputError, match="without seeds to pair; name a student's row"):
        table_of([ALONE, BETTER], baseline="teacher/wide")
