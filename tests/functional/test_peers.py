"""Peers and their targets, beyond the contract: optimality, closed forms, invariances, what is a constant."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from kdlab import functional


def networks(number, rows=20, classes=6, scale=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = [scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64) for _ in range(number)]
    return logits, torch.randint(classes, (rows,), generator=generator)


def ensemble_ce(weights, peers, target):
    return torch.nn.functional.cross_entropy(functional.weighted_target(peers, torch.as_tensor(weights)), target).item()


@pytest.mark.parametrize(
    "number, rows, scale, seed", [(2, 20, 1.0, 0), (3, 1, 3.0, 1), (3, 20, 10.0, 2), (5, 8, 30.0, 3), (6, 40, 2.0, 4)]
)
def test_linear_is_optimal(number, rows, scale, seed):
    """No convex combination that scipy finds has a lower cross-entropy."""
    peers, target = networks(number, rows, scale=scale, seed=seed)
    weights = functional.kdcl_linear_weights(peers, target)
    assert weights.min() >= 0 and weights.sum().item() == pytest.approx(1.0, abs=1e-14)
    starts = [np.full(number, 1 / number), *np.eye(number)]
    best = min(
        (
            minimize(
                ensemble_ce,
                start,
                (peers, target),
                method="SLSQP",
                bounds=[(0, 1)] * number,
                options={"ftol": 1e-13, "maxiter": 300},
                constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
            )
            for start in starts
        ),
        key=lambda found: found.fun,
    )
    assert ensemble_ce(weights, peers, target) <= best.fun + 1e-9
    np.testing.assert_allclose(weights, best.x, atol=1e-5)


def test_linear_solutions_known_beforehand():
    """A network that is right wherever the others are wrong gets all the weight; a row that does not count has no
    say."""
    peers, target = networks(3)
    right = 8.0 * torch.nn.functional.one_hot(target, 6).double()
    # of a linear solve: LAPACK's last bits are not the same on every processor
    alone = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(
        functional.kdcl_linear_weights([peers[0], right, peers[1]], target), alone, atol=1e-12, rtol=0.0
    )
    torch.testing.assert_close(
        functional.kdcl_linear_weights([right[:1]] * 2, target[:1] * 0 - 100),
        torch.full((2,), 0.5, dtype=torch.float64),
    )
    half = torch.arange(20) < 10
    some = functional.kdcl_linear_weights([peer[:10] for peer in peers], target[:10])
    torch.testing.assert_close(functional.kdcl_linear_weights(peers, target, mask=half), some)
    torch.testing.assert_close(functional.kdcl_linear_weights(peers, target.where(half, torch.tensor(-100))), some)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", [2, 3, 4, 5, 7])
def test_equal_networks_share_the_weight(number, dtype):
    """Also where the mean of so many equal numbers is not exact."""
    for seed in range(3):
        (peer,), target = networks(1, seed=seed)
        weights = functional.kdcl_linear_weights([peer.to(dtype)] * number, target)
        torch.testing.assert_close(weights, torch.full((number,), 1 / number, dtype=dtype))


def test_linear_per_sample_is_each_sample_alone():
    peers, target = networks(3, rows=4)
    each = [functional.kdcl_linear_weights([peer[[row]] for peer in peers], target[[row]]) for row in range(4)]
    torch.testing.assert_close(functional.kdcl_linear_weights(peers, target, per_sample=True), torch.stack(each))


def test_linear_never_worse_than_a_network():
    """In float32 and with very large logits too."""
    peers, target = networks(4, rows=7, scale=40.0)
    for cast in (torch.float32, torch.float64):
        cast_peers = [peer.to(cast) for peer in peers]
        losses = [functional.cross_entropy(peer, target).mean() for peer in cast_peers]
        assert functional.cross_entropy(functional.kdcl_linear(cast_peers, target), target).mean() <= min(losses) + 1e-5


def test_general_is_the_closed_form():
    """Inverse of the matrix of errors, by numpy; and no other weights of sum 1 have a smaller squared error."""
    peers, target = networks(3)
    probabilities = np.stack([peer.softmax(-1) for peer in peers])
    errors = probabilities - np.eye(6)[target]
    inverse = np.linalg.inv(np.einsum("inc,jnc->ij", errors, errors) / 20)
    found = functional.kdcl_general_weights(functional.error_correlation(peers, target), ridge=0.0)
    np.testing.assert_allclose(found, inverse.sum(1) / inverse.sum(), rtol=1e-11)

    def squared(weights):
        return ((np.tensordot(weights, probabilities, 1) - np.eye(6)[target]) ** 2).sum() / 20

    for direction in ((0.01, -0.01, 0.0), (0.0, 0.01, -0.01), (-0.01, 0.0, 0.01)):
        assert squared(found.numpy()) < squared(found.numpy() + direction)


def test_general_of_equal_networks_and_in_batches():
    peers, target = networks(2)
    equal = functional.error_correlation([peers[0]] * 2, target)
    torch.testing.assert_close(functional.kdcl_general_weights(equal), torch.full((2,), 0.5, dtype=torch.float64))
    torch.testing.assert_close(functional.kdcl_general_weights(torch.zeros(2, 2)), torch.full((2,), 0.5))
    halves = [
        functional.error_correlation([peer[rows] for peer in peers], target[rows])
        for rows in (slice(0, 5), slice(5, 20))
    ]
    torch.testing.assert_close(0.25 * halves[0] + 0.75 * halves[1], functional.error_correlation(peers, target))


def test_min_logit_ignores_a_shift_of_a_network():
    """A constant added to a network's logits says nothing; the true class has the target's greatest share that any
    network grants it."""
    peers, target = networks(3)
    soft = functional.kdcl_min_logit(peers, target)
    torch.testing.assert_close(functional.kdcl_min_logit([peers[0] + 5.0, peers[1] - 3.0, peers[2]], target), soft)
    best = torch.stack([functional.cross_entropy(peer, target) for peer in peers]).amin(0)
    assert (functional.cross_entropy(soft, target) <= best).all()


def test_naive_chooses_by_the_rows_that_count():
    peers = [torch.tensor([[0.0, 4.0], [0.0, -9.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])]
    target = torch.tensor([1, 1])
    assert functional.kdcl_naive(peers, target).tolist() == peers[1].tolist()
    assert functional.kdcl_naive(peers, target, mask=torch.tensor([1, 0])).tolist() == peers[0].tolist()
    assert functional.kdcl_naive(peers, torch.tensor([1, -100])).tolist() == peers[0].tolist()


def test_targets_are_constants_unless_asked():
    peers, target = networks(3)
    peers = [peer.requires_grad_() for peer in peers]
    rules = {
        "mean": lambda **o: functional.kdcl_mean(peers, **o),
        "naive": lambda **o: functional.kdcl_naive(peers, target, **o),
        "linear": lambda **o: functional.kdcl_linear(peers, target, **o),
        "min_logit": lambda **o: functional.kdcl_min_logit(peers, target, **o),
        "codistillation": lambda **o: functional.codistillation_targets(peers, **o)[0],
        "weighted": lambda **o: functional.weighted_target(peers, torch.ones(3), **o),
    }
    for name, rule in rules.items():
        assert not rule().requires_grad and rule(detach=False).requires_grad, name


@pytest.mark.parametrize("detach", [True, False])
def test_mutual_kl_and_its_gradient(detach):
    """Of K networks, the mean over peers is the sum / (K - 1), and a peer learns only where it is asked to."""
    (student, *peers), _ = networks(4)
    student, peers = student.requires_grad_(), [peer.requires_grad_() for peer in peers]
    found = functional.mutual_kl(student, peers, 2.0, detach=detach)
    torch.testing.assert_close(found, sum(functional.hinton_kd(student, peer, 2.0) for peer in peers) / 3)
    gradients = torch.autograd.grad(found.sum(), peers, allow_unused=True)
    assert [gradient is None for gradient in gradients] == [detach] * 3


def test_codistillation_of_two_is_the_other():
    (first, second), _ = networks(2)
    targets = functional.codistillation_targets([first, second])
    torch.testing.assert_close(targets, [second, first])
    targets = functional.codistillation_targets([first, second], average="probabilities")
    torch.testing.assert_close([soft.softmax(-1) for soft in targets], [second.softmax(-1), first.softmax(-1)])


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda z, y: functional.kdcl_mean([]), "at least 1"),
        (lambda z, y: functional.mutual_kl(z, []), "at least 2"),
        (lambda z, y: functional.codistillation_targets([z]), "at least 2"),
        (lambda z, y: functional.kdcl_mean([z], average="median"), "logits, probabilities"),
        (lambda z, y: functional.kdcl_naive([z, z], y[:3]), r"\(3,\)"),
        (lambda z, y: functional.kdcl_linear_weights([z] * 11, y), "at most 10"),
        (lambda z, y: functional.weighted_target([z, z], torch.ones(3)), r"\(2,\)"),
        (lambda z, y: functional.kdcl_general_weights(torch.ones(2, 3)), r"\(2, 3\)"),
    ],
)
def test_mistakes_are_refused(call, words):
    (logits,), target = networks(1)
    with pytest.raises(ValueError, match=words):
        call(logits, target)
