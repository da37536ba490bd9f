"""CRD: module form of :mod:`kdlab.functional.crd`, with its embeddings and memories."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.crd import contrastive_normaliser, moved, negatives, rows_are_gathered
from kdlab.functional.kernels import unit
from kdlab.outputs import Outputs

from .base import Loss, Probe, fraction, positive


class CRD(Loss):
    """Contrastive representation distillation: :func:`kdlab.functional.contrastive_representation` between linear
    embeddings of the two features, against memories of the embeddings of all training samples.

    The memories and the two Z are buffers, so they are saved in the checkpoint. At every training step, the rows of the
    batch move towards the new embeddings of their samples. Z is computed from the first batch. With several processes,
    the embeddings of all processes are gathered, so that the memories stay the same everywhere, and Z is computed from
    the first batch of every process. In evaluation before any training, Z is computed from the current batch and not
    kept.

    The negatives are drawn from the training samples in use: from those of other classes if the data have labels,
    otherwise from all other samples. They are drawn on the device, with replacement. The authors' data set draws
    without replacement if there are enough samples.

    Args:
        student_tap, teacher_tap: features of any shape; they are flattened.
        dimensions: width of the embeddings.
        negatives: K, the number of negatives per sample.
        temperature: tau.
        momentum: the share of a memory's row that an update keeps.
    """

    per = "sample"

    function = staticmethod(functional.contrastive_representation)
    needs_index = True
    #: built by :meth:`prepare`
    student_embedding: nn.Linear
    teacher_embedding: nn.Linear
    student_memory: Tensor
    teacher_memory: Tensor
    normalisers: Tensor
    label: Tensor
    order: Tensor
    first: Tensor
    count: Tensor

    @property
    def answers(self) -> tuple[str, ...]:
        """Classes alone: the negatives are samples of other classes."""
        return ("classes",)

    def __init__(
        self,
        student_tap: str = "embedding",
        teacher_tap: str = "embedding",
        dimensions: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ):
        super().__init__()
        self.student_taps, self.teacher_taps = (student_tap,), (teacher_tap,)
        for name, value in (("dimensions", dimensions), ("negatives", negatives)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.dimensions, self.negatives = dimensions, negatives
        self.temperature, self.momentum = positive("temperature", temperature), fraction("momentum", momentum)
        # whether the buffer is known to hold both Z: reading the buffer at every step would wait for the device
        self._normalised = False

    def prepare(self, probe: Probe) -> None:
        """Builds the two embeddings, two memories ``(train_size, dimensions)`` with random entries, and the tables from
        which negatives are drawn.

        Raises:
            ValueError: all training samples are of one class.
        """
        mine, theirs = (
            probe.student.features[self.student_taps[0]],
            probe.teacher_outputs.features[self.teacher_taps[0]],
        )
        self.student_embedding = nn.Linear(mine[0].numel(), self.dimensions)
        self.teacher_embedding = nn.Linear(theirs[0].numel(), self.dimensions)
        for name in ("student_memory", "teacher_memory"):
            bound = (3 / self.dimensions) ** 0.5  # entries of variance 1 / dimensions, as the authors draw them
            self.register_buffer(name, torch.empty(probe.train_size, self.dimensions).uniform_(-bound, bound))
        # Z of the student's and of the teacher's side; 0 until the first batch sets it
        self.register_buffer("normalisers", functional.wide(torch.zeros(2)))
        self._normalised = False
        self._table(probe)

    def _table(self, probe: Probe) -> None:
        """The tables from which the negatives are drawn. They follow from the data and are not saved."""
        rows = torch.arange(probe.train_size) if probe.train_rows is None else probe.train_rows.cpu()
        # without labels every sample is a class of its own
        label = torch.arange(probe.train_size) if probe.train_target is None else probe.train_target.cpu()
        label = label.unique(return_inverse=True)[1]
        order = rows[label[rows].argsort(stable=True)]
        count = label[rows].bincount(minlength=int(label.max()) + 1)
        if len(rows) - int(count.max()) < 1:
            raise ValueError("negatives are samples of other classes, and all training samples are of one class")
        for name, table in (("label", label), ("order", order), ("first", count.cumsum(0) - count), ("count", count)):
            self.register_buffer(name, table, persistent=False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``, with newly drawn negatives. In training, the memories are updated
        afterwards."""
        drawn = negatives(batch.index, self.label, self.order, self.first, self.count, self.negatives)
        return self.contrast(student, teacher, batch.index, torch.cat([batch.index[:, None], drawn], 1))

    def contrast(self, student: Outputs, teacher: Outputs, index: Tensor, contrast: Tensor) -> Tensor:
        """The loss with given rows of the memories, ``(B, K + 1)``; the first column holds the samples' own rows. In
        training, the memories are updated afterwards."""
        mine = unit(functional.wide(self.student_embedding(student.features[self.student_taps[0]].flatten(1))))
        theirs = unit(functional.wide(self.teacher_embedding(teacher.features[self.teacher_taps[0]].flatten(1))))
        # copies: the backward pass needs the rows as they were before the memories are updated
        copied = self.training and not rows_are_gathered(self.student_memory, contrast)
        student_memory, teacher_memory = (
            memory.clone() if copied else memory for memory in (self.student_memory, self.teacher_memory)
        )
        samples = len(self.order)
        normalisers = self.normalisers
        if not self._known():
            found = torch.stack(
                [
                    contrastive_normaliser(v, memory, contrast, self.temperature, samples)
                    for v, memory in ((mine, teacher_memory), (theirs, student_memory))
                ]
            )
            # in evaluation, processes may have different numbers of batches, so no process may wait for another
            normalisers = (_mean(found) if self.training else found).to(self.normalisers.dtype)
            if self.training:
                self.normalisers.copy_(normalisers)
        values = functional.contrastive_representation(
            mine,
            theirs,
            student_memory,
            teacher_memory,
            contrast,
            normalisers[0],
            normalisers[1],
            self.temperature,
            samples,
        )
        if self.training:
            self._remember(index, mine.detach(), theirs.detach())
        return values

    def _known(self) -> bool:
        """Whether Z is set. It is read from the buffer, which is the same in all processes. So either all processes
        reduce, or none does."""
        self._normalised = self._normalised or bool((self.normalisers > 0).all())
        return self._normalised

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._normalised = False  # the loaded state may be from before the first batch

    def _apply(self, *arguments: Any, **options: Any) -> CRD:
        """Keeps Z in at least float32 if the module is converted to half precision: Z is larger than the number of
        samples, and float16 ends at 65504."""
        before = self._buffers.get("normalisers")
        super()._apply(*arguments, **options)
        if before is not None and self.normalisers.dtype.itemsize < 4:
            self.normalisers = before.to(self.normalisers.device)
        return self

    @torch.no_grad()
    def _remember(self, index: Tensor, mine: Tensor, theirs: Tensor) -> None:
        index, mine, theirs = _gathered(index), _gathered(mine), _gathered(theirs)
        # a sample may occur twice (or on two processes): its first embedding is used, independent of the order in which
        # rows are written
        first = (index[:, None] == index[None, :]).to(torch.int8).argmax(1)
        for memory, embedding in ((self.student_memory, mine), (self.teacher_memory, theirs)):
            memory[index] = moved(memory, index, embedding[first], self.momentum).to(memory.dtype)


def _distributed() -> bool:
    return (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    )


def _mean(x: Tensor) -> Tensor:
    """The mean over all processes."""
    if _distributed():
        torch.distributed.all_reduce(x)
        x = x / torch.distributed.get_world_size()
    return x


def _gathered(x: Tensor) -> Tensor:
    """The rows of all processes, concatenated. Processes may have different numbers of rows."""
    if not _distributed():
        return x
    sizes = [torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(sizes, torch.tensor([len(x)], device=x.device))
    most = int(torch.stack(sizes).max())
    filled = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])
    parts = [torch.empty_like(filled) for _ in sizes]
    torch.distributed.all_gather(parts, filled)
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes)])
