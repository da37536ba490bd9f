"""The page of a comparison, its files, and what is left out of it."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import wandb
from safetensors.torch import save_file

from kdlab.cli.main import main
from kdlab.compare import Group, comparison, groups, table_of
from kdlab.compare.figures import Drawing, draw, gather
from kdlab.compare.figures.gather import Rows
from kdlab.compare.figures.predictions import agreement_of
from kdlab.compare.page import facts
from kdlab.compare.wandb_run import log_report
from kdlab.errors import InputError
from kdlab.runs.run import Run, find_runs

DATA = {"_target_": "kdlab.data.Digits", "classes": 10, "shape": [1, 8, 8], "name": "digits", "batch_size": 32}
SAMPLES = 60


def _write(folder, *, seed, accuracy, temperature=None, weight=0.9, files=True, parameters=100):
    kd = temperature is not None
    name = f"t{temperature}-w{weight}-s{seed}" if kd else f"alone-s{seed}"
    path = folder / name
    path.mkdir(parents=True)
    loss = (
        {"ce": {"weight": 1 - weight}, "kd": {"weight": weight, "temperature": temperature}}
        if kd
        else {"ce": {"weight": 1.0}}
    )
    config = {
        "seed": seed,
        "choices": {"strategy": "offline" if kd else "supervised", "student": "mlp", "data": "digits"},
        "loss": loss,
        "teacher": None,
        "student": {"hidden": [4]},
        "data": DATA,
        "paths": {},
        "threads": 1,
    }
    teacher = {"name": "wide", "parameters": 5000, "flops": 9000, "test": {"accuracy": 0.97}, "runs": []}
    record = {
        "status": "finished",
        "hash": name,
        "group": name.rpartition("-")[0],
        "seed": seed,
        "parameters": parameters,
        "uses_teacher": kd,
        "metrics": {"test/accuracy": accuracy, "test/accuracy_best": accuracy},
        "durations": {"train_seconds": 1.0},
        "weights": {key: node["weight"] for key, node in loss.items()},
        "teacher": teacher if kd else None,
    }
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


def _grid(folder):
    for seed in (1, 2):
        _write(folder, seed=seed, accuracy=0.7 + seed / 100)
        for temperature in (1, 4):
            for weight in (0.5, 0.9):
                _write(
                    folder,
                    seed=seed,
                    accuracy=0.8 + seed / 100 + weight / 10,
                    temperature=temperature,
                    weight=weight,
                    parameters=100 * temperature,
                )
    return folder


@pytest.fixture
def folder(tmp_path):
    return _grid(tmp_path / "runs")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A report, and the runs that it is of."""
    folder = _grid(tmp_path_factory.mktemp("reported") / "runs")
    assert main(["compare", str(folder), "--report"]) == 0
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
            self.loaded += [
                value for key, value in attributes if key in self.LOADING and not value.startswith(("#", "data:"))
            ]
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data):
        if self.rows and "table" in self.tags and "figure" not in self.tags:
            self.rows[-1] += data


def test_the_page_is_complete_in_itself(reported):
    text = (reported / "report" / "report.html").read_text()
    page = Page(text)
    assert (
        page.loaded == []
        and not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
        and "@import" not in text
    )
    assert "url(http" not in text and text.count("<svg") == page.tags.count("figure") == 6
    assert len(set(page.ids)) == len(page.ids), "no id twice, or a figure would show another's parts"
    assert set(page.described) <= set(page.ids)
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    labels = [row.label for row in comparison(list(find_runs([reported]))).rows]
    assert len(labels) == 6
    for label, row in zip(labels, page.rows[1:], strict=True):
        assert " ".join(label.split()) in " ".join(row.split())
    assert "its difference to the baseline" in text and "+0.1900" in text, "0.905 of the best less 0.715"
    assert "no soft targets" in text, "the teacher is no longer to be had, and the page says so"
    names = {path.name for path in (reported / "report").rglob("*") if path.is_file()}
    figures = {"heat_map", "learning_curves", "pareto_parameters", "reliability", "per_class", "agreement"}
    assert names == {"report.html", "table.csv", "table.md", "table.tex"} | {
        f"{name}.{kind}" for name in figures for kind in ("png", "svg")
    }


def _rows(folder) -> Rows:
    found, _ = groups(find_runs([folder]))
    return Rows(found, "accuracy", next((group.label for group in found if group.role == "student baseline"), None))


def _drawn(items) -> Drawing:
    [(_, figure)] = [item for item in items if not isinstance(item, str)]
    return figure


def test_the_heat_map_s_numbers_come_from_the_runs(reported):
    axes = _drawn(gather._heat_map(_rows(reported))).axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.8650", "0.8650", "0.9050", "0.9050"], (
        "temperature across, weight up"
    )
    assert axes.get_xlabel() == "kd.temperature" and "0.7150" in axes.get_title(loc="left")


