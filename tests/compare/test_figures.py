"""The numbers that stand in figures, from data written by hand."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from kdlab.compare.figures import (
    Point,
    agreement,
    agreement_matrix,
    front,
    heat_map,
    learning_curves,
    pareto,
    per_class,
    reliability,
    soft_targets,
)
from kdlab.compare.figures.grid import grid
from kdlab.compare.figures.learning_curves import band
from kdlab.compare.figures.per_class import MOST_CLASSES, changes, recalls
from kdlab.compare.figures.reliability import bins, ece
from kdlab.compare.figures.style import COLOURS, MOST_SERIES, inline_svg, save, svg, wrapped
from kdlab.compare.statistics import Interval


def _texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def _ticks(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def _legend(figure) -> list[str]:
    return [" ".join(text.get_text().split()) for legend in figure.legends for text in legend.get_texts()]


def test_heat_map_writes_the_means_and_frames_the_best():
    cells = {(1, 0.5): [0.8, 0.9], (1, 0.9): [0.7, 0.7], (4, 0.5): [0.9, 0.91], (8, 0.9): [0.6]}
    figure = heat_map(cells, "kd.temperature", "kd.weight", "accuracy", baseline=0.75)
    axes, bar = figure.axes
    assert _texts(axes) == ["0.8500", "0.9050", "–", "0.7000", "–", "0.6000"], (
        "rows from the smallest weight up, temperatures from left to right"
    )
    assert _ticks(axes.xaxis) == ["1", "4", "8"] and _ticks(axes.yaxis) == ["0.5", "0.9"]
    assert [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"] == ["0.9050"]
    [frame] = axes.patches
    assert (frame.get_x(), frame.get_y()) == (1, 0)
    assert [line.get_ydata()[0] for line in bar.lines] == [0.75] and "0.7500" in axes.get_title(loc="left")
    assert (
        "Best: 0.9050 at kd.temperature = 4 and kd.weight = 0.5; worst: 0.6000" in figure.alt
        and "1 to 2 seeds" in figure.caption
    )


def test_the_grid_is_of_the_method_s_numbers_before_all_others():
    method = [{"loss.kd.temperature": t, "loss.kd.weight": w} for t in (1, 4) for w in (0.5, 0.9)]
    others = [{"optimizer.lr": lr, "trainer.max_epochs": epochs} for lr in (0.1, 0.2, 0.3) for epochs in (1, 2, 3)]
    assert grid(others)[:2] == ("optimizer.lr", "trainer.max_epochs")
    assert grid([*others, *method])[:2] == ("loss.kd.temperature", "loss.kd.weight")


def test_numbers_that_mostly_differ_one_at_a_time_are_no_grid():
    cross = [(1, 10), (1, 20), (1, 30), (2, 10), (3, 10)]
    assert grid([{"data.mixing.alpha": a, "trainer.max_epochs": e} for a, e in cross]) is None
    assert len(grid([{"data.mixing.alpha": a, "trainer.max_epochs": e} for a, e in [*cross, (2, 20), (2, 30)]])[2]) == 7


def test_heat_map_of_a_metric_that_should_be_small():
    figure = heat_map(
        {(1, 1): [0.5], (2, 1): [0.4], (1, 2): [0.7], (2, 2): [0.6]}, "a", "b", "nll", higher_is_better=False
    )
    assert [text.get_text() for text in figure.axes[0].texts if text.get_fontweight() == "bold"] == ["0.4000"]


def test_bands():
    curves = [{1: 0.2, 2: 0.4}, {1: 0.4, 2: 0.4}, {1: 0.6, 2: 0.4, 3: 0.9}]
    epochs, mean, low, high = band(curves, "interval")
    half = 4.302652729 * 0.2 / np.sqrt(3)
    assert epochs.tolist() == [1, 2] and mean == pytest.approx([0.4, 0.4])
    assert low == pytest.approx([0.4 - half, 0.4]) and high == pytest.approx([0.4 + half, 0.4])
    with pytest.raises(ValueError, match="range, interval"):
        band(curves, "sd")


def test_learning_curves():
    figure = learning_curves(
        {"student alone": [{1: 0.5, 2: 0.7}], "distilled": [{1: 0.5, 2: 0.8}, {1: 0.7, 2: 1.0}]},
        "accuracy",
        slots={"student alone": 0, "distilled": 1},
    )
    first, second = figure.axes[0].lines
    assert first.get_ydata().tolist() == [0.5, 0.7] and second.get_ydata() == pytest.approx([0.6, 0.9])
    assert first.get_color() == COLOURS["series-0"][0] and second.get_color() == COLOURS["series-1"][0]
    [area] = figure.axes[0].collections
    assert area.get_datalim(figure.axes[0].transData).intervaly.tolist() == [0.5, 1.0], (
        "the band of the two seeds; one seed has none"
    )
    assert (
        _legend(figure) == ["student alone (1 seed)", "distilled (2 seeds)"]
        and "lowest to the highest seed" in figure.caption
    )
    assert figure.axes[0].get_xlabel() == "epoch" and "Highest at the last epoch: distilled" in figure.alt
    steps = learning_curves({"a": [{50: 0.5, 100: 0.7}]}, "accuracy", unit="step")
    assert steps.axes[0].get_xlabel() == "step" and "Highest at the last step: a" in steps.alt
    assert steps.axes[0].lines[0].get_xdata().tolist() == [50, 100]
    with pytest.raises(ValueError, match=f"can show {MOST_SERIES} distinct series"):
        learning_curves({str(number): [{1: 0.5}] for number in range(MOST_SERIES)}, "accuracy")


def test_the_front():
    points = [
        Point("cheap", 10, [0.5, 0.7]),
        Point("beaten", 20, [0.5]),
        Point("good", 30, [0.9]),
        Point("as good", 40, [0.9]),
        Point("teacher", 90, [0.95], "teacher"),
        Point("same cost", 30, [0.8]),
    ]
    assert [point.label for point in front(points)] == ["cheap", "good", "teacher"]
    assert [point.label for point in front(points, higher_is_better=False)] == ["cheap", "beaten"]
    figure = pareto(points, "parameters", "accuracy")
    assert _legend(figure) == [
        "the front: nothing here is as cheap and better",
        "1: 0.6000 cheap",
        "2: 0.9000 good",
        "3: 0.9500 teacher",
    ]
    assert _texts(figure.axes[0]) == ["1", "2", "3"] and figure.axes[0].get_xscale() == "log"
    steps = figure.axes[0].lines[0]
    assert steps.get_xdata().tolist() == [10, 30, 90] and steps.get_ydata() == pytest.approx([0.6, 0.9, 0.95])


def test_bins_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.45, 0.55]])
    counts, confidence, accuracy = bins(np.log(probabilities), np.array([0, 1, 0, 1]), 10)
    assert counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert confidence[[5, 9]] == pytest.approx([0.55, 0.95]) and accuracy[[5, 9]] == pytest.approx([1.0, 0.5])


def test_the_bins_give_the_error_of_torchmetrics():
    generator = np.random.default_rng(0)
    logits, target = generator.normal(size=(500, 4)), generator.integers(0, 4, 500)
    counts, confidence, accuracy = bins(logits, target)
    there = counts > 0
    by_hand = np.sum(counts[there] / 500 * np.abs(confidence[there] - accuracy[there]))
    assert ece(logits, target) == pytest.approx(by_hand, abs=1e-6)
    sure = np.array([[100.0, 0.0]] * 10 + [[3.0, 0.0]] * 10)
    counts, confidence, accuracy = bins(sure, np.array([0] * 9 + [1] + [0] * 10))
    assert counts[-1] == 20 and ece(sure, np.array([0] * 9 + [1] + [0] * 10)) == pytest.approx(
        abs(confidence[-1] - accuracy[-1]), abs=1e-6
    )


def test_reliability_tells_the_error():
    logits, target = np.log(np.array([[0.82, 0.18]] * 10)), np.array([0] * 6 + [1] * 4)
    figure = reliability({"one": [(logits, target), (logits, 0 * target)]})
    assert _legend(figure) == ["ECE 0.2000: one"], "|0.82 - 0.6| and |0.82 - 1|"
    curve = figure.axes[0].lines[1]
    assert curve.get_xdata() == pytest.approx([0.82]) and curve.get_ydata() == pytest.approx([0.8]), (
        "16 of 20 are right"
    )
    [stairs] = figure.axes[1].patches
    assert stairs.get_data().values.sum() == pytest.approx(1) and stairs.get_data().values[12] == pytest.approx(1), (
        "[12/15, 13/15) holds 0.82"
    )


def test_changes_are_paired():
    found = changes(
        {1: np.array([0.9, 0.5]), 2: np.array([0.8, 0.7]), 3: np.array([0.0, 0.0])},
        {2: np.array([0.7, 0.8]), 1: np.array([0.7, 0.4])},
    )
    assert [change.mean for change in found] == pytest.approx([0.15, 0.0]) and [change.n for change in found] == [2, 2]
    with pytest.raises(ValueError, match="no seed in common"):
        changes({1: np.array([0.9])}, {2: np.array([0.9])})
    assert recalls(np.array([0, 2, 1]), np.array([0, 1, 1]), 3)[:2].tolist() == [1.0, 0.5]


def test_per_class_bars_are_sorted():
    rows = {
        "a": [Interval(0.1, 0.02, 3), Interval(-0.05, 0.01, 3), Interval(0.0, None, 1)],
        "b": [Interval(0.0, 0.0, 3)] * 3,
    }
    figure = per_class(rows, "student alone", ["cat", "dog", "frog"])
    assert _ticks(figure.axes[0].yaxis) == ["dog", "frog", "cat"]
    assert [bar.get_width() for bar in figure.axes[0].patches[:3]] == pytest.approx([-5, 0, 10])
    assert "the most is gained in cat (+10.0 points), the least in dog (-5.0 points)" in figure.alt


def test_of_many_classes_those_that_change_most():
    """In either direction; and a single seed has no interval."""
    figure = per_class(
        {"a": [Interval((number - 5) / 100, None, 1) for number in range(30)]}, "b", list(map(str, range(30)))
    )
    assert (
        _ticks(figure.axes[0].yaxis) == ["0", *map(str, range(11, 30))]
        and f"{30 - MOST_CLASSES} classes are left out" in figure.caption
    )
    assert "interval" not in figure.caption and not figure.axes[0].collections


def test_agreement_by_hand():
    answers = {
        "teacher": {None: np.array([0, 1, 2, 3])},
        "a": {1: np.array([0, 1, 2, 0]), 2: np.array([0, 0, 0, 0])},
        "b": {2: np.array([0, 1, 0, 0]), 3: np.array([1] * 4)},
        "c": {9: np.array([0, 1, 2, 3])},
    }
    matrix = agreement_matrix(answers)
    assert matrix[1, 0] == pytest.approx((0.75 + 0.25) / 2), "a teacher stands beside every seed"
    assert matrix[1, 1] == pytest.approx(0.5) and matrix[2, 1] == matrix[1, 2] == pytest.approx(0.75), (
        "seed 2 alone is in both"
    )
    assert np.isnan([matrix[0, 0], matrix[3, 3], matrix[3, 1]]).all() and matrix[3, 0] == 1
    figure = agreement(matrix, list(answers))
    assert _texts(figure.axes[0]) == ["–", "50.0", "50.0", "37.5", "75.0", "25.0", "100.0", "–", "–", "–"]
    assert "Most alike: c and teacher, 100.0 %" in figure.alt


def test_soft_targets():
    logits = np.log(np.array([[0.64, 0.16, 0.2], [0.1, 0.3, 0.6]]))
    figure = soft_targets(np.zeros((2, 4, 4)), [0, 1], logits, 2.0, ["cat", "dog", "frog"], "resnet")
    pictures, bars = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title() for axes in pictures] == ["cat", "dog"] and _ticks(bars[0].yaxis) == ["cat", "dog", "frog"]
    roots = np.sqrt([0.64, 0.16, 0.2])
    assert [bar.get_width() for bar in bars[0].patches] == pytest.approx(roots / roots.sum()), (
        "softmax(z / 2) of log p is the root of p"
    )
    assert [np.allclose(bar.get_facecolor(), bars[0].patches[0].get_facecolor()) for bar in bars[1].patches] == [
        False,
        True,
        False,
    ], "the true class"
    assert "wrong for: dog" in figure.alt


def test_of_many_classes_the_likeliest():
    logits = np.zeros((1, 100))
    logits[0, [7, 50]] = [3.0, 2.0]
    figure = soft_targets(np.zeros((1, 4, 4, 3)), [7], logits, 4.0, list(map(str, range(100))))
    assert _ticks(figure.axes[1].yaxis)[:3] == ["7", "50", "0"] and len(figure.axes[1].patches) == 6


@pytest.mark.parametrize(
    "label",
    ["offline ce+kd  kd.temperature=4  student=a_rather_long_name  kd.weight=0.5  optimizer.lr=0.01", "x" * 100],
)
def test_long_labels_fit(label):
    for lines in (1, 2, 3):
        rows = wrapped(label, 24, lines).split("\n")
        assert (
            len(rows) <= lines
            and all(len(row) <= 24 for row in rows)
            and rows[-1][-1] == label[-1]
            and "…" in "".join(rows)
        )


def test_twenty_rows_of_long_names_are_drawn_without_math():
    labels = [
        f"offline ce+kd  loss={number} $x^  kd.temperature={number}  student=a_rather_long_name" for number in range(20)
    ]
    figure = agreement(np.eye(20), labels)
    assert len(_texts(figure.axes[0])) == 210 and figure.wide
    first = _legend(pareto([Point(label, 10, [0.5, 0.6]) for label in labels[:3]], "parameters", "accuracy"))[1]
    assert first.endswith("loss=0 $x^ kd.temperature=0 student=a_rather_long_name")


def test_svg_is_the_same_each_time_and_follows_the_page(tmp_path):
    figures = [learning_curves({"a & b": [{1: 0.5, 2: 0.7}]}, "accuracy") for _ in range(2)]
    assert svg(figures[0]) == svg(figures[1])
    text = inline_svg(figures[0], "one")
    root = ElementTree.fromstring(text)
    assert (
        root.get("role") == "img"
        and root.get("aria-describedby") == "one-seen"
        and "var(--series-1)" in text
        and "var(--ink)" in text
    )
    assert not any(white in text for white, _ in COLOURS.values()), "no colour is left as it is on white"
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids and all(name.startswith("one-") for name in ids)
    assert "a & b" in "".join(root.itertext())
    image, vector = save(figures[0], tmp_path / "figures" / "curves")
    assert image.read_bytes()[:4] == b"\x89PNG" and "<dc:date>" not in vector.read_text() and ElementTree.parse(vector)


def test_a_notebook_shows_a_figure():
    content, size = learning_curves({"a": [{1: 0.5}]}, "accuracy")._repr_png_()
    assert content[:4] == b"\x89PNG" and size["width"] > 300
