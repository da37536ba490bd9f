"""Strategies that get into trouble, for the tests of sweeps: jobs run in processes of their own, where nothing can be
patched."""

import os
import signal
import time
from pathlib import Path

from kdlab.models import MLP
from kdlab.strategies import Supervised


class Unlucky(Supervised):
    """Seed 2 fails in its second epoch, until a file called ``luck`` lies in the working directory."""

    def training_step(self, batch, index):
        if self.seed == 2 and self.current_epoch == 1 and not Path("luck").exists():
            raise RuntimeError("out of luck")
        return super().training_step(batch, index)


class UnluckyOnce(Supervised):
    """Fails in its second epoch at the first attempt, and lets the second one through."""

    def training_step(self, batch, index):
        if self.current_epoch == 1 and not Path("tried").exists():
            Path("tried").touch()
            raise RuntimeError("out of luck")
        return super().training_step(batch, index)


class Killed(Supervised):
    """Seed 2 is killed in its second epoch, as the system kills who takes too much memory."""

    def training_step(self, batch, index):
        if self.seed == 2 and self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, index)


class Counting(Supervised):
    """Leaves a line in ``began.txt`` for every beginning of a training, with the devices that it was given."""

    def on_train_start(self):
        with open("began.txt", "a") as file:
            file.write(f"seed {self.seed} devices {os.environ.get('CUDA_VISIBLE_DEVICES')} cwd {os.getcwd()}\n")


class Slow(Counting):
    """Takes at least a tenth of a second an epoch."""

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        time.sleep(0.1)


class Leaving(Supervised):
    """Leaves its seed in the process, where a job that came after it in the same process would find it."""

    left: list = []

    def on_train_start(self):
        assert not Leaving.left, f"this process has trained before: {Leaving.left}"
        Leaving.left.append(self.seed)


class Interrupted(MLP):
    """Its constructor raises KeyboardInterrupt."""

    def __init__(self, *arguments, **named):
        raise KeyboardInterrupt


class InterruptedLater(Supervised):
    """Seed 2 raises KeyboardInterrupt in its second epoch."""

    def training_step(self, batch, index):
        if self.seed == 2 and self.current_epoch == 1:
            raise KeyboardInterrupt
        return super().training_step(batch, index)


class Dies(MLP):
    """Ends its process at its first forward pass: by a signal, as the system does it where memory runs out, or by
    leaving it."""

    def __init__(self, *arguments, by: str = "SIGKILL", **named):
        super().__init__(*arguments, **named)
        self.by = by

    def forward(self, x):
        os._exit(0) if self.by == "exit" else os.kill(os.getpid(), getattr(signal, self.by))


class DiesAfterAnother(MLP):
    """Ends its process where one of another size was there before: the fault of sharing a process, and not of either
    job."""

    seen: set = set()

    def __init__(self, *arguments, hidden=(8,), **named):
        super().__init__(*arguments, hidden=hidden, **named)
        DiesAfterAnother.seen.add(tuple(hidden))
        if len(DiesAfterAnother.seen) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
