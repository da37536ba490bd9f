"""Losses on features, with their connectors."""

import torch

from kdlab import functional
from kdlab.batch import Batch
from kdlab.losses import Hint, Probe
from kdlab.outputs import Outputs


def fitnet(case):
    return functional.hint(case["student"], case["teacher"]).mean()


def fitnet_connector(case):
    """Through the loss itself: it builds its connector from the probe, then the case's weights are put into it."""
    loss = Hint("s", "t")
    logits = torch.zeros(len(case["student"]), 10)
    student, teacher = Outputs(logits, {"s": case["student"]}), Outputs(logits, {"t": case["teacher"]})
    loss.prepare(Probe(student, teacher, None, 10, 100))
    loss.double().train()
    convolution, norm, _ = loss.connector
    for name, module in (("reg_conv", convolution), ("reg_bn", norm)):
        case.fill(name, module)
    return loss(student, teacher, Batch(None, None, torch.arange(len(logits)))).mean()


ENTRIES = {"fitnet": fitnet, "fitnet_connector": fitnet_connector}
