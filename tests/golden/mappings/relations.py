"""Losses on relations of samples and of channels."""

import torch

from kdlab import functional
from kdlab.batch import Batch
from kdlab.losses import CC, FSP, Probe
from kdlab.outputs import Outputs


def sides(case) -> tuple[Outputs, Outputs]:
    """Outputs that hold the case's maps ``student_0``, … and ``teacher_0``, … as taps "0", …."""
    return tuple(
        Outputs(torch.zeros(1), {str(number): value for number, value in enumerate(case.several(f"{side}_"))})
        for side in ("student", "teacher")
    )


def cc(case):
    """Without connectors the function; with the case's two linear embeddings, in the order student, teacher, the
    module."""
    weights = [name for name in case.entry["input_names"] if name.endswith("weight")]
    if not weights:
        return functional.cc(case["student"], case["teacher"])
    loss = CC("f", "f", dimension=len(case[weights[0]]))
    student, teacher = (Outputs(torch.zeros(1), {"f": case[side]}) for side in ("student", "teacher"))
    loss.prepare(Probe(student, teacher, None, 10, 100))
    for name, embedding in zip(weights, (loss.student_embedding.double(), loss.teacher_embedding.double())):
        case.put(name, embedding.weight)
        case.put(name.removesuffix("weight") + "bias", embedding.bias)
    return loss(student, teacher, Batch(None, None, torch.arange(len(case["student"]))))


def cc_kernel(case):
    hyper = case.hyper
    options = {
        ours: hyper[theirs]
        for theirs, ours in (("type", "kernel"), ("gamma", "gamma"), ("max_p", "order"))
        if hyper.get(theirs) is not None
    }
    return functional.cc_kernel(case["student"], case["teacher"], normalise=False, squared=False, **options)


def fsp(case):
    student, teacher = sides(case)
    return FSP(list(student.features), list(teacher.features))(student, teacher, None).mean()


def kdsvd(case):
    """The signs of the teacher's vectors are those that the case stores."""
    maps = [case.several("student_"), case.several("teacher_")]
    signs = [case[f"out_teacher_v_{number}"] for number in range(len(maps[0]))]
    values = [
        functional.kdsvd(
            *maps[0][n : n + 2],
            *maps[1][n : n + 2],
            case.hyper["k"],
            teacher_vectors=tuple(signs[n : n + 2]),
            reduction="mean",
        )
        for n in range(len(signs) - 1)
    ]
    return sum(values)


ENTRIES = {
    "sp": lambda case: functional.sp(case["student"], case["teacher"]),
    "sp_torchdistill": lambda case: functional.sp(case["student"], case["teacher"], norm=1),
    "cc": cc,
    "cc_kernel": cc_kernel,
    "rkd": lambda case: functional.rkd(case["student"], case["teacher"], case.hyper["w_d"], case.hyper["w_a"]),
    "pkt": lambda case: functional.pkt(case["student"], case["teacher"], case.hyper.get("eps", 1e-7)),
    "nst": lambda case: functional.nst(case["student"], case["teacher"], reduction="mean"),
    "fsp": fsp,
    "kdsvd": kdsvd,
}
