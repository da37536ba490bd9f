"""Data: Lightning data modules that yield :class:`kdlab.Batch`.

A set that fits in memory is a subclass of :class:`InMemoryData` with one method, ``read()``; see ``digits.py``. What
every set shares is in :class:`ClassificationData`.
"""

from .augment import Augment
from .base import ClassificationData
from .cifar import CIFAR10, CIFAR100
from .crops import RandomResizedCrop
from .digits import Digits
from .fashion_mnist import FashionMNIST
from .image_folder import ImageFolder
from .memory import Images, InMemoryData
from .mixing import CutMix, Mixup
from .mnist import MNIST

__all__ = [
    "Augment",
    "CIFAR10",
    "CIFAR100",
    "ClassificationData",
    "CutMix",
    "Digits",
    "FashionMNIST",
    "ImageFolder",
    "Images",
    "InMemoryData",
    "MNIST",
    "Mixup",
    "RandomResizedCrop",
]
