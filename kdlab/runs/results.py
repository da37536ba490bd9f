"""What came of a finished training: test is evaluated here, once, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

from kdlab.batch import Batch
from kdlab.evaluation import predict
from kdlab.outputs import Outputs

from .assemble import Parts
from .checkpoints import load_student, read_checkpoint, student_network
from .execute import evaluation_device
from .files import write_atomically
from .metrics import MetricsFile
from .recorder import recorded
from .run import Run


def results(config: dict, run: Run, parts: Parts) -> dict:
    """Evaluate the last and the best checkpoint, and the teacher, on test; keep the students' predictions.

    Returns:
        ``metrics``, ``train_seconds`` and ``teacher_share`` (over all epochs, also those before an interruption), and ``teacher_test``, the
        teacher's scores (None without one).
    """
    from safetensors.torch import save_file

    content = read_checkpoint(run.checkpoint("last"))
    rows = recorded(content)["rows"]
    _restore_curve(run, rows)
    device, monitor = evaluation_device(config), f"val/{parts.task.monitor}"
    sign = 1 if parts.task.higher_is_better else -1
    validated = [row for row in rows if monitor in row]
    chosen = {"last": rows[-1]}
    if validated:           # the first of equals, as the Recorder keeps it
        chosen["best"] = max(validated, key=lambda row: (sign * row[monitor], -row["epoch"]))

    def score(answer: Callable[[Batch], Outputs]) -> tuple[dict, dict]:
        said = predict(answer, parts.data.test_dataloader(), parts.task, device)
        return said, parts.task.score(said["logits"], said["target"])

    predictions, metrics = {}, {}
    for which, row in chosen.items():
        network = student_network(config)
        load_student(network, run.checkpoint(which), content if which == "last" else None)
        network.eval().to(device)
        said, scores = score(lambda batch: parts.task.network_outputs(network, batch))
        suffix = "" if which == "last" else "_best"
        predictions |= {which: said["logits"], "target": said["target"], "index": said["index"]}
        metrics |= {f"test/{name}{suffix}": value for name, value in scores.items()}
        metrics |= {f"{name}{suffix}": value for name, value in row.items() if name.startswith("val/")}
    if validated:
        metrics["best_epoch"] = int(chosen["best"]["epoch"]) + 1
    metrics |= {name: value for name, value in rows[-1].items() if name.startswith("train/loss")}
    write_atomically(run.predictions_file, lambda path: save_file({key: value.contiguous() for key, value in predictions.items()}, path))
    shares = [row["train/teacher_share"] for row in rows]
    return {
        "metrics": metrics,
        "train_seconds": sum(row["seconds"] for row in rows),
        "teacher_share": sum(shares) / len(shares),
        "teacher_test": None if parts.teacher is None else score(parts.teacher.teach)[1],
    }


def _restore_curve(run: Run, rows: list[dict]) -> None:
    """The checkpoint is what counts: a curve that was lost or damaged since is written again from it."""
    file = MetricsFile(run.metrics_file)
    try:
        if len(file.load().rows) == len(rows):
            return
    except ValueError:
        pass
    file.rows = rows
    file.write()
