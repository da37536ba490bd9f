"""What the scripts of this folder share: networks, data, one job of distillation, turns of contenders, results.

A *contender* is a way to train the same student. Contenders take turns within each round, so that what else the
machine does falls on all of them. Tables give medians over the rounds, quartiles, and the median of the ratios within
a round.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
FASHION_MNIST = "/usr/share/datasets/fashion-mnist"  # Debian's package dataset-fashion-mnist
INSTALL = {
    "torchdistill": "pip install torchdistill==1.1.5",
    "timm": "pip install 'kdlab[vision]'",
    "liger-kernel": "pip install liger-kernel==0.8.5",
}


# ---------------------------------------------------------------------------------------------------------- networks
@dataclass(frozen=True)
class Net:
    """A network, as kdlab's overrides and as a plain module. kind: ``mlp``, ``cnn`` (widths of hidden layers or
    stages), ``resnet`` (depth, then widths; one of kdlab's files in conf/student)."""

    kind: str
    widths: tuple[int, ...]
    file: str = ""

    def overrides(self) -> list[str]:
        """kdlab's, for ``student``."""
        if self.kind == "resnet":
            return [f"student={self.file}"]
        widths = f"[{','.join(map(str, self.widths))}]"
        return [f"student={self.kind}", f"student.{'hidden' if self.kind == 'mlp' else 'widths'}={widths}"]

    def plain(self, shape: Sequence[int]) -> nn.Module:
        """What a user's own loop trains: inputs (B, *shape) to logits (B, 10)."""
        if self.kind == "resnet":
            from kdlab.models import CifarResNet

            return CifarResNet(classes=10, channels=shape[0], depth=self.widths[0], widths=self.widths[1:])
        layers: list[nn.Module] = []
        if self.kind == "mlp":
            sizes = [int(np.prod(shape)), *self.widths]
            for inputs, outputs in zip(sizes, sizes[1:]):
                layers += [nn.Linear(inputs, outputs), nn.ReLU()]
            return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], 10))
        channels = shape[0]
        for number, width in enumerate(self.widths):
            layers += [nn.MaxPool2d(2)] * bool(number)
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


@dataclass(frozen=True)
class Pair:
    """A teacher and a student on a data set: ``digits``, ``fashion_mnist``, or ``noise``: random patterns with noise,
    of CIFAR-10's shape."""

    data: str
    teacher: Net
    student: Net


PAIRS = {
    "MLP 784-32-10 to itself": Pair("fashion_mnist", Net("mlp", (32,)), Net("mlp", (32,))),
    "MLP 784-1200-1200-10 to 784-100-10": Pair("fashion_mnist", Net("mlp", (1200, 1200)), Net("mlp", (100,))),
    "CNN 32-64-128 to 8-16-32": Pair("fashion_mnist", Net("cnn", (32, 64, 128)), Net("cnn", (8, 16, 32))),
}
SWEPT = {
    "digits": Pair("digits", Net("mlp", (256, 256)), Net("mlp", (32,))),
    "fashion_mnist": Pair("fashion_mnist", Net("mlp", (1200, 1200)), Net("mlp", (100,))),
}
RESNETS = {
    "ResNet-32x4 to ResNet-8x4": Pair(
        "noise",
        Net("resnet", (32, 32, 64, 128, 256), "resnet32x4"),
        Net("resnet", (8, 32, 64, 128, 256), "resnet8x4"),
    )
}


