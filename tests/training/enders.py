"""What ends a loop early, for the tests of whole epochs: StopIteration, or data that end, at a chosen moment."""

import contextlib
import itertools
import os
import signal
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer

from kdlab.data.images.augment import Augment
from kdlab.data.images.digits import Digits
from kdlab.data.loader import InMemoryLoader
from kdlab.losses import Loss
from kdlab.models import MLP
from kdlab.strategies import Supervised

ENDERS = {"StopIteration": StopIteration, "StopAsyncIteration": StopAsyncIteration, "GeneratorExit": GeneratorExit}


class Fuse:
    """Raises at the call after ``after`` calls."""

    def __init__(self, after: int, error: str = "StopIteration"):
        self.after, self.calls, self.error = after, 0, ENDERS[error]

    def __call__(self) -> None:
        self.calls += 1
        if self.calls > self.after:
            raise self.error("the fuse is blown")


class EndingLoss(Loss):
    needs_teacher = False

    def __init__(self, after: int = 14, error: str = "StopIteration"):
        super().__init__()
        self.fuse = Fuse(after, error)

    def forward(self, student, teacher, batch):
        self.fuse()
        return 0.0 * student.logits.mean(-1)


class EndingNetwork(MLP):
    """Ends in one of its two modes."""

    def __init__(self, *arguments, after: int = 14, training: bool = True, **named):
        super().__init__(*arguments, **named)
        self.fuse, self.when = Fuse(after), training
        # a teacher has loaded weights
        self.load_state_dict({name: value.clone() for name, value in self.state_dict().items()})

    def forward(self, x):
        if self.training == self.when:
            self.fuse()
        return super().forward(x)


class Leaving(MLP):
    def forward(self, x):
        raise SystemExit(0)


class EndingStrategy(Supervised):
    """Ends in one of its methods, or in one of the parts that it makes."""

    def __init__(self, *, method: str, after: int = 0, **base):
        super().__init__(**base)
        fuse, original = Fuse(after), getattr(self, method)

        def ending(*arguments, **named):
            fuse()
            return original(*arguments, **named)

        setattr(self, method, ending)


class EndingOptimizer(Supervised):
    """The optimiser ends after it has called its closure."""

    def configure_optimizers(self):
        fuse = Fuse(14)

        class SGD(torch.optim.SGD):
            def step(self, closure=None):
                loss = super().step(closure)
                fuse()
                return loss

        return SGD(self.parameters(), lr=0.1)


class EndingScheduler(torch.optim.lr_scheduler.LRScheduler):
    def __init__(self, optimizer, after: int = 3):
        self.fuse = Fuse(after)
        super().__init__(optimizer)

    def get_lr(self):
        self.fuse()
        return [group["lr"] for group in self.optimizer.param_groups]


class Skipping(Supervised):
    """Skips the rest of an epoch, as Lightning lets a module do."""

    def on_train_batch_start(self, batch, batch_index):
        super().on_train_batch_start(batch, batch_index)
        return -1 if batch_index == 2 else None


class EndingCallback(L.Callback):
    def __init__(self, hook: str, after: int = 0):
        fuse = Fuse(after)
        setattr(self, hook, lambda *arguments, **named: fuse())


class Stopping(L.Callback):
    """Stops the training as early stopping does, in the middle of the second epoch."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        trainer.should_stop = trainer.current_epoch == 1 and batch_index == 1


class Late(L.Callback):
    """Lets ``trainer.max_time`` be over in the middle of the second epoch."""

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        if trainer.current_epoch == 1 and batch_index == 1:
            timer = next(callback for callback in trainer.callbacks if isinstance(callback, Timer))
            timer._duration = 0.0


class Dying(L.Callback):
    """Kills one of the processes once as many steps are done as the file ``dies`` says, and not before."""

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        if trainer.global_rank == 1 and trainer.global_step == int(Path("dies").read_text()):
            os.kill(os.getpid(), signal.SIGKILL)


class Swallowing(L.Callback):
    """Takes the guards of the loops away, so that what counts the batches stands alone."""

    def on_fit_start(self, trainer, module):
        for loop in (trainer.fit_loop, trainer.fit_loop.epoch_loop, trainer.fit_loop.epoch_loop.val_loop):
            for name in ("on_advance_start", "advance", "on_advance_end", "_evaluation_step"):
                loop.__dict__.pop(name, None)


class EndingAugment(Augment):
    def __init__(self, crop_padding: int = 0, flip: float = 0.0):
        super().__init__(crop_padding, flip)
        self.fuse = Fuse(9)

    def __call__(self, *arguments):
        self.fuse()
        return super().__call__(*arguments)


class EndingMixing:
    def __init__(self):
        self.fuse = Fuse(9)

    def __call__(self, batch, seed):
        self.fuse()
        return batch


class ShortLoader(InMemoryLoader):
    """Yields a batch less than its length in one split, from an epoch on."""

    short, since, generator = "train", 0, False

    def __iter__(self):
        short = self.split == self.short and self.sampler.epoch >= self.since
        batches = itertools.islice(super().__iter__(), len(self) - 1 if short else None)
        return (batch for batch in batches) if self.generator else iter(batches)


class ShortDigits(Digits):
    """Its loader of one split ends early."""

    def __init__(self, short: str, since: int = 0, generator: bool = False, **options):
        super().__init__(**options)
        self.short, self.since, self.generator = short, since, generator

    def loader(self, stored, **options):
        made = super().loader(stored, **options)
        made.__class__ = ShortLoader
        made.short, made.since, made.generator = self.short, self.since, self.generator
        return made


class DeafLoader(InMemoryLoader):
    """Begins every epoch with its first batch."""

    def __iter__(self):
        self.sampler.batches_done = 0
        yield from super().__iter__()


class Deaf(Digits):
    """A run that is resumed inside an epoch gets the batches again that it has had."""

    def loader(self, stored, **options):
        made = super().loader(stored, **options)
        made.__class__ = DeafLoader
        return made


class Forgetful(Supervised):
    """Counts the batches of an epoch, and keeps the number nowhere."""

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        self.batches = 0


class EndingRead(Digits):
    def read(self):
        next(iter(()))


def broken_generator():
    """The error that Python makes of StopIteration inside a generator."""

    def numbers():
        yield next(iter(()))

    with contextlib.suppress(ZeroDivisionError):
        return list(numbers())
