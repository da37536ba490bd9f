"""The contenders: ways to train the same student (:class:`common.Job`), each as its users write it.

Each takes a job and gives an :class:`common.Outcome`. torchdistill is in box.py.
"""

from __future__ import annotations

import csv
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Job, Outcome, quiet, trained
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def hinton(student: Tensor, teacher: Tensor, y: Tensor, job: Job) -> Tensor:
    """Hinton, Vinyals, Dean (2015), https://arxiv.org/abs/1503.02531."""
    t = job.temperature
    soft = F.kl_div((student / t).log_softmax(1), (teacher / t).softmax(1), reduction="batchmean") * t * t
    return job.weight * soft + (1 - job.weight) * F.cross_entropy(student, y)


class Batches:
    """Batches cut from tensors in memory, in a new order each epoch."""

    def __init__(self, job: Job):
        self.job = job
        memory = torch.channels_last if job.channels_last else torch.preserve_format
        self.x, self.y = job.x.to(job.device, memory_format=memory), job.y.to(job.device)

    def __len__(self) -> int:
        return self.job.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(self.x), device=self.job.device)[: len(self) * self.job.batch].split(
            self.job.batch
        ):
            yield self.x[rows], self.y[rows]


def loader(job: Job) -> DataLoader:
    """PyTorch's own, as its tutorials have it."""
    return DataLoader(
        TensorDataset(job.x, job.y), job.batch, shuffle=True, drop_last=True, pin_memory=job.device == "cuda"
    )


def _loop(job: Job, batches: Iterable[tuple[Tensor, Tensor]]) -> Outcome:
    teacher, student = job.networks()
    optimizer, schedule = job.optimised(student)
    seconds, total = [], torch.zeros((), device=job.device)
    for epoch in range(job.epochs):
        began, total = job.now(), torch.zeros((), device=job.device)
        for x, y in batches:
            x, y = x.to(job.device, non_blocking=True), y.to(job.device, non_blocking=True)
            with job.autocast():
                with torch.no_grad():
                    answers = teacher(x)
                loss = hinton(student(x), answers, y, job)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            total += loss.detach()
        seconds.append((job.now() - began) / job.steps)
        validated(job, student, epoch)
    return Outcome(seconds, total.item() / job.steps)


def validated(job: Job, student: nn.Module, epoch: int) -> None:
    """After an epoch: the accuracy on the validation set, and the weights in a file. The last epoch's are evaluated
    once more, as the test."""
    if job.held is None or job.folder is None:
        return
    student.eval()
    with torch.no_grad():
        for _ in range(1 + (epoch == job.epochs - 1)):
            parts = zip(job.held[0].split(job.batch), job.held[1].split(job.batch))
            sum((student(x).argmax(1) == y).sum().item() for x, y in parts)
    torch.save(student.state_dict(), job.folder / "student.pt")
    student.train()


def plain_loop(job: Job) -> Outcome:
    """The floor: a loop over tensors in memory."""
    return _loop(job, Batches(job))


def plain_loop_with_loader(job: Job) -> Outcome:
    """The loop of most papers' code: with a DataLoader of one process."""
    return _loop(job, loader(job))


def timm_task(job: Job) -> Outcome:
    """timm's distillation task in a loop like that of its train.py, which reads the loss in each step."""
    from timm.task import LogitDistillationTask
    from timm.utils import AverageMeter

    compiled, job.compile = job.compile, False  # the task compiles its networks
    teacher, student = job.networks()
    job.compile = compiled
    for network in (teacher, student):  # what timm's networks have
        network.num_classes, network.in_chans = 10, job.x.shape[1]
        network.pretrained_cfg = {"mean": (0.0,) * job.x.shape[1], "std": (1.0,) * job.x.shape[1]}
    task = LogitDistillationTask(
        student,
        teacher,
        nn.CrossEntropyLoss(),
        task_loss_weight=1 - job.weight,
        distill_loss_weight=job.weight,
        temperature=job.temperature,
        device=torch.device(job.device),
        verbose=False,
    )
    task.to(job.device).train()
    if job.compile:
        task.compile()
    optimizer, _ = job.optimised(student)
    seconds, meter = [], AverageMeter()
    for _ in range(job.epochs):
        began, meter = job.now(), AverageMeter()
        for x, y in loader(job):
            x, y = x.to(job.device, non_blocking=True), y.to(job.device, non_blocking=True)
            with job.autocast():
                loss = task(x, y)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            meter.update(loss.item(), len(x))
        seconds.append((job.now() - began) / job.steps)
    return Outcome(seconds, meter.avg)


