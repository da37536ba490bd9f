"""Folders of runs that nobody trained, as kdlab writes them."""

import json
from pathlib import Path

import numpy as np

CONFIG = """\
name: synthetic
seed: {seed}
threads: 1
compile: false
fresh: false
progress: auto
paths: {{runs: runs, data: data}}
data: {{_target_: kdlab.data.Digits, name: digits, classes: 10, shape: [1, 8, 8], batch_size: 32, validation: 0.2,
  split_seed: 0, fraction: 1.0,
  omit_classes: [], drop_last: true, augment: {{_target_: kdlab.data.Augment, crop_padding: 0, flip: 0.0}}}}
student: {{_target_: kdlab.models.MLP, classes: 10, shape: [1, 8, 8], hidden: [32], dropout: 0.0, input_dropout: 0.0,
  initial: null}}
teacher:
  experiment: teacher/digits
  seed: 1
  overrides: []
  normalisation: null
  config:
    name: teachers
    seed: 1
    data: {{_target_: kdlab.data.Digits, name: digits, classes: 10, shape: [1, 8, 8], batch_size: 64, validation: 0.2,
      split_seed: 0, fraction: 1.0}}
    student: {{_target_: kdlab.models.MLP, classes: 10, shape: [1, 8, 8], hidden: [256, 256], dropout: 0.3,
      input_dropout: 0.0, initial: null}}
    teacher: null
    loss: {{ce: {{_target_: kdlab.losses.CrossEntropy, weight: 1.0, label_smoothing: 0.0, smoothing_over: all,
      both_views: false}}}}
    strategy: {{_target_: kdlab.strategies.Supervised}}
    trainer: {{_target_: lightning.pytorch.Trainer, max_epochs: 30}}
    choices: {{strategy: supervised, student: mlp_wide, data: digits}}
loss:
  ce: {{_target_: kdlab.losses.CrossEntropy, weight: {ce}, label_smoothing: 0.0, smoothing_over: all,
    both_views: false}}
  kd: {{_target_: kdlab.losses.HintonKD, weight: {kd}, temperature: {temperature}, temperature_squared: true}}
strategy: {{_target_: kdlab.strategies.Offline}}
optimizer: {{_target_: torch.optim.AdamW, lr: 0.01, weight_decay: 0.01}}
scheduler: {{_target_: torch.optim.lr_scheduler.CosineAnnealingLR, interval: step, horizon: T_max}}
trainer: {{_target_: lightning.pytorch.Trainer, max_epochs: 5, accelerator: auto, devices: 1, strategy: auto,
  precision: 32-true}}
logger: {{_target_: null}}
callbacks: {{}}
choices: {{experiment: null, scheduler: cosine, optimizer: adamw, strategy: offline, mixing: none, teacher: trained,
  student: mlp, data: digits}}
overrides: [loss.kd.weight={kd}, loss.kd.temperature={temperature}, seed={seed}]
"""
TEACHER = {
    "name": "teacher/digits (seed 1)",
    "parameters": 85002,
    "test": {"accuracy": 0.97, "nll": 0.1, "ece": 0.01},
    "runs": [
        {
            "path": "gone",
            "hash": "teacher",
            "metrics": {"test/accuracy": 0.97, "test/accuracy_best": 0.97},
            "durations": {"train_seconds": 4.0},
        }
    ],
}


def write_runs(folder: Path, variants: int, seeds: int) -> list[Path]:
    """Runs of so many settings of weight and temperature over so many seeds: a seed moves all of them alike, and each a
    little by itself."""
    random, paths = np.random.default_rng(0), []
    moved = 0.01 * random.normal(size=seeds)
    for variant in range(variants):
        temperature, weight = 1 + variant % 20, round((1 + variant // 20) / (2 + variants // 20), 4)
        for seed in range(1, seeds + 1):
            name = f"offline-ce+kd-mlp-s{seed}-{variant:08x}{seed:08x}"
            accuracy, nll, ece = 0.9 + moved[seed - 1] + 0.002 * random.normal(), 0.3, 0.05
            metrics = {
                f"test/{key}{ending}": value
                for ending in ("", "_best")
                for key, value in (("accuracy", accuracy), ("nll", nll), ("ece", ece))
            }
            record = {
                "format": 1,
                "hash": name[-16:],
                "group": f"{variant:016x}",
                "status": "finished",
                "seed": seed,
                "parameters": 2410,
                "flops": 4736,
                "weights": {"ce": 1 - weight, "kd": weight},
                "uses_teacher": True,
                "taught": True,
                "teacher": TEACHER,
                "metrics": metrics,
                "durations": {"train_seconds": 1.5},
                "teacher_share": 0.3,
                "networks": {},
                "network_parameters": {},
            }
            path = folder / name
            path.mkdir(parents=True)
            (path / "run.json").write_text(json.dumps(record, indent=2))
            (path / "config.yaml").write_text(
                CONFIG.format(seed=seed, ce=1 - weight, kd=weight, temperature=float(temperature))
            )
            paths.append(path)
    return paths
