"""Losses on logits."""

import torch

from kdlab import functional
from kdlab.batch import Batch
from kdlab.losses import DKD, USKD, CrossEntropy, HintonKD, MultiLevel, Probe, Standardised
from kdlab.objective import Objective
from kdlab.outputs import Outputs


def labels(case):
    return Batch(None, case["target"], torch.arange(len(case["target"])))


def kd(case):
    return functional.hinton_kd(
        case["student_logits"], case["teacher_logits"], case.hyper["temperature"], reduction="mean"
    )


def kd_total(case):
    objective = Objective(
        {"ce": CrossEntropy(), "kd": HintonKD(case.hyper["temperature"])},
        {"ce": case.hyper["ce_weight"], "kd": case.hyper["kd_weight"]},
    )
    return objective(Outputs(case["student_logits"]), Outputs(case["teacher_logits"]), labels(case)).total


def dkd(case):
    inputs, temperature = (case["student_logits"], case["teacher_logits"], case["target"]), case.hyper["temperature"]
    value = functional.dkd(*inputs, case.hyper["alpha"], case.hyper["beta"], temperature, reduction="mean")
    return value, {
        "tckd": functional.dkd(*inputs, 1.0, 0.0, temperature, reduction="mean"),
        "nckd": functional.dkd(*inputs, 0.0, 1.0, temperature, reduction="mean"),
    }


def nkd(case):
    return functional.nkd(
        case["student_logits"],
        case["teacher_logits"],
        case["target"],
        case.hyper["temp"],
        case.hyper["gamma"],
        reduction="mean",
    )


def uskd(case):
    loss = USKD("middle", case.hyper["alpha"], case.hyper["beta"], case.hyper["mu"], rank_by_logarithm=True)
    student, classes = Outputs(case["student_logits"], {"middle": case["mid_feature"]}), case["student_logits"].shape[1]
    loss.prepare(Probe(student, None, None, classes, 100))
    loss.double()
    case.put("fc_weight", loss.linear.weight)
    case.put("fc_bias", loss.linear.bias)
    return loss(student, None, labels(case)).mean()


def dist(case):
    return functional.dist(
        case["student_logits"],
        case["teacher_logits"],
        case.hyper.get("tau", 1.0),
        case.hyper["beta"],
        case.hyper["gamma"],
    )


def kd_logit_std(case):
    kd = HintonKD(case.hyper["temperature"])
    loss = Standardised(kd) if case.hyper.get("logit_stand", True) else kd
    return loss(Outputs(case["student_logits"]), Outputs(case["teacher_logits"]), None).mean()


def dkd_logit_std(case):
    dkd = DKD(case.hyper["alpha"], case.hyper["beta"], case.hyper["temperature"])
    loss = Standardised(dkd) if case.hyper.get("logit_stand", True) else dkd
    return loss(Outputs(case["student_logits"]), Outputs(case["teacher_logits"]), labels(case)).mean()


def mlkd(case):
    """With the switches that bring back what the authors' code does; the parts are weighed as there."""
    hyper = case.hyper
    student = Outputs(case["student_logits_weak"], second=Outputs(case["student_logits_strong"]))
    teacher = Outputs(case["teacher_logits_weak"], second=Outputs(case["teacher_logits_strong"]))
    temperatures = hyper.get("temperatures", [hyper["temperature"], 3, 5, 2, 6])

    def total(ce=0.0, instance=0.0, by_class=0.0, by_batch=0.0):
        multi_level = MultiLevel(
            temperatures,
            instance,
            by_class,
            by_batch,
            mask_after_mean=True,
            reuse_weak=True,
            strong_correlations=False,
            standardised=hyper.get("logit_stand", False),
        )
        objective = Objective(
            {"ce": CrossEntropy(both_views=True), "multi_level": multi_level},
            {"ce": ce, "multi_level": hyper["kd_weight"]},
        )
        return objective(student, teacher, labels(case)).total

    parts = {
        "loss_ce": total(ce=hyper["ce_weight"]),
        "loss_kd": total(instance=1.0),
        "loss_cc": total(by_class=1.0),
        "loss_bc": total(by_batch=1.0),
    }
    return total(hyper["ce_weight"], 1.0, 1.0, 1.0), parts


def mlkd_cc(case):
    return functional.class_correlation(case["student_logits"], case["teacher_logits"], case.hyper["temperature"])


def mlkd_bc(case):
    return functional.batch_correlation(case["student_logits"], case["teacher_logits"], case.hyper["temperature"])


def pkd_kd(case):
    """(1 - alpha) cross-entropy + alpha times the soft targets, divided by the number of classes."""
    alpha = case.hyper["alpha"]
    ce = functional.cross_entropy(case["student_logits"], case["target"], reduction="mean")
    kd = functional.hinton_kd(case["student_logits"], case["teacher_logits"], case.hyper["T"], reduction="elementmean")
    return (1 - alpha) * ce + alpha * kd, {"kd": kd, "ce": ce} if "out_kd" in case else {}


def label_smoothing_tfkd(case):
    epsilon = case.hyper.get("alpha", 0.1)
    return functional.cross_entropy(
        case["student_logits"], case["target"], epsilon, smoothing_over="others", reduction="mean"
    )


def label_smoothing_szegedy(case):
    return functional.cross_entropy(case["student_logits"], case["target"], case.hyper["epsilon"], reduction="mean")


def soft_cross_entropy(reduction):
    def call(case):
        return functional.soft_cross_entropy(
            case["student_logits"], case["teacher_logits"], case.hyper["temperature"], reduction=reduction
        )

    return call


def distillm_forward_kl(case):
    return functional.soft_cross_entropy(
        case["student_logits"],
        case["teacher_logits"],
        mask=case["labels"] != case.hyper.get("ignore_index", -100),
        reduction="mean",
        skip_infinite=True,
    )


def textbrewer_kd_mse_loss(case):
    return functional.logit_mse(
        case["student_logits"], case["teacher_logits"], case.hyper["temperature"], reduction="mean"
    )


ENTRIES = {
    "kd": kd,
    "kd_total": kd_total,
    "dkd": dkd,
    "nkd": nkd,
    "uskd": uskd,
    "dist": dist,
    "dist_seg": dist,
    "kd_logit_std": kd_logit_std,
    "dkd_logit_std": dkd_logit_std,
    "mlkd": mlkd,
    "mlkd_logit_std": mlkd,
    "mlkd_cc": mlkd_cc,
    "mlkd_bc": mlkd_bc,
    "label_smoothing_tfkd": label_smoothing_tfkd,
    "label_smoothing_szegedy": label_smoothing_szegedy,
    "pkd_kd": pkd_kd,
    "tinybert_pred": soft_cross_entropy("elementmean"),
    "textbrewer_kd_ce_loss": soft_cross_entropy("mean"),
    "textbrewer_kd_mse_loss": textbrewer_kd_mse_loss,
    "distillm_forward_kl": distillm_forward_kl,
}
