"""The page of a comparison, its files, and what is left out of it."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kdlab.compare import comparison, groups, report
from kdlab.compare.figures import draw
from kdlab.runs.run import Run, find_runs

DATA = {"_target_": "kdlab.data.Digits", "classes": 10, "shape": [1, 8, 8], "name": "digits", "batch_size": 32}
SAMPLES = 60


def _write(folder, *, seed, accuracy, temperature=None, weight=0.9, files=True, parameters=100):
    kd = temperature is not None
    name = f"t{temperature}-w{weight}-s{seed}" if kd else f"alone-s{seed}"
    path = folder / name
    path.mkdir(parents=True)
    loss = {"ce": {"weight": 1 - weight}, "kd": {"weight": weight, "temperature": temperature}} if kd else {"ce": {"weight": 1.0}}
    config = {"seed": seed, "choices": {"strategy": "offline" if kd else "supervised", "student": "mlp", "data": "digits"}, "loss": loss,
              "teacher": None, "student": {"hidden": [4]}, "data": DATA, "paths": {}, "threads": 1}
    teacher = {"name": "wide", "parameters": 5000, "flops": 9000, "test": {"accuracy": 0.97}, "runs": []}
    record = {"status": "finished", "hash": name, "group": name.rpartition("-")[0], "seed": seed, "parameters": parameters, "uses_teacher": kd,
              "metrics": {"test/accuracy": accuracy, "test/accuracy_best": accuracy}, "durations": {"train_seconds": 1.0},
              "weights": {key: node["weight"] for key, node in loss.items()}, "teacher": teacher if kd else None}
    (path / "run.json").write_text(json.dumps(record))
    (path / "config.yaml").write_text(json.dumps(config))
    if files:
        (path / "metrics.csv").write_text("epoch,val/accuracy\n0,0.5\n1," + str(accuracy) + "\n")
        target = torch.arange(SAMPLES) % 10
        said = target.clone()
        said[: round((1 - accuracy) * SAMPLES)] += 1
        logits = 4.0 * torch.nn.functional.one_hot(said % 10, 10).float()
        save_file({"last": logits, "target": target, "index": torch.arange(SAMPLES)}, path / "predictions.safetensors")
    return path


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "runs"
    for seed in (1, 2):
        _write(folder, seed=seed, accuracy=0.7 + seed / 100)
        for temperature in (1, 4):
            for weight in (0.5, 0.9):
                _write(folder, seed=seed, accuracy=0.8 + seed / 100 + weight / 10, temperature=temperature, weight=weight, parameters=100 * temperature)
    return folder


class Page(HTMLParser):
    """What a page loads, what is in it, and its rows."""

    LOADING = {"src", "srcset", "data", "poster", "background", "href", "xlink:href"}

    def __init__(self, text: str):
        super().__init__()
        self.loaded, self.tags, self.rows, self.ids, self.described = [], [], [], [], []
        self._open = 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.described += [given[key] for key in ("aria-describedby", "aria-labelledby") if key in given]
        if tag != "a":
            self.loaded += [value for key, value in attributes if key in self.LOADING and not value.startswith(("#", "data:"))]
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data):
        if self.rows and "table" in self.tags and "figure" not in self.tags:
            self.rows[-1] += data


def test_the_page_is_complete_in_itself(folder, kdlab, tmp_path):
    code, out, err = kdlab("compare", folder, "--report", tmp_path / "report")
    assert code == 0 and "report.html" in out, err
    text = (tmp_path / "report" / "report.html").read_text()
    page = Page(text)
    assert page.loaded == [] and not {"script", "link", "iframe", "object", "embed"} & set(page.tags) and "@import" not in text
    assert "url(http" not in text and text.count("<svg") == page.tags.count("figure") == 6
    assert len(set(page.ids)) == len(page.ids), "no id twice, or a figure would show another's parts"
    assert set(page.described) <= set(page.ids)
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    labels = [row.label for row in comparison(list(find_runs([folder]))).rows]
    assert len(labels) == 6
    for label in labels:
        assert any(label.split() == [word for word in row.split() if word in label.split()] for row in page.rows[1:]), label
    assert "no soft targets" in text, "the teacher is no longer to be had, and the page says so"
    names = {path.name for path in (tmp_path / "report").rglob("*") if path.is_file()}
    figures = {"heat_map", "learning_curves", "pareto_parameters", "reliability", "per_class", "agreement"}
    assert names == {"report.html", "table.csv", "table.md", "table.tex"} | {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
    assert "\\begin{tabular}" in (tmp_path / "report" / "table.tex").read_text()


def test_the_numbers_come_from_the_runs(folder):
    found, _ = groups(find_runs([folder]))
    figures, notes = draw(found)
    cells = [text.get_text() for text in figures["heat_map"].axes[0].texts]
    assert cells == ["0.8650", "0.8650", "0.9050", "0.9050"], "temperature across, weight up"
    assert "0.7150" in figures["heat_map"].axes[0].get_title(loc="left")
    curves = [line.get_ydata().tolist() for line in figures["learning_curves"].axes[0].lines]
    assert curves[0] == pytest.approx([0.5, 0.715]) and len(curves) == 5, "the baseline first"
    assert "teacher" not in figures["agreement"].alt and len(figures["pareto_parameters"].axes[0].texts) == 3
    wrong = [round((1 - accuracy) * SAMPLES) for accuracy in (0.71, 0.72, 0.9, 0.91)]
    agreed = 1 - np.mean([wrong[0] - wrong[2], wrong[1] - wrong[3]]) / SAMPLES
    assert f"{100 * agreed:.1f}" in [text.get_text() for text in figures["agreement"].axes[0].texts]
    assert [note for note in notes if not note.startswith("no soft targets")] == []


def test_what_is_missing_or_damaged_is_left_out_and_told(folder, tmp_path):
    for path in folder.glob("*-s1"):
        (path / "predictions.safetensors").unlink()
        (path / "metrics.csv").write_text("epoch,val/accuracy\n0,nonsense\n")
    (folder / "t1-w0.5-s2" / "predictions.safetensors").write_bytes(b"torn")
    other = {"last": torch.zeros(SAMPLES, 10), "target": torch.zeros(SAMPLES).long(), "index": torch.arange(SAMPLES)}
    save_file(other, folder / "t4-w0.9-s2" / "predictions.safetensors")
    found, _ = groups(find_runs([folder]))
    figures, notes = draw(found)
    assert {"heat_map", "learning_curves", "agreement", "per_class"} <= set(figures)
    assert "learning curves: 5 runs without a legible metrics.csv left out" in notes
    assert "agreement matrix: 6 runs without legible test predictions left out" in notes
    assert any("tested on other samples" in note and "kd.temperature=4" in note for note in notes)
    for path in folder.glob("*/predictions.safetensors"):
        path.unlink()
    page = report(folder, folder=tmp_path / "report")
    assert "no agreement matrix: " in page.read_text() and "no reliability diagram: no row has test predictions" in page.read_text()


def test_records_alone_are_enough(folder):
    """As the results of a study are kept: without folders."""
    found, _ = groups(find_runs([folder]))
    alone = [type(group)(runs=[], records=group.records, config=group.config, role=group.role, label=group.label) for group in found]
    figures, notes = draw(alone)
    assert set(figures) == {"heat_map", "pareto_parameters"} and len(notes) >= 4


def test_rows_that_differ_in_no_two_numbers(tmp_path):
    _write(tmp_path, seed=1, accuracy=0.8, temperature=1)
    _write(tmp_path, seed=1, accuracy=0.9, temperature=4)
    figures, notes = draw(groups(find_runs([tmp_path]))[0])
    assert "heat_map" not in figures and "no heat map: the rows differ in no two numbers of the config" in notes
    assert "no per-class change: there is no baseline to compare with" in notes


def test_many_rows_are_chosen_from(tmp_path):
    for temperature in range(1, 21):
        _write(tmp_path, seed=1, accuracy=0.5 + temperature / 100, temperature=temperature)
    _write(tmp_path, seed=1, accuracy=0.5)
    figures, _ = draw(groups(find_runs([tmp_path]))[0])
    figure = figures["learning_curves"]
    assert len(figure.axes[0].lines) == 7 and "the baseline and the 6 best of 21 rows" in figure.caption
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown[0].startswith("supervised") and all(f"kd.temperature={number}" in text for number, text in zip(range(20, 14, -1), shown[1:]))


def test_the_gallery_asks_the_run_s_own_teacher(kdlab, taught):
    from kdlab.compare.figures.teacher import gallery

    assert kdlab("train", "teacher=run", f"teacher.run={taught.path}", "trainer.max_epochs=1", "progress=none", "loss.kd.temperature=2")[0] == 0
    [run] = find_runs(["runs"])
    figure = gallery(Run(run.path))
    bars = figure.axes[10:20]
    assert [axes.get_title() for axes in [*figure.axes[:5], *figure.axes[10:15]]] == list("0123456789")
    predictions = taught.predictions()
    first = int((predictions["target"] == 0).nonzero()[0])
    expected = (predictions["last"][first] / 2).softmax(-1)
    assert [bar.get_width() for bar in figure.axes[5].patches] == pytest.approx(expected.tolist(), abs=1e-5) and bars
    figures, notes = draw(groups(find_runs(["runs"]))[0])
    assert "soft_targets" in figures and "agreement" in figures, "the teacher's run stands beside its student"


def test_a_folder_that_cannot_be_written(folder, kdlab, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = kdlab("compare", folder, "--report", tmp_path / "file")
    assert code == 2 and "name another folder" in err
