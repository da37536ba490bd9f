"""Every argument of every loss changes something: its value, a gradient, or its value one step later."""

import inspect
import zlib

import pytest
import torch
from torch import nn

from kdlab import losses
from kdlab.batch import Batch
from kdlab.losses import DKD, HintonKD, Loss, Probe
from kdlab.models.factors import Paraphraser
from kdlab.outputs import Outputs

ROWS, CLASSES, LENGTH = 6, 7, 4
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
ABSTRACT = {"Loss", "Probe", "Divergence"}
LOSSES = {name: getattr(losses, name) for name in losses.__all__ if name not in ABSTRACT}

NORMS = ["norm1", "norm2", "norm3"]
LAYERS = {"student_layers": [0, 1], "teacher_layers": [1, 3]}
HEADS = {"student_heads": 2, "teacher_heads": 2}
#: what a loss is made with, where its defaults do not fit the small features below
BASE = {
    "CC": {"dimension": 5},
    "CRD": {"dimensions": 5, "negatives": 8},
    "OverhaulDistillation": {"teacher_norms": NORMS},
    "SemCKD": {"batch_size": ROWS},
    "PKD": LAYERS,
    "TinyBERT": {"student_layers": 2, "teacher_layers": 4, "heads": 2},
    "AttentionMSE": HEADS,
    "AttentionCE": HEADS,
    "MiniLM": {"heads": 2},
    "MiniLMv2": {"heads": 2},
    "Standardised": {"loss": HintonKD()},
}
#: the feature of each loss that reads some: maps unless it stands here
VECTORS = {"CC", "CCKernel", "CKA", "CRD", "PKT", "RKD", "SimilarityKL"}
SEQUENCES = {
    "AttentionCE",
    "AttentionMSE",
    "HiddenCosine",
    "HiddenMSE",
    "MiniLM",
    "MiniLMv2",
    "PKD",
    "SequenceFSP",
    "SequenceMMD",
    "TinyBERT",
}
EQUAL_WIDTHS = {"FSP", "KDSVD", "SequenceFSP", "CC"}
#: another value of an argument, where it is no number and no switch
OTHER = {
    "smoothing_over": "others",
    "softened": "logarithms",
    "form": "paper",
    "kernel": "bilinear",
    "divergence": "kl",
    "over_heads": "sum",
    "average": "samples",
    "relations": {"qk": 1.0, "vv": 0.5},
    "temperatures": [2.0, 3.0],
    "sizes": [3, 1],
    "hidden": 3,
    "layer_map": [0, 2],
    "teacher_head": "other_head",
    "student_embedding": "other",
    "teacher_embedding": "other",
    "norm": 2.0,
    "power": 4.0,
    "batch_size": 9,
    "factor": 1,
    "first_layer": 0,
    "student_layers": [1, 2],
    "teacher_layers": [0, 2],
    "teacher_norms": ["norm3", "norm1", "norm2"],
    "most_channels": 2,
    "heads": 4,
    "student_heads": 4,
    "teacher_heads": 4,
    "loss": DKD(),
    "negatives": 3,
    "width": 5,
    "tail_mass": 0.95,
    "length": "none",
}
OTHER_OF = {
    ("TinyBERT", "student_layers"): 4,
    ("TinyBERT", "teacher_layers"): 2,
    ("SP", "norm"): 1.0,
    ("AttentionTransfer", "power"): 3.0,
    **{(name, f"{side}_layers"): [0] for name in ("AttentionMSE", "AttentionCE") for side in ("student", "teacher")},
}
WITH = {
    ("CrossEntropy", "smoothing_over"): {"label_smoothing": 0.2},
    ("CTKD", "width"): {"per_sample": True},
    ("PolicyGradient", "clip"): {"clip": 0.5},
    **{
        (name, f"{side}_heads"): {"over_heads": "mean"}
        for name in ("AttentionMSE", "AttentionCE")
        for side in ("student", "teacher")
    },
    **{(name, "temperature_squared"): {"temperature": 2.0} for name in LOSSES},
}


class Network(nn.Module):
    """What losses read of a teacher's network: two heads, and BatchNorms with margins of their own."""

    def __init__(self):
        super().__init__()
        self.classifier, self.other_head = nn.Linear(4, CLASSES), nn.Linear(4, CLASSES)
        for number, name in enumerate(NORMS, start=1):
            norm = nn.BatchNorm2d(4)
            nn.init.constant_(norm.weight, float(number))
            setattr(self, name, norm)


