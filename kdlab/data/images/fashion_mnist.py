"""Fashion-MNIST: 60,000 + 10,000 images of 28 x 28 pixels. Xiao, Rasul, Vollgraf (2017),
https://arxiv.org/abs/1708.07747."""

from __future__ import annotations

from pathlib import Path

from .idx import IDXImages

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it


class FashionMNIST(IDXImages):
    """Looked for as IDX files (plain or .gz) in ``folder``, below it, and where Debian installs them; the arguments are
    those of :class:`IDXImages`."""

    MEAN, STD = 0.2860, 0.3530
    NAMES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    NAME, TORCHVISION, BELOW = "Fashion-MNIST", "FashionMNIST", ("fashion_mnist", "fashion-mnist")
    CURE = (
        "Get it with data.download=true (through torchvision), or on Debian and Ubuntu with: apt-get install "
        "dataset-fashion-mnist; or name the folder that holds it (with 'fashion' in its name, since MNIST's files are "
        "named alike) with paths.data=…"
    )

    def is_named(self, folder: Path) -> bool:
        """Whether the path contains "fashion" in upper or lower case."""
        return "fashion" in str(folder).lower()

    def folders(self) -> list[Path]:
        """The folders to look in, in order; the last is that of Debian's package."""
        return [*super().folders(), SYSTEM_FOLDER]
