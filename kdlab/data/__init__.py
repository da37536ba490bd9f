"""Data: Lightning data modules that yield :class:`kdlab.Batch`.

A set that fits in memory is a subclass of :class:`InMemoryData` with one method, ``read()``; see ``digits.py``. What
every set shares is in :class:`ClassificationData`.
"""

from kdlab.data.images.augment import Augment
from kdlab.data.images.cifar import CIFAR10, CIFAR100
from kdlab.data.images.crops import RandomResizedCrop
from kdlab.data.images.digits import Digits
from kdlab.data.images.fashion_mnist import FashionMNIST
from kdlab.data.images.image_folder import ImageFolder
from kdlab.data.images.memory import Images, InMemoryData
from kdlab.data.images.mixing import CutMix, Mixup
from kdlab.data.images.mnist import MNIST

from .base import ClassificationData

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
