"""Data: Lightning data modules that yield :class:`kdlab.Batch`.

A classifier's set that fits in memory is a subclass of :class:`InMemoryData` with one method, ``read()``; see
``digits.py``. For other tasks derive from :class:`InMemory`; see ``diabetes.py``. What every set shares is in
:class:`Data`.
"""

from kdlab.data.images.augment import Augment
from kdlab.data.images.cifar import CIFAR10, CIFAR100
from kdlab.data.images.crops import RandomResizedCrop
from kdlab.data.images.digit_attributes import DigitAttributes
from kdlab.data.images.digits import Digits
from kdlab.data.images.fashion_mnist import FashionMNIST
from kdlab.data.images.image_folder import ImageFolder
from kdlab.data.images.memory import Images, InMemory, InMemoryData
from kdlab.data.images.mixing import CutMix, Mixup
from kdlab.data.images.mnist import MNIST

from .base import Data
from .classification import ClassificationData
from .diabetes import Diabetes
from .text.causal import CausalText, CausalTextFiles, HuggingFaceCausalTexts
from .text.hub import HuggingFaceTexts
from .text.local import TextFiles
from .text.masking import MaskTokens
from .text.sums import Sums
from .text.texts import TextData

__all__ = [
    "Augment",
    "CIFAR10",
    "CIFAR100",
    "CausalText",
    "CausalTextFiles",
    "ClassificationData",
    "CutMix",
    "Data",
    "Diabetes",
    "DigitAttributes",
    "Digits",
    "FashionMNIST",
    "HuggingFaceCausalTexts",
    "HuggingFaceTexts",
    "ImageFolder",
    "Images",
    "InMemory",
    "InMemoryData",
    "MNIST",
    "MaskTokens",
    "Mixup",
    "RandomResizedCrop",
    "Sums",
    "TextData",
    "TextFiles",
]
