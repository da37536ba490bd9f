"""kdlab's losses against the numbers of the authors' own code: value and every gradient, 1e-8 relative in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kdlab.batch import Batch
from kdlab.losses import CrossEntropy, Hint, HintonKD, Probe
from kdlab.objective import Objective
from kdlab.outputs import Outputs

CASES = Path(__file__).parent / "cases"


def _case(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in np.load(CASES / f"{name}.npz").items()}


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone().requires_grad_()


def _logits(name: str, terms: dict, weights: dict, leaf: str = "student_logits"):
    case = _case(name)
    student = _leaf(case[leaf])
    teacher = Outputs(case["teacher_logits"]) if "teacher_logits" in case else None
    batch = Batch(None, case.get("target"), torch.arange(len(student)))
    return case, Objective(terms, weights)(Outputs(student), teacher, batch).total, {f"grad_{leaf}": student}


def kd():
    return _logits("kd__0", {"kd": HintonKD(temperature=4)}, {"kd": 1})


def kd_total():
    return _logits("kd_total__0", {"ce": CrossEntropy(), "kd": HintonKD(temperature=4)}, {"ce": 0.1, "kd": 0.9})


def label_smoothing():
    return _logits("label_smoothing_szegedy__0", {"ce": CrossEntropy(label_smoothing=0.1)}, {"ce": 1})


def fitnet():
    from kdlab.functional import hint

    case = _case("fitnet__0")
    student = _leaf(case["student"])
    return case, hint(student, case["teacher"]).mean(), {"grad_student": student}


def fitnet_connector():
    """Through the loss itself: it builds its connector from the probe, then the case's weights are put into it."""
    case = _case("fitnet_connector__0")
    student = _leaf(case["student"])
    loss = Hint("s", "t")
    outputs, teacher = Outputs(student[:, :, 0, 0], {"s": student}), Outputs(student[:, :, 0, 0], {"t": case["teacher"]})
    loss.prepare(Probe(outputs, teacher, None, 10, 100))
    loss.double().train()
    convolution, norm, _ = loss.connector
    places = {"reg_conv__weight": convolution.weight, "reg_conv__bias": convolution.bias, "reg_bn__weight": norm.weight, "reg_bn__bias": norm.bias}
    with torch.no_grad():
        for name, parameter in places.items():
            parameter.copy_(case[name])
    value = loss(outputs, teacher, Batch(None, None, torch.arange(len(student)))).mean()
    return case, value, {"grad_student": student, **{f"grad_{name}": parameter for name, parameter in places.items()}}


@pytest.mark.parametrize("entry", [kd, kd_total, label_smoothing, fitnet, fitnet_connector], ids=lambda entry: entry.__name__)
def test_golden(entry):
    case, value, leaves = entry()
    torch.testing.assert_close(value, case["loss"].to(value), rtol=1e-8, atol=1e-12)
    value.backward()
    assert {name for name in case if name.startswith("grad_")} == set(leaves)
    for name, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, case[name], rtol=1e-8, atol=1e-12)
