"""Networks: a small vision zoo, adaptors for other libraries, taps and connectors.

Every network of the zoo names its stages ``stage1``, ``stage2``, … and its last feature ``embedding``, so these taps
work for all of them. They also work for most models of torchvision and timm (:func:`torchvision_model`,
:func:`timm_model`), which get an attribute ``taps``. Any importable class or function works as well:
``student._target_=my.Network``.
"""

from .bottleneck_resnet import BottleneckResNet
from .causal import CausalModel
from .cifar_resnet import CifarResNet
from .cnn import CNN
from .huggingface import HuggingFaceClassifier
from .mlp import MLP
from .mobilenet_v2 import MobileNetV2
from .shufflenet_v1 import ShuffleNetV1
from .shufflenet_v2 import ShuffleNetV2
from .text import TextEncoder
from .timm import timm_model
from .torchvision import torchvision_model
from .vgg import VGG
from .wide_resnet import WideResNet

__all__ = [
    "CNN",
    "MLP",
    "VGG",
    "BottleneckResNet",
    "CausalModel",
    "CifarResNet",
    "HuggingFaceClassifier",
    "MobileNetV2",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "TextEncoder",
    "WideResNet",
    "timm_model",
    "torchvision_model",
]
