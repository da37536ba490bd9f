"""Run: a directory. RunStore: the folder they are kept in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab import __version__
from kdlab.config.names import readable_name
from kdlab.errors import InputError, yaml_problem

from .files import write_json, write_text
from .identity import hash_as_spelled, run_hash
from .measurements import read as read_measurements
from .schema import FORMAT, REQUIRED, RunRecord, problem

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from torch import nn

FINISHED, RUNNING, FAILED, INTERRUPTED, PRUNED = "finished", "running", "failed", "interrupted", "pruned"
STATUSES = (FINISHED, RUNNING, FAILED, INTERRUPTED, PRUNED)
CONFIG = ("data", "student", "loss")  # the nodes that a run's config must have
#: the entry ``made_by`` of runs without a recipe for their networks and data
FROM_PYTHON = "kdlab.distill"
AWAY = "move {} away and start the run again"


class Run:
    """A run in its directory::

    run.json                 identity, provenance, status, metrics, and costs (FLOPs, bytes, seconds)
    config.yaml              the whole config
    metrics.csv              one row per epoch, or per trainer.every_n_train_steps
    checkpoints/last.ckpt    the last row: student, connectors, optimiser; never a frozen teacher
    checkpoints/best.ckpt    the row that is best on validation
    predictions.safetensors  test logits of both checkpoints, so that test is not evaluated again
    measurements.json        results of kdlab measure: speed, memory, alignment with the teacher
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Run('{self.path}', {self.status})"

    # -- files ---------------------------------------------------------------------------------------------------------

    def checkpoint(self, which: str = "last") -> Path:
        """``last`` or ``best`` (on validation)."""
        if which not in ("last", "best"):
            raise InputError(f"a run has the checkpoints 'last' and 'best', not '{which}'")
        return self.path / "checkpoints" / f"{which}.ckpt"

    @property
    def metrics_file(self) -> Path:
        """The path of metrics.csv, which may not exist yet."""
        return self.path / "metrics.csv"

    @property
    def predictions_file(self) -> Path:
        """The path of predictions.safetensors, which may not exist yet."""
        return self.path / "predictions.safetensors"

    # -- the record ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises InputError where the directory holds no run, or one that cannot be read."""
        _ = self.record

    @property
    def record(self) -> dict:
        """run.json as it is written (:mod:`kdlab.runs.schema`). Raises InputError where it is missing, damaged, or of
        a later version than this knows."""
        path = self.path / "run.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{self.path} is no run directory: it holds no run.json") from error
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); {AWAY.format(self.path)}"
            ) from error
        version = record.get("format") if isinstance(record, dict) else None
        if isinstance(version, int) and version > FORMAT:
            writer = (
                record["code"].get("kdlab") if isinstance(record.get("code"), dict) else None
            ) or "a later version"
            raise InputError(
                f"{path} was written by kdlab {writer} in format {version}, and this kdlab {__version__} reads formats "
                f"up to {FORMAT}: use that kdlab, or another folder with paths.runs=…; this one leaves the run alone"
            )
        wrong = problem(record, REQUIRED)
        if not wrong and record["status"] not in STATUSES:
            wrong = f"status is {record['status']!r}, and should be one of {', '.join(STATUSES)}"
        if wrong:
            raise InputError(f"{path} is not a record of kdlab ({wrong}); {AWAY.format(self.path)}")
        return record

    def read(self) -> RunRecord:
        """run.json in its typed form. Raises InputError as :attr:`record` does."""
        return RunRecord.read(self.record)

    def update(self, **values: object) -> None:
        """Change entries of run.json, atomically."""
        write_json(self.path / "run.json", {**self.record, **values})

    @property
    def status(self) -> str:
        """``finished``, ``running`` (or killed while running), ``failed``, ``interrupted``, ``pruned`` (a search
        stopped it); ``absent`` before it was begun."""
        return self.record["status"] if (self.path / "run.json").exists() else "absent"

    @property
    def finished(self) -> bool:
        """Whether the status is ``finished``."""
        return self.status == FINISHED

    @property
    def being_trained(self) -> bool:
        """Whether a process holds its lock. A run with status ``running`` that no process trains was killed."""
        from filelock import Timeout

        try:
            with self.lock().acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a folder that cannot be written: no process trains there
            return False

    @property
    def begun_afresh(self) -> bool:
        """Whether the unfinished run was started with fresh=true."""
        return self.status not in ("absent", FINISHED) and self.read().fresh

    def lock(self) -> BaseFileLock:
        """The lock that a process holds while it trains the run. It lies next to the run's directory, which may not
        exist yet."""
        from filelock import FileLock

        path = self.path.parent / ".locks" / f"{self.path.name.rpartition('-')[2]}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    @property
    def hash(self) -> str:
        """The run's hash, from its record."""
        return self.record["hash"]

    @property
    def metrics(self) -> dict[str, float]:
        """The run's final numbers: ``test/accuracy`` (last epoch), ``test/accuracy_best``, ``val/accuracy``,
        ``test/agreement`` (with its teacher) and so on. An interruption does not change them. Numbers that depend on
        the machine (seconds, memory) are other entries of the record."""
        return self.read().metrics

    @property
    def measurements(self) -> dict:
        """measurements.json (:mod:`kdlab.runs.measurements`). Empty where the run was not measured or the file is
        damaged; :func:`kdlab.runs.measurements.read` also returns the reason."""
        return read_measurements(self.path)[0]

    @cached_property
    def config(self) -> dict:
        """The whole config of the run. Raises InputError where it is missing or damaged."""
        import yaml

        path = self.path / "config.yaml"
        try:
            config = _loaded(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}); {AWAY.format(self.path)}") from error
        except (ValueError, yaml.YAMLError) as error:
            raise InputError(f"{path} cannot be read ({yaml_problem(error)}); {AWAY.format(self.path)}") from error
        missing = [key for key in CONFIG if not isinstance(config, dict) or not isinstance(config.get(key), dict)]
        if missing:
            raise InputError(f"{path} is not the config of a run (it has no {missing[0]}); {AWAY.format(self.path)}")
        return config

    def begin(self, config: dict, record: dict) -> None:
        """Make the directory: run.json first, then the config."""
        import yaml

        write_json(self.path / "run.json", record)
        write_text(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def clear(self) -> None:
        """Remove the directory.

        Raises:
            InputError: it cannot be removed.
        """
        try:
            if self.path.exists():
                shutil.rmtree(self.path)
        except OSError as error:
            raise InputError(f"{self.path} cannot be removed ({error.strerror or error})") from error

    # -- results -------------------------------------------------------------------------------------------------------

    @property
    def student(self) -> nn.Module:
        """The trained student of the last epoch: a plain ``nn.Module`` on the CPU in evaluation mode."""
        return self.network("last")

    def kept(self, which: str = "last") -> dict[str, str]:
        """The network that the run keeps of a checkpoint: its name, and its module within the strategy. With one
        network it is the student."""
        record = self.read()
        return {"network": record.kept_network(which), "module": record.kept_module(which)}

    def network_config(self, which: str = "last") -> dict:
        """The config's node of the network that is kept."""
        from .checkpoints import network_node

        return network_node(self.config, self.kept(which)["network"])

    def network(self, which: str = "last") -> nn.Module:
        """The trained network that the run keeps, ``last`` or ``best``."""
        from kdlab.config.build import build

        from .checkpoints import load_student

        self.check_recipe("its network cannot be built from its config")
        node = self.network_config(which)
        try:
            network = build(node, "student")
        except InputError as error:
            raise InputError(
                f"{error} (the run was trained in {self.read().directory}: if the network is of a module of "
                "yours, put that folder on sys.path)"
            ) from error
        load_student(network, self.checkpoint(which), module=self.kept(which)["module"])
        return network.eval()

    def check_recipe(self, what: str) -> None:
        """Raises InputError where the run was made by ``kdlab.distill``: its config describes objects of Python, and
        builds nothing.

        Args:
            what: what is therefore impossible.
        """
        if self.config.get("made_by") == FROM_PYTHON:
            raise InputError(
                f"{self.path} was made by {FROM_PYTHON}, so {what}. Build the network in Python and load its weights: "
                f'kdlab.load("{self.path}").load_into(network)'
            )

    def load_into(self, network: nn.Module, which: str = "last") -> nn.Module:
        """Load the weights of the network that the run keeps, ``last`` or ``best``, into a network of the same
        architecture. Returns it in evaluation mode. For runs of ``kdlab.distill``, whose network has no config.

        Raises:
            InputError: the network is of another architecture.
        """
        from .checkpoints import load_student

        load_student(network, self.checkpoint(which), module=self.kept(which)["module"])
        return network.eval()

    def predictions(self) -> dict:
        """``target``, ``index``, and the logits ``last`` and ``best`` of the test split. The logits of networks that
        are not kept are ``last.NAME`` and ``best.NAME``."""
        from .checkpoints import read_checkpoint

        cure = (
            f"kdlab evaluate {self.path} data.evaluation_batch_size=500 evaluates its checkpoint, and fresh=true "
            "trains it again"
        )
        if not self.predictions_file.exists():
            raise InputError(
                f"{self.path} holds no predictions.safetensors, although it is finished; {cure}"
                if self.finished
                else f"{self.path} holds no test predictions: its status is {self.status}"
            )
        try:
            content = read_checkpoint(self.predictions_file)
        except InputError as error:
            raise InputError(f"{error}; {cure}") from error
        # vectors are compared with those of a teacher, and the data may have no labels
        needed = {"last", "index"} if self.finished and self.read().task.answers == "vectors" else {"target"}
        if not {"last", "index", *needed} <= set(content):
            raise InputError(f"{self.predictions_file} does not hold a run's predictions (last, target, index); {cure}")
        return content


def _loaded(text: str) -> Any:
    """The content of YAML text. It is read by libyaml, which is many times faster, if PyYAML has it. Errors come from
    PyYAML's own loader, whose messages are better."""
    import yaml

    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return yaml.safe_load(text)


class RunStore:
    """The folder that runs are kept in: ``<root>/<name>/<readable>-<hash>``."""

    def __init__(self, root: str | Path = "runs"):
        self.root = Path(root)

    def run(self, config: dict, digest: str | None = None) -> Run:
        """The run of a config, begun or not. A run is recognised by name and hash; the readable part may differ.

        Args:
            digest: its hash, if that is already known.
        """
        folder, digest = self.root / config["name"], digest or run_hash(config)
        known = sorted(folder.glob(f"*-{digest}")) if folder.is_dir() else []
        if not known and folder.is_dir() and (older := hash_as_spelled(config)):
            known = sorted(folder.glob(f"*-{older}"))
        return Run(known[0] if known else folder / f"{readable_name(config)}-{digest}")

    def runs(self) -> list[Run]:
        """Every run below the root."""
        return list(find_runs([self.root]))


def run_of(checkpoint: str | Path) -> Run | None:
    """The run that a checkpoint file belongs to, if any. A config.yaml alone is no proof: other projects write one,
    too."""
    run = Run(Path(checkpoint).resolve().parent.parent)
    if (run.path / "run.json").exists():
        return run
    try:
        return run if (run.path / "config.yaml").exists() and run.config["student"].get("_target_") else None
    except InputError:
        return None


def find_runs(folders: Iterable[str | Path]) -> Iterator[Run]:
    """The runs in or below folders, sorted by path, each once."""
    seen = set()
    for folder in map(Path, folders):
        candidates = [folder / "run.json"] if (folder / "run.json").is_file() else sorted(folder.rglob("run.json"))
        for path in candidates:
            if path.parent.resolve() not in seen:
                seen.add(path.parent.resolve())
                yield Run(path.parent)


def runs_in(folders: Collection[str | Path]) -> list[Run]:
    """The runs in or below folders that a person names.

    Raises:
        InputError: a folder is missing, or none holds a run.
    """
    if wrong := [folder for folder in folders if not isinstance(folder, (str, os.PathLike))]:
        raise InputError(f"folders are named one by one, as in compare('runs/a', 'runs/b'), got {wrong[0]!r}")
    missing = [folder for folder in folders if not Path(folder).is_dir()]
    if missing:
        raise InputError(f"there is no folder {', '.join(map(str, missing))}")
    runs = list(find_runs(folders))
    if not runs:
        raise InputError(f"no runs in {', '.join(map(str, folders))}; kdlab runs lists what there is")
    return runs
