"""MNIST: 60,000 + 10,000 handwritten digits of 28 x 28 pixels. LeCun, Bottou, Bengio, Haffner (1998), "Gradient-based
learning applied to document recognition"."""

from __future__ import annotations

from pathlib import Path

from .idx import IDXImages


class MNIST(IDXImages):
    """Looked for as IDX files (plain or .gz) in ``folder`` and below it; the arguments are those of
    :class:`IDXImages`."""

    MEAN, STD = 0.1307, 0.3081
    NAME, TORCHVISION, BELOW = "MNIST", "MNIST", ("mnist",)
    CURE = (
        "Get it with data.download=true (through torchvision), or name the folder that holds it (it must be called "
        "'mnist', since the files of Fashion-MNIST are named alike) with paths.data=…"
    )

    def is_named(self, folder: Path) -> bool:
        """Whether the folder is called "mnist", in upper or lower case."""
        return folder.name.lower() == "mnist"
