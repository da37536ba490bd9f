"""The results of a finished training: test is evaluated here, once, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.launch.devices import evaluation_device
from kdlab.measure import checkpoint_bytes, flops
from kdlab.outputs import Outputs
from kdlab.runs.checkpoints import read_checkpoint
from kdlab.runs.curve import MetricsFile, unit_of
from kdlab.runs.files import write_atomically
from kdlab.runs.run import Run
from kdlab.teachers import PerTerm

from .assemble import Parts
from .evaluation import Evaluated, Remembered, evaluate
from .recorder import recorded
from .teacher_record import with_test_scores


def results(config: dict, run: Run, parts: Parts, teacher: dict | None = None) -> dict:
    """Evaluate the last and the best checkpoint and the teacher on test, and save the predictions. Those of networks
    that are not kept are saved under their names.

    Args:
        teacher: its description (:func:`kdlab.training.teacher_record.describe`).

    Returns:
        ``metrics``, ``parameters``, ``flops`` (of one sample, :func:`kdlab.measure.flops`) and ``checkpoint_bytes`` of
        the network that is kept;
        ``kept``: which one that is in either checkpoint, and by what rule; ``networks``: the metrics of every network
        and ensemble by name, where there is more than one, and ``network_parameters``, their sizes; ``train_seconds``,
        ``teacher_share`` and ``peak_memory_bytes`` of ``peak_memory_of`` (over all epochs, also those before an
        interruption); ``teacher``: its record with its scores on test.

        Among the metrics on test are ``agreement`` and ``kl_to_teacher`` (:mod:`kdlab.measure.fidelity`) where the run
        has one frozen teacher that knows the same classes; an ensemble is one. They are absent where terms have
        teachers of their own, and where the teaching networks learn too.
    """
    from safetensors.torch import save_file

    content = read_checkpoint(run.checkpoint("last"))
    state = recorded(content)
    rows = state["rows"]
    _restore_curve(run, rows)
    strategy, task, device = parts.strategy, parts.task, evaluation_device(config)
    monitor, sign = f"val/{task.headline.name}", 1 if task.headline.higher_is_better else -1
    validated = [row for row in rows if monitor in row]
    chosen = {"last": rows[-1]}
    if validated:  # the first of equals, as the Recorder keeps it
        chosen["best"] = max(validated, key=lambda row: (sign * row[monitor], -row["epoch"]))

    measured = list(task.metrics())
    of_networks = {f"val/{metric}_{name}" for metric in measured for name in strategy.answers()}
    taught = None if parts.teacher is None or not parts.teacher.gives_logits else Remembered(parts.teacher.teach, task)
    test = parts.data.test_dataloader()  # None: a run from Python without test data
    if parts.caching is not None:
        parts.caching.fill("test")

    def score(
        answers: Mapping[str, Callable[[Batch], Outputs]], teacher: Callable[[Batch], Outputs] | None = None
    ) -> dict[str, Evaluated]:
        if test is None:
            return {name: Evaluated({}, {}, {}) for name in answers}
        return evaluate(answers, test, task, device, teacher)

    if parts.teacher is not None and taught is not None and test is not None:
        described = cast(dict, teacher)
        if isinstance(parts.teacher, PerTerm):
            taught = None
            teacher = with_test_scores(described, parts.teacher, lambda answer: score({"": answer})[""].metrics)
        else:
            beside = taught if task.compared_with == "teacher" else None
            teacher = {**described, "test": score({"": taught}, beside)[""].metrics}

    predictions: dict[str, Tensor] = {}
    metrics: dict[str, float] = {}
    kept: dict[str, Any] = {"rule": strategy.keep}
    networks: dict[str, dict] = {name: {} for name in strategy.answers()}
    strategy.float().to(device)  # weights are measured in full precision, also those of a run in half precision
    evaluated: dict[str, Evaluated] = {}
    for which, row in chosen.items():
        # the Recorder makes the best checkpoint the same file as the last where the last row is the best
        again = which != "last" and _same_file(run.checkpoint(which), run.checkpoint("last"))
        if not again:
            # from the checkpoint: where weights are averaged, or other processes have trained, the strategy here holds
            # other weights
            strategy.load_state_dict(
                (content if which == "last" else read_checkpoint(run.checkpoint(which)))["state_dict"]
            )
            strategy.eval()
            evaluated = score(strategy.answers(), taught)
        suffix = "" if which == "last" else "_best"
        scores = {name: _validated(row, name, measured) for name in networks}
        if not scores["student"] and len(networks) > 1 and validated:  # no validation in the last row
            scores = {name: _validated(validated[-1], name, measured) for name in networks}
        name = strategy.kept(scores)
        kept[which] = {"network": name, "module": _module_name(strategy, strategy.networks()[name])}
        for one, found in evaluated.items():
            tested, said = {**found.metrics, **found.fidelity}, found.predictions
            if again:  # safetensors saves no tensor under two names
                said = {key: value.clone() for key, value in said.items()}
            networks[one] |= {f"test/{key}{suffix}": value for key, value in tested.items()}
            networks[one] |= {f"val/{key}{suffix}": value for key, value in _validated(row, one, measured).items()}
            if not said:
                continue
            if one == name:
                metrics |= {f"test/{key}{suffix}": value for key, value in tested.items()}
            predictions |= named_predictions(said, which if one == name else f"{which}.{one}")
        metrics |= {
            f"{key}{suffix}": value for key, value in row.items() if key.startswith("val/") and key not in of_networks
        }
    if validated:
        metrics["best_epoch"] = int(chosen["best"]["epoch"]) + 1
        if unit_of(config) == "step":
            metrics["best_step"] = int(chosen["best"]["step"])
    metrics |= {name: value for name, value in rows[-1].items() if name.startswith("train/loss")}
    if predictions:
        write_atomically(
            run.predictions_file,
            lambda path: save_file({key: value.contiguous() for key, value in predictions.items()}, path),
        )
    shares = [row["train/teacher_share"] for row in rows]
    sizes = {
        name: sum(value.numel() for value in network.parameters()) for name, network in strategy.networks().items()
    }
    network = strategy.networks()[kept["last"]["network"]]
    return {
        "metrics": metrics,
        "parameters": sizes[kept["last"]["network"]],
        "flops": flops(network, parts.data.val_dataloader().first(1).inputs),
        "checkpoint_bytes": checkpoint_bytes(network),
        "kept": kept,
        "networks": networks if len(networks) > 1 else {},
        "network_parameters": sizes if len(networks) > 1 else {},
        "train_seconds": sum(row["seconds"] for row in rows),
        "teacher_share": sum(shares) / len(shares),
        # None in a resumed run that was begun before this was measured
        "peak_memory_bytes": state.get("peak_memory_bytes"),
        "peak_memory_of": state.get("peak_memory_of"),
        "teacher": teacher,
    }


def named_predictions(stored: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """What a task stores of a network's predictions, under the names of predictions.safetensors: the logits under the
    network's name, and the target and the index, which all networks share.

    >>> list(named_predictions({"logits": 1, "target": 2, "index": 3, "loss": 4}, "last.peer2"))
    ['last.peer2', 'target', 'index', 'last.peer2:loss']
    """
    shared = ("target", "index")
    return {
        key if key in shared else name if key == "logits" else f"{name}:{key}": value for key, value in stored.items()
    }


def _validated(row: dict, name: str, metrics: Iterable[str]) -> dict[str, float]:
    """The validation metrics of one of several networks in an epoch.

    >>> _validated({"val/exact_match": 0.5, "val/f1_match": 0.7}, "match", ["exact_match", "f1"])
    {'f1': 0.7}
    """
    return {metric: row[f"val/{metric}_{name}"] for metric in metrics if f"val/{metric}_{name}" in row}


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one is missing, which its reader reports
        return False


def _module_name(strategy: nn.Module, network: nn.Module) -> str:
    return next(name for name, module in strategy.named_modules() if module is network)


def _restore_curve(run: Run, rows: list[dict]) -> None:
    """Write the curve again from the checkpoint if the file was lost or damaged since."""
    file = MetricsFile(run.metrics_file)
    try:
        if len(file.load().rows) == len(rows):
            return
    except ValueError:
        pass
    file.rows = rows
    file.write()
