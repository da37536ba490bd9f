"""Losses on features, with their connectors."""

import torch
from torch import nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.features import attention_map
from kdlab.losses import (
    CRD,
    ActivationBoundary,
    FactorTransfer,
    Hint,
    OverhaulDistillation,
    Probe,
    ReviewKD,
    SemCKD,
    SimKD,
    VariationalInformation,
)
from kdlab.outputs import Outputs


def layers(case, name):
    """``student``, or ``student_0``, ``student_1``, …"""
    return [case[name]] if name in case else case.several(f"{name}_")


def prepared(loss, students, teachers, network=None, samples=100):
    """The loss in train mode and float64, built from a probe as in a run, and the Outputs that it is called with."""
    logits = torch.zeros(len(students[0]), 10, dtype=torch.float64)
    student, teacher = (
        Outputs(logits, dict(zip(loss.student_taps, students))),
        Outputs(logits, dict(zip(loss.teacher_taps, teachers))),
    )
    loss.prepare(Probe(student, teacher, network, 10, samples))
    return loss.double().train(), student, teacher


def pairs(case):
    return zip(layers(case, "student"), layers(case, "teacher"))


def taps(features):
    return [f"stage{number}" for number in range(len(features))]


def call(loss, student, teacher):
    return loss(student, teacher, Batch(None, None, torch.arange(len(student.logits)))).mean()


def prefix(case, *words):
    """What the case's arrays of a module's first layer begin with, None where it has none."""
    return next(
        (
            name.removesuffix("__0__weight")
            for name in case.arrays
            if name.endswith("__0__weight")
            and not name.startswith("grad_")
            and all(word in name.lower() for word in words)
        ),
        None,
    )


def fitnet(case):
    return functional.hint(case["student"], case["teacher"]).mean()


def fitnet_connector(case):
    """Through the loss itself: it builds its connector from the probe, then the case's weights are put into it."""
    loss, student, teacher = prepared(Hint(), [case["student"]], [case["teacher"]])
    convolution, norm, _ = loss.connector
    for name, module in (("reg_conv", convolution), ("reg_bn", norm)):
        case.fill(name, module)
    return call(loss, student, teacher)


def at(case):
    power = case.hyper.get("p", 2)
    return sum(functional.attention_transfer(mine, theirs, power, reduction="mean") for mine, theirs in pairs(case))


def at_torchdistill(case):
    return functional.attention_transfer(case["student"], case["teacher"], form=case.hyper["mode"], reduction="mean")


def vid(case):
    loss = VariationalInformation(
        "s", "t", case.hyper.get("init_pred_var", 5.0), case.hyper.get("eps", 1e-5), case.hyper.get("num_mid_channel")
    )
    loss, student, teacher = prepared(loss, [case["student"]], [case["teacher"]])
    case.fill("regressor", loss.regressors[0])
    case.put("log_scale", loss.scales[0])
    return call(loss, student, teacher)


def ab(case):
    """3/1000 is inside; so are the weights of the layers, of which the case may have the first ones only. The loss of a
    layer is that of the method on this layer alone, times its weight."""
    students, teachers = layers(case, "student"), layers(case, "teacher")
    loss, student, teacher = prepared(
        ActivationBoundary(taps(students), taps(teachers), case.hyper.get("margin", 1.0)), students, teachers
    )
    for number, module in enumerate(loss.connectors):
        if not isinstance(module, nn.Identity):
            name = next(
                name.split("conv__weight")[0]
                for name in case.arrays
                if name.endswith("conv__weight")
                and not name.startswith("grad_")
                and (len(students) == 1 or f"__{number}__" in name)
            )
            case.fill(f"{name}conv", module[0])
            case.fill(f"{name}bn", module[1])
    factor = 0.003 * 2.0 ** (len(students) - case.hyper.get("feat_num", len(students)))
    if "out_layer_losses" not in case:
        return call(loss, student, teacher) * factor
    each = [
        functional.activation_boundary(module(mine), theirs, loss.margin, reduction="mean")
        for module, mine, theirs in zip(loss.connectors, students, teachers)
    ]
    weighted = [factor * weight * value for weight, value in zip(loss.halving(), each)]
    return call(loss, student, teacher) * factor, {"layer_losses": torch.stack(weighted)}


def ft(case):
    """On attention maps, or through paraphraser and translator; there the factors themselves may be in the case."""
    hyper = {"norm": case.hyper.get("p2", 1), "power": case.hyper.get("p1", 2)}
    paraphraser, translator = prefix(case, "paraphras", "encoder"), prefix(case, "translat", "encoder")
    if translator is None:
        return functional.factor_transfer(case["student"], case["teacher"], **hyper, reduction="mean")
    factors, channels = (case.arrays[f"{paraphraser}__{layer}__weight"].shape[0] for layer in (6, 0))
    # half a channel more: the number of factors is rounded down
    loss = FactorTransfer("s", "t", rate=(factors + 0.5) / channels, reconstruction_weight=0.0, **hyper)
    loss, student, teacher = prepared(loss, [case["student"]], [case["teacher"]])
    case.fill(paraphraser, loss.paraphraser.encoder)
    case.fill(translator, loss.translator.encoder)
    factors = {"factor_s": loss.translator(case["student"]), "factor_t": loss.paraphraser.factors(case["teacher"])}
    outputs = {name: attention_map(value, hyper["power"]) for name, value in factors.items() if f"out_{name}" in case}
    return call(loss, student, teacher), outputs


