"""Divergences of two logits: DistiLLM's, DSKD's, TRL's."""

from kdlab import functional
from kdlab.functional import reduce


def _tokens(case):
    return case["labels"] != -100


def distillm(function, **switches):
    """DistiLLM: mean over the tokens that count; classes of logit -inf are left out."""

    def call(case):
        weight = {name: value for name, value in switches.items() if name == "entropy"}
        for name in ("reverse_weight", "student_weight", "teacher_weight"):
            if name in switches:
                weight[name] = switches[name](case.hyper["lam"])
        return function(
            case["student_logits"],
            case["teacher_logits"],
            mask=_tokens(case),
            reduction="mean",
            skip_infinite=True,
            **weight,
        )

    return call


def dskd(function, **switches):
    """DSKD: sum over the tokens that count."""

    def call(case):
        options = {name: case.hyper[value] if isinstance(value, str) else value for name, value in switches.items()}
        return function(
            case["student_logits"],
            case["teacher_logits"],
            case.hyper["kd_temperature"],
            mask=_tokens(case),
            reduction="sum",
            **options,
        )

    return call


def gkd_jsd(case):
    hyper = case.hyper
    labels = _tokens(case) if "labels" in case else None
    options = {"temperature": hyper["temperature"], "teacher_weight": hyper["beta"], "mask": labels}
    items = hyper.get("num_items_in_batch")
    if items is not None:
        values = functional.jensen_shannon(case["student_logits"], case["teacher_logits"], **options)
        return reduce(values.flatten(), normaliser=items)
    reduction = hyper.get("reduction", hyper.get("default", {}).get("reduction", "batchmean"))
    ours = {
        "batchmean": "batchmean" if labels is None else "mean",
        "mean": "elementmean",
        "sum": "sum",
        "none": "none",
    }[reduction]
    return functional.jensen_shannon(case["student_logits"], case["teacher_logits"], reduction=ours, **options)


def trl_minillm_single_step(case):
    return functional.reverse_kl(
        case["student_logits"],
        case["teacher_logits"],
        case.hyper["kd_temperature"],
        mask=_tokens(case),
        reduction="mean",
    )


ENTRIES = {
    "distillm_reverse_kl": distillm(functional.reverse_kl),
    "distillm_symmetric_kl": distillm(functional.symmetric_kl, reverse_weight=lambda lam: lam, entropy=False),
    "distillm_js_distance": distillm(functional.jensen_shannon, teacher_weight=lambda lam: 1 - lam),
    "distillm_tv_distance": distillm(functional.total_variation),
    "distillm_skewed_forward_kl": distillm(functional.skew_forward_kl, teacher_weight=lambda lam: lam, entropy=False),
    "distillm_skewed_reverse_kl": distillm(functional.skew_reverse_kl, student_weight=lambda lam: lam),
    "dskd_forward_kl": dskd(functional.forward_kl),
    "dskd_reverse_kl": dskd(functional.reverse_kl),
    "dskd_js_divergence": dskd(functional.jensen_shannon, epsilon=1e-9),
    "dskd_skewed_forward_kl": dskd(functional.skew_forward_kl, teacher_weight="skew_lambda"),
    "dskd_skewed_reverse_kl": dskd(functional.skew_reverse_kl, student_weight="skew_lambda"),
    "dskd_adaptive_kl": dskd(functional.adaptive_kl, tail_mass="adaptive_kl_alpha"),
    "gkd_jsd": gkd_jsd,
    "trl_minillm_single_step": trl_minillm_single_step,
}
