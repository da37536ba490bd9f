"""A task whose rows are no samples: a class for each token of sequences of unequal length."""

import torch
from torch import nn

from kdlab.counter import counter_bits
from kdlab.data import Data, Images
from kdlab.data.loader import BatchLoader
from kdlab.models.calling import answer_of
from kdlab.outputs import Outputs
from kdlab.tasks import Classification

LENGTH, WORDS, CLASSES = 8, 12, 4
IGNORED = -100


class Tagging(Classification):
    """Rows are the tokens; those of label -100 are padding and have weight 0."""

    def network_outputs(self, network, batch, view=0):
        return Outputs(answer_of(network, batch.view(view).inputs), mask=batch.mask)

    def align(self, outputs, batch):
        return outputs.replace(answer=outputs.logits.flatten(0, 1))

    def align_batch(self, batch):
        target = batch.target.flatten()
        weights = (target != IGNORED).float()
        index = batch.index.repeat_interleave(batch.target.shape[1])
        return batch.replace(target=target.clamp(min=0), weights=weights, index=index)

    def row_counts(self, target):
        return (target != IGNORED).sum(1)


class Tagged(Data):
    """Random sequences of 1 to 8 words; the class of a word is its number modulo 4."""

    classes, shape = CLASSES, (LENGTH,)

    def read(self):
        return self._made(150, 1), self._made(40, 2)

    def _made(self, count, stream):
        numbers = counter_bits(torch.arange(count * LENGTH), stream).view(count, LENGTH)
        lengths = counter_bits(torch.arange(count), stream, 9) % LENGTH + 1
        words, mask = numbers % WORDS, torch.arange(LENGTH) < lengths[:, None]
        return Images(words * mask, torch.where(mask, words % CLASSES, IGNORED))

    def position_counts(self):
        return (self._stored[0].target != IGNORED).sum(1)

    def loader(self, stored, seed, augment, **options):
        return TaggedLoader(stored, **options)


class TaggedLoader(BatchLoader):
    def __init__(self, stored, **options):
        super().__init__(stored.target, **options)
        self.words = stored.inputs

    def views_of(self, rows, epoch):
        return [{"words": self.words[rows], "mask": (self.target[rows] != IGNORED).float()}]

    def made(self, rows, views, epoch, normalisers):
        return super().made(rows, views, epoch, normalisers).replace(mask=views[0]["mask"])


class Tagger(nn.Module):
    """An embedding, a layer that looks at the mean of the sequence too, and a classifier for each token."""

    def __init__(self, width=16):
        super().__init__()
        self.words, self.hidden = nn.Embedding(WORDS, width), nn.Linear(2 * width, width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, words, mask):
        embedded = self.words(words) * mask[..., None]
        mean = embedded.sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        hidden = self.hidden(torch.cat([embedded, mean.expand_as(embedded)], -1)).tanh()
        return self.classifier(hidden)


HERE = "tests.tasks.tagging"
CONFIG = [
    f"task._target_={HERE}.Tagging",
    f"data._target_={HERE}.Tagged",
    "~data.omit_classes",
    "~data.augment",
    "data.name=tagged",
    f"data.classes={CLASSES}",
    f"data.shape=[{LENGTH}]",
    "data.batch_size=12",
    "data.drop_last=false",
    "student=network",
    f"student._target_={HERE}.Tagger",
    "trainer.accelerator=cpu",
    "progress=none",
]
