"""Texts of a few tokens in two classes: token 7 or 8 occurs. Padding is token 0."""

import torch

from kdlab.counter import counter_bits
from kdlab.data import Data, Images
from kdlab.data.loader import BatchLoader

LENGTH, VOCABULARY = 6, 20


class Words(Data):
    classes, shape = 2, (LENGTH,)

    def read(self):
        return self._made(300, 1), self._made(60, 2)

    def _made(self, count, stream):
        words = 9 + counter_bits(torch.arange(count * LENGTH), stream).view(count, LENGTH) % (VOCABULARY - 9)
        lengths = counter_bits(torch.arange(count), stream, 9) % (LENGTH - 2) + 3
        target = counter_bits(torch.arange(count), stream, 10) % 2
        words[:, 0] = 2
        words[:, 1] = 7 + target
        return Images(words * (torch.arange(LENGTH) < lengths[:, None]), target)

    def loader(self, stored, seed, augment, **options):
        return WordsLoader(stored, **options)


class WordsLoader(BatchLoader):
    def __init__(self, stored, **options):
        super().__init__(stored.target, **options)
        self.words = stored.inputs

    def views_of(self, rows, epoch):
        words = self.words[rows]
        return [{"input_ids": words, "attention_mask": (words != 0).long(), "token_type_ids": torch.zeros_like(words)}]

    def made(self, rows, views, epoch, normalisers):
        mask = views[0]["attention_mask"].float()
        return super().made(rows, views, epoch, normalisers).replace(mask=mask)
