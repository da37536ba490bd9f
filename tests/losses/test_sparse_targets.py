"""Which losses learn from a part of the teacher's distribution, at which temperature, and that the others refuse it."""

import pytest
import torch

from kdlab import losses
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.objective import Objective
from kdlab.outputs import LazyLogits, NotDense, Outputs, Sampled, TopK
from kdlab.training.preparation import _not_for_sparse

ROWS, CLASSES = 8, 10
BATCH = Batch(None, torch.arange(ROWS) % CLASSES, torch.arange(ROWS))
BOUNDED = [
    losses.ForwardKL,
    losses.ReverseKL,
    losses.SymmetricKL,
    losses.JensenShannon,
    losses.TotalVariation,
    losses.SkewForwardKL,
    losses.SkewReverseKL,
    losses.HintonKD,
]


def logits(seed):
    return torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def top(teacher, k=CLASSES, temperature=1.0):
    order = (teacher / temperature).log_softmax(-1).sort(-1, descending=True)
    kept = {"log_probabilities": order.values[:, :k], "log_tail": order.values[:, k:].logsumexp(-1)}
    return Outputs(TopK(ids=order.indices[:, :k], classes=CLASSES, temperature=temperature, **kept))


def samples(teacher):
    p = teacher.softmax(-1)
    ids = torch.arange(CLASSES).expand(ROWS, CLASSES)
    return Outputs(Sampled(ids=ids, classes=CLASSES, weights=p, entropy=-(p * p.log()).sum(-1)))


def gradient(term, teacher, batch=BATCH, lazily=False, ties=None):
    """The objective's value and the gradient of the student's logits; ``lazily``: three rows at a time."""
    z = logits(0).requires_grad_()
    answer = LazyLogits(z, lambda x: 1.0 * x, (), 3) if lazily else z
    value = Objective({"term": term}, {"term": 0.7})(Outputs(answer), teacher, batch).total
    value.backward()
    return value.detach(), z.grad


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("kind", BOUNDED)
def test_all_classes_known_is_dense(kind, lazily):
    """With rows that count in part, also a part of the rows at a time: value and gradient."""
    term = kind(temperature=2.0)
    batch = BATCH.replace(weights=torch.tensor([1.0, 0.5, 0.0, 1, 1, 2, 0, 1], dtype=torch.float64), normaliser=5.0)
    dense, sparse = (gradient(term, one, batch, lazily) for one in (Outputs(logits(1)), top(logits(1), temperature=2)))
    torch.testing.assert_close(sparse, dense, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [losses.ForwardKL, losses.HintonKD])
def test_all_classes_drawn_is_dense(kind):
    dense, sparse = (gradient(kind(1.0), one) for one in (Outputs(logits(1)), samples(logits(1))))
    torch.testing.assert_close(sparse, dense, rtol=0, atol=1e-10)


def test_a_masked_row_does_not_count_whatever_is_known_of_it():
    teacher = top(logits(1), 4)
    teacher.answer.log_probabilities[2] = float("nan")
    batch = BATCH.replace(weights=torch.ones(ROWS).index_fill(0, torch.tensor([2]), 0.0))
    value, found = gradient(losses.ReverseKL(), teacher, batch)
    assert value.isfinite() and found.isfinite().all() and not found[2].any()


def names(kind):
    return {
        name
        for name in losses.__all__
        if isinstance(getattr(losses, name), type)
        and kind in getattr(getattr(losses, name), "sparse", ())
        and name != "Loss"
    }


def test_the_losses_that_accept_a_part():
    assert names("top_k") == {one.__name__ for one in BOUNDED}
    assert names("sampled") == {"ForwardKL", "HintonKD"}


@pytest.mark.parametrize("name", ["AlphaBeta", "AdaptiveKL", "SoftCrossEntropy", "LogitMSE", "DKD", "Standardised"])
@pytest.mark.parametrize("make", [top, samples])
def test_others_refuse_it(name, make):
    kind = getattr(losses, name)
    term = kind(losses.HintonKD()) if name == "Standardised" else kind()
    objective, teacher = Objective({"term": term}, {"term": 1.0}), make(logits(1))
    (problem,) = _not_for_sparse(objective, teacher)
    assert problem.startswith(f"loss.term: {name} reads all of the teacher's logits, and its answers are ")
    with pytest.raises(InputError, match="logits of all classes are needed"):
        objective(Outputs(logits(0)), teacher, BATCH)


def test_reverse_directions_refuse_samples():
    objective = Objective({"term": losses.ReverseKL()}, {"term": 1.0})
    assert (
        "samples of the teacher's classes; take forward_kl or kd" in _not_for_sparse(objective, samples(logits(1)))[0]
    )
    with pytest.raises(ValueError, match="ReverseKL cannot learn from samples"):
        objective(Outputs(logits(0)), samples(logits(1)), BATCH)


@pytest.mark.parametrize("make", [top, samples])
def test_another_temperature_is_refused(make):
    objective = Objective({"term": losses.ForwardKL(2.0)}, {"term": 1.0})
    teacher = make(logits(1))
    (problem,) = _not_for_sparse(objective, teacher)
    assert problem.startswith("loss.term.temperature=2: ") and "loss.term.temperature=1, or keep" in problem
    with pytest.raises(ValueError, match="are known at temperature 1 alone"):
        objective(Outputs(logits(0)), teacher, BATCH)
    from kdlab.schedules import Linear

    moving = Objective(
        {"term": losses.ForwardKL(1.0)}, {"term": 1.0}, {"term.temperature": Linear(start=1.0, end=2.0, epochs=3)}
    )
    assert "it has a schedule" in _not_for_sparse(moving, teacher)[0]


def test_outputs_of_a_part():
    teacher = top(logits(1), 3)
    assert teacher.classes == CLASSES and teacher.sparse is teacher.detach().sparse and not teacher.is_lazy
    assert teacher.answer.shape == (ROWS, CLASSES) and len(teacher.answer[2:5]) == 3
    with pytest.raises(NotDense, match="3 most probable classes and the mass of the others"):
        _ = teacher.logits
    dense = Outputs(logits(1))
    assert dense.sparse is None and dense.classes == CLASSES
