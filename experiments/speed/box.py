"""torchdistill, driven as its example for image classification drives it: a config of its keys, its DistillationBox,
its MetricLogger, and the checks of each step."""

from __future__ import annotations

import logging
import time

import torch
from common import Job, Outcome
from torch.utils.data import RandomSampler, SequentialSampler, TensorDataset


def config(job: Job) -> dict:
    """The ``train`` part of a torchdistill config: KDLoss, with the keys of its samples for CIFAR-10."""

    def loads(dataset: str, sampler, **options) -> dict:
        return {
            "dataset_id": dataset,
            "sampler": {"class_or_func": sampler, "kwargs": {}},
            "kwargs": {"batch_size": job.batch, "num_workers": 0, **options},
        }

    def network(updated: bool) -> dict:
        return {
            "forward_proc": "forward_batch_only",
            "sequential": [],
            "requires_grad": updated,
            "frozen_modules": [],
        }

    path = {"student_module_path": ".", "student_module_io": "output"}
    path |= {"teacher_module_path": ".", "teacher_module_io": "output"}
    loss = {"temperature": job.temperature, "alpha": 1 - job.weight, "reduction": "batchmean"}
    made = {
        "log_freq": 500,
        "num_epochs": job.epochs,
        "train_data_loader": loads("train", RandomSampler, drop_last=True, pin_memory=job.device == "cuda"),
        "teacher": network(False),
        "student": network(True),
        "optimizer": {"key": job.optimizer, "kwargs": dict(job.rate)},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "sub_terms": {"kd": {"criterion": {"key": "KDLoss", "kwargs": {**path, **loss}}, "weight": 1.0}}
            },
        },
    }
    if job.held is not None:
        made["val_data_loader"] = loads("val", SequentialSampler)
    if job.cosine:
        made["scheduler"] = {
            "key": "CosineAnnealingLR",
            "kwargs": {"T_max": job.epochs * job.steps},
            "scheduling_step": 1,
        }
    return made


def torchdistill(job: Job) -> Outcome:
    """Train with torchdistill."""
    from torchdistill.core.distillation import get_distillation_box

    logging.getLogger("torchdistill").setLevel(logging.ERROR)
    teacher, student = job.networks()
    device = torch.device(job.device)
    sets = {"train": TensorDataset(job.x, job.y)}
    if job.held is not None:
        sets["val"] = TensorDataset(*job.held)
    box = get_distillation_box(teacher, student, sets, config(job), device, None, False, 1)
    seconds, best, loss = [], 0.0, 0.0
    for epoch in range(box.num_epochs):
        began = job.now()
        box.pre_epoch_process(epoch=epoch)
        loss = _epoch(box, job, device)
        seconds.append((job.now() - began) / job.steps)
        if box.val_data_loader is not None and job.folder is not None:
            accuracy = _accuracy(student, box.val_data_loader, device)
            if accuracy > best:
                best = accuracy
                _save(job, student, box, best)
        box.post_epoch_process()
    box.clean_modules()
    if job.folder is not None:  # its example tests teacher and student at the end
        student.load_state_dict(torch.load(job.folder / "student.pt", weights_only=True)["model"])
        for network in (teacher, student):
            _accuracy(network, box.val_data_loader, device)
    return Outcome(seconds, loss)


def _epoch(box, job: Job, device: torch.device) -> float:
    from torchdistill.misc.log import MetricLogger, SmoothedValue

    meters = MetricLogger(delimiter="  ")
    meters.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
    meters.add_meter("img/s", SmoothedValue(window_size=10, fmt="{value}"))
    for x, y, further in meters.log_every(box.train_data_loader, 500, "epoch"):
        began = time.time()
        x, y = x.to(device), y.to(device)
        with job.autocast():
            loss = box.forward_process(x, y, further)
        box.post_forward_process(loss=loss)
        meters.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
        meters.meters["img/s"].update(len(x) / (time.time() - began))
        if torch.isnan(loss) or torch.isinf(loss):
            raise ValueError(f"the loss is {loss}")
    return meters.loss.global_avg


@torch.inference_mode()
def _accuracy(network, loader, device: torch.device) -> float:
    from torchdistill.misc.log import MetricLogger

    network.eval()
    meters = MetricLogger(delimiter="  ")
    for x, y in meters.log_every(loader, 500, "validation"):
        top = network(x.to(device)).topk(5, 1).indices == y.to(device)[:, None]
        for name, right in (("acc1", top[:, :1]), ("acc5", top)):
            meters.meters[name].update(right.any(1).float().mean().item() * 100, n=len(x))
    return meters.acc1.global_avg


def _save(job: Job, student, box, best: float) -> None:
    content = {"model": student.state_dict(), "optimizer": box.optimizer.state_dict(), "best_value": best}
    if box.lr_scheduler is not None:
        content["lr_scheduler"] = box.lr_scheduler.state_dict()
    torch.save(content, job.folder / "student.pt")