def test_the_agreement_s_numbers_come_from_the_runs(reported):
    figure = _drawn(agreement_of(_rows(reported)))
    wrong = [round((1 - accuracy) * SAMPLES) for accuracy in (0.71, 0.72, 0.90, 0.91)]
    agreed = 1 - np.mean([wrong[0] - wrong[2], wrong[1] - wrong[3]]) / SAMPLES
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == 15 and texts[1] == f"{100 * agreed:.1f}", "the baseline and the best"


def test_what_is_missing_or_damaged_is_left_out_and_told(folder):
    for path in folder.glob("*-s1"):
        (path / "predictions.safetensors").unlink()
        (path / "metrics.csv").write_text("epoch,val/accuracy\n0,nonsense\n")
    (folder / "t1-w0.5-s2" / "predictions.safetensors").write_bytes(b"torn")
    other = {"last": torch.zeros(SAMPLES, 10), "target": torch.zeros(SAMPLES).long(), "index": torch.arange(SAMPLES)}
    save_file(other, folder / "t4-w0.9-s2" / "predictions.safetensors")
    rows = _rows(folder)
    first, (name, figure) = gather._learning_curves(rows)
    assert first == "5 runs without a readable metrics.csv left out" and len(figure.axes[0].lines) == 5
    first, second, (name, figure) = agreement_of(rows)
    assert first == "6 runs without readable test predictions left out"
    assert second.startswith("left out, since it was tested on other samples: offline") and "kd.temperature=4" in second
    assert len(figure.axes[0].texts) == 6, "three rows are left"


def test_a_baseline_without_runs_of_its_own(tmp_path):
    """One of several networks, or a teacher that only records tell of."""
    _write(tmp_path, seed=1, accuracy=0.8, temperature=1, files=False)
    figures, notes = draw(groups(find_runs([tmp_path]))[0], baseline="online ce · peer2")
    assert notes[0] == "figures: no baseline, since 'online ce · peer2' has no runs of its own with accuracy" and set(
        figures
    ) == {"pareto_parameters"}


def test_page_and_figures_have_the_table_s_baseline(tmp_path):
    """Of two student baselines none is taken for the one; named, it is the one everywhere."""
    for seed in (1, 2):
        path = _write(tmp_path, seed=seed, accuracy=0.75).rename(tmp_path / f"wider-s{seed}")
        for name, changes in (
            ("run.json", {"group": "wider", "hash": path.name}),
            ("config.yaml", {"student": {"hidden": [8]}}),
        ):
            (path / name).write_text(json.dumps({**json.loads((path / name).read_text()), **changes}))
    _grid(tmp_path)
    found, _ = groups(find_runs([tmp_path]))
    table = table_of(found)
    figures, notes = draw(found, baseline=table.baseline)
    assert (
        table.baseline is None
        and "per_class" not in figures
        and "no per-class change: there is no baseline to compare with" in notes
    )
    assert [fact.name for fact in facts(table)] == ["teacher: accuracy", "best of 4 variants: accuracy"]
    table = table_of(found, baseline="hidden=[8]")
    figures, _ = draw(found, baseline=table.baseline)
    assert figures["per_class"].title == f"Per class, against {table.baseline}" and "[8]" in table.baseline
    assert [fact.about for fact in facts(table)][1] == table.baseline


def test_a_figure_that_cannot_be_drawn_loses_no_other(tmp_path, monkeypatch):
    _write(tmp_path, seed=1, accuracy=0.8, temperature=1, files=False)
    _write(tmp_path, seed=1, accuracy=0.9, temperature=4, files=False, parameters=200)
    monkeypatch.setattr(gather, "grid", lambda configs: 1 / 0)
    figures, notes = draw(groups(find_runs([tmp_path]))[0])
    assert set(figures) == {"pareto_parameters"}
    assert {
        "no heat map: ZeroDivisionError: division by zero",
        "no learning curves: no metrics.csv with val/accuracy next to the records",
        "no reliability diagram: no row has test predictions",
        "no per-class change: there is no baseline to compare with",
        "reliability diagram: 2 runs without readable test predictions left out",
    } <= set(notes)


def test_records_alone_are_enough(folder):
    """As the results of a study are kept: without folders."""
    found, _ = groups(find_runs([folder]))
    alone = [Group(records=group.records, config=group.config, role=group.role, label=group.label) for group in found]
    figures, notes = draw(alone)
    assert set(figures) == {"heat_map", "pareto_parameters"}
    assert "no learning curves: no metrics.csv with val/accuracy next to the records" in notes
    assert "agreement matrix: 10 runs without readable test predictions left out" in notes