def ft_torchdistill(case):
    """Its mean at p = 1 is over all elements."""
    norm, reduction = case.hyper["p"], case.hyper["reduction"]
    reduction = "elementmean" if (norm, reduction) == (1, "mean") else reduction
    return functional.factor_transfer(case["student"], case["teacher"], norm, "paper", reduction=reduction)


def crd(case):
    """The memories and Z (-1 there, 0 here, where it is not set) before and after."""
    loss = CRD(
        dimensions=case.hyper["feat_dim"],
        negatives=case.hyper["nce_k"],
        temperature=case.hyper["nce_t"],
        momentum=case.hyper["nce_m"],
    )
    loss, student, teacher = prepared(loss, [case["student"]], [case["teacher"]], samples=case.hyper["n_data"])
    case.fill("embed_s_linear", loss.student_embedding)
    case.fill("embed_t_linear", loss.teacher_embedding)
    loss.student_memory.copy_(case["memory_v1"])
    loss.teacher_memory.copy_(case["memory_v2"])
    loss.normalisers.copy_(case["params"][2:4].clamp(min=0))
    value = loss.contrast(student, teacher, case["idx"], case["contrast_idx"]).mean()
    params = torch.tensor([loss.negatives, loss.temperature, *loss.normalisers, loss.momentum], dtype=torch.float64)
    return value, {
        "memory_v1_after": loss.student_memory,
        "memory_v2_after": loss.teacher_memory,
        "params_after": params,
    }


def reviewkd_hcl(case):
    """Levels are added."""
    return sum(functional.hierarchical_context(mine, theirs, reduction="mean") for mine, theirs in pairs(case))


def reviewkd(case):
    """Stages from shallow to deep, there from deep to shallow; the weight, raised over the first epochs, is inside."""
    students, teachers = ([*case.several(f"{role}_"), case[f"{role}_pooled"]] for role in ("student", "teacher"))
    loss, student, teacher = prepared(
        ReviewKD(taps(students), taps(teachers), most_channels=case.hyper["mid_channel"]), students, teachers
    )
    for number, fusion in enumerate(reversed(loss.review.fusions)):
        case.fill(f"abf_{number}__conv1", fusion.enter)
        case.fill(f"abf_{number}__conv2", fusion.leave)
        if fusion.attention is not None:
            case.fill(f"abf_{number}__att_conv", fusion.attention)
    return (
        call(loss, student, teacher)
        * case.hyper["weight"]
        * min(case.hyper["epoch"] / case.hyper["warmup_epochs"], 1.0)
    )


def ofd_feat(case):
    return functional.partial_l2(case["student"], case["teacher"], case["margin"].flatten(), reduction="mean")


def ofd(case):
    students, teachers = layers(case, "student"), layers(case, "teacher")
    network = nn.ModuleDict({f"bn{number}": nn.BatchNorm2d(x.shape[1]) for number, x in enumerate(teachers)}).double()
    for name, norm in network.items():
        norm.load_state_dict({"weight": case[f"{name}_weight"], "bias": case[f"{name}_bias"]}, strict=False)
    loss, student, teacher = prepared(
        OverhaulDistillation(taps(students), taps(teachers), list(network)), students, teachers, network
    )
    for number, module in enumerate(loss.connectors):
        case.fill(f"connector_connectors__{number}", module)
    return call(loss, student, teacher), {
        f"margin_{number}": getattr(loss, f"margin{number}") for number in range(len(students))
    }


def simkd(case):
    network = nn.ModuleDict({"classifier": nn.Linear(*reversed(case["teacher_fc_weight"].shape))}).double()
    network["classifier"].load_state_dict({"weight": case["teacher_fc_weight"], "bias": case["teacher_fc_bias"]})
    loss, student, teacher = prepared(
        SimKD("s", "t", factor=case.hyper.get("factor", 2)), [case["student"]], [case["teacher"]], network
    )
    case.fill("simkd_transfer", loss.head.projector)
    return call(loss, student, teacher), {"logits": loss.logits(student)}


def semckd(case):
    students, teachers = layers(case, "student"), layers(case, "teacher")
    loss = SemCKD(taps(students), taps(teachers), len(students[0]), case.hyper["soft"], case.hyper["factor"])
    loss, student, teacher = prepared(loss, students, teachers)
    for name, modules in (("query", loss.queries), ("key", loss.keys)):
        for number, module in enumerate(modules):
            case.fill(f"selfa_{name}_{number}__linear1", module[0])
            case.fill(f"selfa_{name}_{number}__linear2", module[2])
    for number, module in enumerate(loss.projections):
        case.fill("selfa_regressor{}{}__regressor".format(*divmod(number, len(teachers))), module)
    query, key, _ = loss.calibrate(student, teacher)
    return call(loss, student, teacher), {"weight": functional.semantic_attention(query, key, loss.temperature)}


ENTRIES = {
    "fitnet": fitnet,
    "fitnet_connector": fitnet_connector,
    "at": at,
    "at_torchdistill": at_torchdistill,
    "vid": vid,
    "ab": ab,
    "ft": ft,
    "ft_torchdistill": ft_torchdistill,
    "crd": crd,
    "reviewkd_hcl": reviewkd_hcl,
    "reviewkd": reviewkd,
    "ofd_feat": ofd_feat,
    "ofd": ofd,
    "simkd": simkd,
    "semckd": semckd,
}
