"""Diabetes: 442 patients with ten measurements each, and the progression of the disease a year later. The data come
with scikit-learn; nothing is downloaded.

Efron et al. (2004), "Least Angle Regression", https://arxiv.org/abs/math/0406456
"""

from __future__ import annotations

import torch

from .images.memory import Images, InMemory


class Diabetes(InMemory):
    """One number to predict (``task=regression``). The stored order is scikit-learn's; every fifth patient is test (88
    of them), the rest is train (354).

    The target is standardised with the mean (151.9) and the standard deviation (77.1) of the training split, so its
    unit is 77.1 of the original scale.
    """

    CLASSES = 1
    SHAPE = (10,)
    # scikit-learn scales each measurement to mean 0 and sum of squares 1 over the 442 patients
    MEAN, STD = 0.0, 442**-0.5

    def read(self) -> tuple[Images, Images]:
        """The stored (train, test) patients: measurements (354, 10) and (88, 10), targets (354, 1) and (88, 1)."""
        from sklearn.datasets import load_diabetes

        measurements, progression = (torch.from_numpy(values).float() for values in load_diabetes(return_X_y=True))
        test = torch.arange(len(progression)) % 5 == 4
        target = ((progression - progression[~test].mean()) / progression[~test].std())[:, None]
        return Images(measurements[~test], target[~test]), Images(measurements[test], target[test])