def test_latencies_of_one_machine_are_compared(tmp_path):
    for temperature, machine, latency in ((1, "a", 0.5), (2, "a", 0.7), (4, "b", 9.0)):
        path = _write(tmp_path, seed=1, accuracy=0.8, temperature=temperature, files=False)
        (path / "measurements.json").write_text(
            json.dumps({"machine": {"processor": machine}, "threads": 1, "batches": {"1": {"latency_ms": latency}}})
        )
    machine, left_out, parameters, (name, figure) = gather._pareto(_rows(tmp_path))
    assert (
        "measured on a," in machine
        and left_out.startswith("measurements of 1 run left out: made on another machine")
        and name == "pareto_latency"
    )
    table = comparison(find_runs([tmp_path]), further=["latency_ms"])
    assert [row.further["latency_ms"].mean for row in table.rows if "latency_ms" in row.further] == [0.5, 0.7] and {
        machine,
        left_out,
    } < set(table.notes)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0.5], "as good and slower is not on the front"
    assert "Scatter plot of 2 rows" in figure.alt and parameters[0] == "pareto_parameters"


def test_many_rows_are_chosen_from(tmp_path):
    for temperature in range(1, 21):
        _write(tmp_path, seed=1, accuracy=0.5 + temperature / 100, temperature=temperature)
    _write(tmp_path, seed=1, accuracy=0.5)
    rows = _rows(tmp_path)
    figure = _drawn(gather._learning_curves(rows))
    assert len(figure.axes[0].lines) == 7 and "the baseline and the 6 best of 21 rows" in figure.caption
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown[0].startswith("supervised") and all(
        f"kd.temperature={number}" in text for number, text in zip(range(20, 14, -1), shown[1:])
    )
    with pytest.raises(InputError, match="no two numbers of the config make a grid"):
        list(gather._heat_map(rows))


def test_the_gallery_asks_the_run_s_own_teacher(kdlab, taught):
    from kdlab.compare.figures.teacher import gallery

    assert (
        kdlab(
            "train",
            "teacher=run",
            f"teacher.run={taught.path}",
            "trainer.max_epochs=1",
            "progress=none",
            "loss.kd.temperature=2",
        )[0]
        == 0
    )
    [run] = find_runs(["runs"])
    figure = gallery(Run(run.path))
    assert [axes.get_title() for axes in [*figure.axes[:5], *figure.axes[10:15]]] == list("0123456789")
    predictions = taught.predictions()
    first = int((predictions["target"] == 0).nonzero()[0])
    expected = (predictions["last"][first] / 2).softmax(-1)
    assert [bar.get_width() for bar in figure.axes[5].patches] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_report_s_folder_holds_its_own_figures_alone(folder, kdlab):
    report = folder / "report"
    assert kdlab("compare", folder, "--report")[0] == 0 and (report / "figures" / "heat_map.svg").exists()
    (report / "figures" / "mine.svg").write_text("")
    one = next(run.path for run in find_runs([folder]) if run.path.name.startswith("alone"))
    assert kdlab("compare", one, "--report", report)[0] == 0
    left = {path.name for path in (report / "figures").iterdir()}
    assert (
        "learning_curves.svg" in left
        and "mine.svg" in left
        and not left & {"heat_map.png", "heat_map.svg", "per_class.png", "per_class.svg"}
    )


def test_a_folder_that_cannot_be_written(folder, kdlab, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = kdlab("compare", folder, "--report", tmp_path / "file")
    assert code == 2 and "name another folder" in err and not (folder / "compare.csv").exists()


def test_wandb_gets_table_figures_and_files(reported, monkeypatch):
    run = StandIn()
    monkeypatch.setattr(wandb, "init", run.init)
    monkeypatch.setenv("WANDB_MODE", "offline")
    table = comparison(list(find_runs([reported])))
    log_report(table, reported / "report", "distillation", "my runs")
    assert (
        run.options["project"] == "distillation"
        and run.options["mode"] == "offline"
        and run.options["job_type"] == "compare"
    )
    logged = run.logged["comparison"]
    assert logged.columns == table.head() and logged.data == table.cells() and len(logged.data) == 6
    assert {name for name in run.logged if name.startswith("figures/")} == {
        f"figures/{path.stem}" for path in reported.glob("report/figures/*.png")
    }
    [artifact] = run.artifacts
    assert artifact.name == "my-runs" and {"report.html", "table.csv", "figures/heat_map.svg"} <= set(
        artifact.manifest.entries
    )
    assert run.summary["accuracy/supervised ce"] == pytest.approx(0.715)


class StandIn:
    """What wandb.init gives, as far as it is used: it keeps what it is told."""

    dir = "wandb/offline-run/files"

    def __init__(self):
        self.logged, self.artifacts, self.summary = {}, [], {}

    def init(self, **options):
        self.options = options
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def log(self, values):
        self.logged.update(values)

    def log_artifact(self, artifact):
        self.artifacts.append(artifact)


@pytest.mark.slow
def test_wandb_offline(reported, kdlab, monkeypatch):
    """With wandb itself: what it keeps to be synchronised."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    code, out, err = kdlab("compare", reported, "--wandb", "distillation")
    assert code == 0, err
    [kept] = reported.glob("wandb/offline-run-*")
    assert str(kept.name) in out
    [table] = kept.rglob("comparison_*.table.json")
    assert len(json.loads(table.read_text())["data"]) == 6
    assert len(list(kept.rglob("media/images/figures/*.png"))) == 6 and list(kept.glob("run-*.wandb"))
