"""Losses on hidden states and attention of transformers."""

import torch

from kdlab import functional
from kdlab.losses import Probe, TinyBERT
from kdlab.outputs import Outputs


def mask_of(case):
    return case["mask"] if "mask" in case else None


def attention(function, over_heads, **options):
    """TextBrewer: without a mask it takes out what is not above -0.001."""

    def call(case):
        masked = {"mask": case["mask"]} if "mask" in case else {"ignore_below": -1e-3}
        return function(case["student"], case["teacher"], over_heads, reduction="mean", **masked, **options)

    return call


def hidden(function):
    return lambda case: function(case["student"], case["teacher"], mask=mask_of(case), reduction="mean")


def pair(function):
    return lambda case: function(
        *case.several("student_"), *case.several("teacher_"), mask=mask_of(case), reduction="mean"
    )


def pkd_patience(case):
    return functional.pkd(
        case["student_cls"], case["teacher_cls"], normalise=bool(case.hyper["normalized_patience"]), reduction="mean"
    )


def minilmv2(case):
    """The source keeps as many positions of each sample, from the left, as its mask has ones."""
    relations = {
        "".join("qkv"[int(digit) - 1] for digit in name if digit.isdigit()): weight
        for name, weight in case.hyper["relations"].items()
    }
    mask = case["attention_mask"] if "attention_mask" in case else None
    if mask is not None:
        mask = torch.arange(mask.shape[1]) < mask.sum(1, keepdim=True)
    states = [case[f"{side}_{part}"] for side in ("student", "teacher") for part in "qkv"]
    return functional.minilmv2(*states, case.hyper["num_relation_heads"], relations, mask=mask, reduction="mean")


def tinybert_intermediate(case):
    """Through the loss itself, whose projection gets the case's weights; its two parts are those of the same loss at
    other weights."""

    def outputs(side):
        embedding, *layers = case.several(f"{side}_hidden_")
        scores = case.several(f"{side}_att_")
        return Outputs(
            torch.zeros(1),
            {
                "embedding": embedding,
                **{f"hidden {n}": x for n, x in enumerate(layers, start=1)},
                **{f"scores {n}": x for n, x in enumerate(scores, start=1)},
            },
        )

    patterns = {
        name: pattern
        for side in ("student", "teacher")
        for name, pattern in (
            (f"{side}_tap", "scores {layer}"),
            (f"{side}_hidden", "hidden {layer}"),
            (f"{side}_embedding", "embedding"),
            (f"{side}_parts", ["scores"]),
        )
    }
    loss = TinyBERT(
        **patterns, student_layers=case.hyper["student_layers"], teacher_layers=case.hyper["teacher_layers"]
    )
    student, teacher = outputs("student"), outputs("teacher")
    loss.prepare(Probe(student, teacher, None, 2, 100))
    loss.double()
    case.put("fit_dense_weight", loss.projection.weight)
    case.put("fit_dense_bias", loss.projection.bias)
    value, parts = loss(student, teacher, None).mean(), {}
    for name, weights in (("att_loss", (1.0, 0.0)), ("rep_loss", (0.0, 1.0))):
        loss.attention_weight, loss.hidden_weight = weights
        parts[name] = loss(student, teacher, None).mean()
    return value, parts


def distilbert(case):
    """The weighted sum of DistilBERT's terms; a term of weight 0 is not computed."""
    hyper = case.hyper
    attended = case["attention_mask"] != 0
    labels = case["lm_labels"] if "lm_labels" in case else None
    logits, teacher = case["student_logits"], case["teacher_logits"]
    hidden = [case[name] for name in ("student_hidden", "teacher_hidden") if name in case]
    chosen = labels > -1 if hyper.get("restrict_ce_to_mask") else attended

    def language(shift):
        rows, target, _ = functional.token_rows(logits, labels, shift=shift)
        return functional.cross_entropy(rows, target, reduction="mean")

    terms = {
        "ce": lambda: functional.hinton_kd(logits, teacher, hyper["temperature"], mask=chosen, reduction="mean"),
        "mlm": lambda: language(shift=False),
        "clm": lambda: language(shift=True),
        "mse": lambda: functional.logit_mse(logits, teacher, mean_over_classes=False, mask=chosen, reduction="mean"),
        "cos": lambda: functional.hidden_cosine(*hidden, mask=attended, reduction="mean"),
    }
    parts = {name: term() for name, term in terms.items() if hyper.get(f"alpha_{name}", 0) > 0}
    total = sum(hyper[f"alpha_{name}"] * part for name, part in parts.items())
    outputs = {"last_loss": total, **{f"last_loss_{name}": part for name, part in parts.items()}}
    return total, {name: value for name, value in outputs.items() if f"out_{name}" in case}


ENTRIES = {
    "minilmv2": minilmv2,
    "tinybert_intermediate": tinybert_intermediate,
    "pkd_patience": pkd_patience,
    "distilbert": distilbert,
    "textbrewer_att_mse_loss": attention(functional.attention_mse, "each"),
    "textbrewer_att_mse_sum_loss": attention(functional.attention_mse, "sum"),
    "textbrewer_att_ce_loss": attention(functional.attention_ce, "each", renormalise=False),
    "textbrewer_att_ce_mean_loss": attention(functional.attention_ce, "mean", renormalise=False),
    "textbrewer_hid_mse_loss": hidden(functional.hidden_mse),
    "textbrewer_cos_loss": hidden(functional.hidden_cosine),
    "textbrewer_pkd_loss": lambda case: functional.pkd(
        case["student"][:, :1], case["teacher"][:, :1], mean_over_width=False, reduction="mean"
    ),
    "textbrewer_fsp_loss": pair(functional.sequence_fsp),
    "textbrewer_mmd_loss": pair(functional.sequence_mmd),
}