def _lightning(job: Job, batches: Iterable, log: bool, **options) -> Outcome:
    import lightning as L

    class Distillation(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.teacher, self.student = job.networks()
            self.seconds: list[float] = []

        def on_train_epoch_start(self):
            self.teacher.eval()
            self.began, self.total = job.now(), torch.zeros((), device=self.device)

        def training_step(self, batch, number):
            x, y = batch
            with torch.no_grad():
                answers = self.teacher(x)
            loss = hinton(self.student(x), answers, y, job)
            if log:
                self.log("loss", loss)
            self.total += loss.detach()
            return loss

        def on_train_epoch_end(self):
            self.seconds.append((job.now() - self.began) / job.steps)

        def configure_optimizers(self):
            return job.optimised(self.student)[0]

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, quiet():
        module = Distillation()
        trainer = L.Trainer(
            max_epochs=job.epochs,
            accelerator="gpu" if job.device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if job.bf16 else "32-true",
            default_root_dir=folder,
            **options,
        )
        trainer.fit(module, batches)
    return Outcome(module.seconds, module.total.item() / job.steps)


def bare_lightning(job: Job) -> Outcome:
    """Lightning with everything switched off, on tensors in memory: what its loop costs."""
    off = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary"), False)
    return _lightning(job, Batches(job), log=False, **off)


def lightning_with_defaults(job: Job) -> Outcome:
    """Lightning as its first page has it: DataLoader, ``self.log``, progress bar, logger, checkpoints."""
    return _lightning(job, loader(job), log=True)


def of_kdlab(overrides: list[str], teacher: Path) -> Callable[[Job], Outcome]:
    """``kdlab.train`` with the teacher live. Validation is done after one more epoch alone, which does not count, so
    that only steps are timed. The callbacks are those that every user has."""

    def kdlab(job: Job) -> Outcome:
        further = [
            f"data.batch_size={job.batch}",
            f"optimizer={job.optimizer.lower()}",
            *(f"optimizer.{name}={value}" for name, value in {"weight_decay": 0.0, **job.rate}.items()),
            f"scheduler={'cosine' if job.cosine else 'none'}",
            "loss=[ce,kd]",
            f"loss.kd.temperature={job.temperature}",
            f"loss.kd.weight={job.weight}",
            "teacher=run",
            f"teacher.run={teacher}",
            "teacher.cache=live",
            f"trainer.max_epochs={job.epochs + 1}",
            f"+trainer.check_val_every_n_epoch={job.epochs + 1}",
            f"trainer.accelerator={'gpu' if job.device == 'cuda' else 'cpu'}",
            f"trainer.precision={'bf16-mixed' if job.bf16 else '32-true'}",
            f"compile={str(job.compile).lower()}",
            f"channels_last={str(job.channels_last).lower()}",
            f"seed={job.seed}",
            "fresh=true",
        ]
        return outcome(trained([*overrides, *further]).metrics_file)

    return kdlab


def outcome(curve: Path) -> Outcome:
    """From a run's curve, without the epoch that was validated."""
    with open(curve, encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not row.get("val/accuracy")]
    steps = int(rows[0]["step"])
    return Outcome([float(row["seconds"]) / steps for row in rows], float(rows[-1]["train/loss"]))