def feature(name: str, role: str, tap: str) -> torch.Tensor:
    """A tensor that is another one for each role and tap."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{role} {tap}".encode()))
    width = 4 if role == "teacher" or name in EQUAL_WIDTHS or name in SEQUENCES else 3
    shape = (
        (ROWS, 2 * width)
        if name in VECTORS
        else (ROWS, LENGTH, 2 * width)
        if name in SEQUENCES
        else (ROWS, width, 4, 4)
    )
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def outputs(name: str, loss: Loss, role: str) -> Outputs:
    taps = loss.student_taps if role == "student" else loss.teacher_taps
    generator = torch.Generator().manual_seed(zlib.crc32(role.encode()))
    first, second = (3 * torch.randn(ROWS, CLASSES, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = MASK if name in SEQUENCES else None
    return Outputs(first, {tap: feature(name, role, tap) for tap in taps}, mask, second=Outputs(second))


def observed(name: str, arguments: dict) -> list[torch.Tensor]:
    """The loss made with these arguments, from one seed: its values, the gradients for all that the
    student says and for its own parameters, and its values when it is called once more."""
    torch.manual_seed(0)
    network = Network()
    loss = LOSSES[name](**arguments)
    student, teacher = outputs(name, loss, "student"), outputs(name, loss, "teacher")
    small = [
        Outputs(each.logits.float(), {tap: value.float() for tap, value in each.features.items()}, each.mask)
        for each in (student, teacher)
    ]
    torch.manual_seed(1)
    loss.prepare(Probe(*small, network, CLASSES, 40, torch.arange(40) % CLASSES))
    loss = loss.double().train()
    leaves = [student.answer, student.second.answer, *student.features.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    target = torch.arange(ROWS) % CLASSES
    if "classes" not in loss.answers:  # labels, or values
        target = nn.functional.one_hot(target, CLASSES).double()
    index = torch.arange(ROWS) // (3 if loss.needs_samples else 1)  # two answers of three tokens
    batch = Batch(None, target, index, mask=MASK if name in SEQUENCES else None)
    torch.manual_seed(2)
    value = loss(student, teacher, batch)
    value.sum().backward()
    gradients = [torch.zeros(()) if leaf.grad is None else leaf.grad for leaf in (*leaves, *loss.parameters())]
    # what the reused head says, beside the loss on features
    answer = [loss.logits(student).detach()] if name == "SimKD" else []
    return [value.detach(), *gradients, loss(student, teacher, batch).detach(), *answer]


def changed(name: str, argument: str, before: object, tmp_path) -> object:
    """Another value of an argument."""
    if (name, argument) in OTHER_OF:
        return OTHER_OF[name, argument]
    if argument == "paraphraser":
        torch.manual_seed(9)
        torch.save(Paraphraser(4, 0.5).state_dict(), tmp_path / "paraphraser.pt")
        return str(tmp_path / "paraphraser.pt")
    if argument.endswith(("_tap", "_hidden")):
        return f"other {before}"
    if argument.endswith(("_taps", "_parts")):
        return [f"other {tap}" for tap in ([before] if isinstance(before, str) else before)]
    if argument in OTHER:
        return OTHER[argument]
    if isinstance(before, bool):
        return not before
    return before + 1 if isinstance(before, int) else before * 0.5 + 0.15


def parameters(loss: type[Loss]) -> dict[str, inspect.Parameter]:
    """Its own arguments; none where it has no constructor but that of a module."""
    return {
        key: value
        for key, value in inspect.signature(loss).parameters.items()
        if value.kind is value.POSITIONAL_OR_KEYWORD
    }


CASES = [(name, argument) for name, loss in LOSSES.items() for argument in parameters(loss)]


@pytest.mark.parametrize("name, argument", CASES, ids=lambda value: value)
def test_an_argument_changes_something(name, argument, tmp_path):
    defaults = {key: parameter.default for key, parameter in parameters(LOSSES[name]).items()}
    arguments = {**BASE.get(name, {}), **WITH.get((name, argument), {})}
    before = arguments.get(argument, defaults[argument])
    first, other = (
        observed(name, arguments),
        observed(name, {**arguments, argument: changed(name, argument, before, tmp_path)}),
    )
    assert all(torch.isfinite(value).all() for value in (*first, *other))
    same = len(first) == len(other) and all(
        mine.shape == theirs.shape and torch.allclose(mine, theirs, rtol=1e-9, atol=1e-12)
        for mine, theirs in zip(first, other)
    )
    assert not same, (
        f"{name}({argument}={changed(name, argument, before, tmp_path)!r}) is {name}({argument}={before!r})"
    )


@pytest.mark.parametrize("name", LOSSES)
def test_the_comparison_itself_sees_no_difference_where_there_is_none(name):
    first, again = observed(name, BASE.get(name, {})), observed(name, BASE.get(name, {}))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(first, again))