# -------------------------------------------------------------------------------------------------------------- data
def images(data: str, folder: str, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Training inputs (N, C, H, W), normalised, and labels (N,). ``folder`` holds Fashion-MNIST."""
    if data == "digits":
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        x, y = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)
    elif data == "noise":
        generator = torch.Generator().manual_seed(0)
        y = torch.arange(count or 50_000) % 10
        x = torch.randn(10, 3, 32, 32, generator=generator)[y] + torch.randn(len(y), 3, 32, 32, generator=generator)
    else:
        parts = []
        for name, header in (("train-images-idx3-ubyte.gz", 16), ("train-labels-idx1-ubyte.gz", 8)):
            with gzip.open(Path(folder) / name) as file:
                parts.append(torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=header).copy()))
        x, y = parts[0].view(-1, 1, 28, 28)[:count].float(), parts[1].long()
    x, y = x[:count], y[:count]
    return (x - x.mean()) / x.std(), y


def noise_on_disk(folder: Path) -> None:
    """A CIFAR-10 of a random image for each class with noise, in the binary version, which ``data=cifar10
    data.folder=FOLDER`` reads."""
    files = folder / "cifar-10-batches-bin"
    files.mkdir(parents=True)
    draw, labels = np.random.default_rng(0), np.arange(10_000, dtype=np.uint8) % 10
    patterns = draw.integers(0, 128, (10, 3072), dtype=np.uint8)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        pixels = patterns[labels] + draw.integers(0, 128, (len(labels), 3072), dtype=np.uint8)
        np.hstack([labels[:, None], pixels]).tofile(files / f"{name}.bin")


# --------------------------------------------------------------------------------------------------------------- job
@dataclass
class Job:
    """One training: a student is distilled by Hinton's loss, ``weight`` T² KL + (1 - ``weight``) CE.

    ``x``, ``y`` are the training set, ``held`` the validation set: where it is given, each epoch is validated, the best
    weights are saved in ``folder``, and they are tested at the end, as users do. Without it only the steps are run.
    """

    x: Tensor
    y: Tensor
    teacher: nn.Module
    student: Callable[[], nn.Module]
    epochs: int
    batch: int = 128
    temperature: float = 4.0
    weight: float = 0.9
    optimizer: str = "SGD"
    rate: dict[str, float] = field(default_factory=lambda: {"lr": 0.05, "momentum": 0.9})
    cosine: bool = False
    seed: int = 1
    held: tuple[Tensor, Tensor] | None = None
    folder: Path | None = None
    device: str = "cpu"
    bf16: bool = False
    compile: bool = False
    channels_last: bool = False

    @property
    def steps(self) -> int:
        """Of an epoch; a last batch that is not full is left out."""
        return len(self.x) // self.batch

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """A teacher and a new student, on the device."""
        torch.manual_seed(self.seed)
        memory = torch.channels_last if self.channels_last else torch.preserve_format
        teacher, student = copy.deepcopy(self.teacher), self.student()
        for network in (teacher, student):
            network.to(self.device, memory_format=memory)
            if self.compile:
                network.compile()
        return teacher.eval().requires_grad_(False), student.train()

    def optimised(self, student: nn.Module) -> tuple[torch.optim.Optimizer, Any]:
        """The optimiser, and its schedule by steps or None."""
        optimizer = getattr(torch.optim, self.optimizer)(student.parameters(), **self.rate)
        total = self.epochs * self.steps
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total) if self.cosine else None

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def now(self) -> float:
        """Seconds, after everything that the device was asked for."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


@dataclass
class Outcome:
    """What a contender's training gives: seconds of a step in each epoch, and the mean loss of the last epoch."""

    seconds: list[float]
    loss: float

    @property
    def step(self) -> float:
        """The median over the epochs after the first, which pays for what is done once."""
        return statistics.median(self.seconds[1:] or self.seconds)


# ------------------------------------------------------------------------------------------------------------- kdlab
def trained(overrides: Sequence[str]) -> Any:
    """``kdlab.train``, silently; the run."""
    import kdlab

    with quiet():
        return kdlab.train([*overrides, "progress=none"])


def command(*arguments: str) -> list[str]:
    """A command line of kdlab in a new process, whatever is on PATH."""
    return [sys.executable, "-c", "from kdlab.cli.main import script; script()", *arguments]


def teacher_of(pair: Pair, data: Sequence[str], shape: Sequence[int], epochs: int = 1) -> tuple[Path, nn.Module]:
    """A run of kdlab with the teacher, briefly trained, and the same weights in a plain module."""
    run = trained(
        [*data, *pair.teacher.overrides(), "strategy=supervised", f"trainer.max_epochs={epochs}", "name=teacher"]
    )
    network = pair.teacher.plain(shape)
    same_weights(network, run.student)
    return run.path, network.eval()


def same_weights(network: nn.Module, source: nn.Module) -> None:
    """Copy the weights of a network of the same layers in the same order."""
    mine, theirs = network.state_dict(), source.state_dict()
    if [value.shape for value in mine.values()] != [value.shape for value in theirs.values()]:
        raise SystemExit("the plain network and kdlab's differ; mend Net.plain in experiments/speed/common.py")
    network.load_state_dict(dict(zip(mine, (value.cpu() for value in theirs.values()))))


@contextlib.contextmanager
def quiet():
    """Without output and warnings."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


# ------------------------------------------------------------------------------------------------------ measurements
def rounds(ways: Mapping[str, Callable[[], Any]], number: int, warm: int = 1) -> dict[str, list]:
    """What each way gave in each round. The order is drawn in each round; the first ``warm`` rounds do not count."""
    draw = random.Random(0)
    found: dict[str, list] = {name: [] for name in ways}
    for turn in range(-warm, number):
        for name in draw.sample(list(ways), len(ways)):
            value = ways[name]()
            if turn >= 0:
                found[name].append(value)
        print(f"round {turn + 1} of {number}", file=sys.stderr, flush=True)
    return found


def summary(values: Sequence[float], base: Sequence[float] | None = None) -> dict[str, float]:
    """Median and quartiles, and the median and quartiles of the ratios to ``base`` round by round."""
    first, median, third = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    found = {"median": median, "q1": first, "q3": third}
    if base is not None:
        ratio = summary([mine / theirs for mine, theirs in zip(values, base)])
        found |= {"ratio": ratio["median"], "ratio_q1": ratio["q1"], "ratio_q3": ratio["q3"]}
    return found


def memory() -> float:
    """The largest resident size of this process so far, MB. Not getrusage's where Linux has another: that one begins
    with the size of the parent process."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def machine() -> dict[str, Any]:
    """What a reader needs to judge the numbers."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    versions = {}
    for name in ("torch", "lightning", "hydra-core", "torchdistill", "timm"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    git = ["git", "-C", str(HERE), "log", "-1", "--format=%h"]
    found = subprocess.run(git, capture_output=True, text=True)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions,
        "commit": found.stdout.strip() or None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write(name: str, content: Mapping[str, Any], quick: bool) -> None:
    """Keep results with the facts of the machine, in ``results/NAME.json``; of a quick try nothing is kept."""
    if quick:
        return
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"command": " ".join(sys.argv[1:]), "machine": machine(), **_short(content)}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"wrote {RESULTS.name}/{name}.json; python experiments/speed/page.py writes the page", file=sys.stderr)


def merged(name: str, pairs: dict, options: Any) -> dict[str, Any]:
    """The content of results/NAME.json: these pairs, and where ``--pair`` chose some, the others that it has. Each says
    of which commit it is, in how many rounds, and with which load on the machine at the end."""
    now = machine()
    of = dict.fromkeys(pairs, {"commit": now["commit"], "rounds": options.rounds, "load": now["load"]})
    file, kept = RESULTS / f"{name}.json", {}
    if options.pair and file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
    return {"pairs": {**kept.get("pairs", {}), **pairs}, "of": {**kept.get("of", {}), **of}}


def _short(value: Any) -> Any:
    """With four significant digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _short(one) for key, one in value.items()}
    return [_short(one) for one in value] if isinstance(value, list | tuple) else value


def available(names: Sequence[str]) -> list[str]:
    """Those of the packages that are installed; names the others, and how to install them."""
    found = []
    for name in names:
        try:
            metadata.version(name)
            found.append(name)
        except metadata.PackageNotFoundError:
            print(f"left out: {name} is not installed ({INSTALL[name]})", file=sys.stderr)
    return found
