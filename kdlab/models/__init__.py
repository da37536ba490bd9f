"""Networks: a small vision zoo, adaptors for other libraries, taps and connectors.

Every network of the zoo names its stages ``stage1``, ``stage2``, … and its last feature ``embedding``, so a tap by that name works
for all of them. Any importable class or function serves as well: ``student._target_=torchvision.models.resnet18``.
"""

from .cifar_resnet import CifarResNet
from .cnn import CNN
from .huggingface import HuggingFaceClassifier
from .mlp import MLP

__all__ = ["CNN", "CifarResNet", "HuggingFaceClassifier", "MLP"]
