"""Losses on logits."""

import torch

from kdlab import functional
from kdlab.batch import Batch
from kdlab.losses import CrossEntropy, HintonKD
from kdlab.objective import Objective
from kdlab.outputs import Outputs


def kd(case):
    return functional.hinton_kd(case["student_logits"], case["teacher_logits"], case.hyper["temperature"], reduction="mean")


def kd_total(case):
    objective = Objective({"ce": CrossEntropy(), "kd": HintonKD(case.hyper["temperature"])},
                          {"ce": case.hyper["ce_weight"], "kd": case.hyper["kd_weight"]})
    batch = Batch(None, case["target"], torch.arange(len(case["target"])))
    return objective(Outputs(case["student_logits"]), Outputs(case["teacher_logits"]), batch).total


def label_smoothing_szegedy(case):
    return functional.cross_entropy(case["student_logits"], case["target"], case.hyper["epsilon"]).mean()


ENTRIES = {"kd": kd, "kd_total": kd_total, "label_smoothing_szegedy": label_smoothing_szegedy}
