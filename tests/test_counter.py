import pytest
import torch

from kdlab.counter import counter_bits, counter_order, counter_uniform, derived_seed

MANY = torch.arange(100_000)


def test_the_mixer_is_splitmix64():
    # under an empty key, entry 0 is the first number of SplitMix64 with seed 0, as published with the generator
    assert counter_bits(torch.tensor([0])).item() % 2**64 == 0xE220A8397B1DCDAF
    # a key of one word starts from the same generator: the first number for seed 1234567
    first = 6457827717110365317
    assert torch.equal(counter_bits(MANY[:9], 1234567), counter_bits(MANY[:9] + first))


def test_a_value_is_a_function_of_key_and_index_only():
    index = torch.tensor([5, 99_999, 0, 5])
    state = torch.random.get_rng_state()
    values = counter_uniform(index, 7, 3)
    assert torch.equal(values, counter_uniform(MANY, 7, 3)[index]) and values[0] == values[3]
    assert torch.equal(counter_uniform(index.view(2, 2), 7, 3), values.view(2, 2))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_numbers_are_uniform():
    values = counter_uniform(MANY, 1, 0, 0)
    assert values.dtype is torch.float64 and 0 <= values.min() and values.max() < 1
    # five standard errors
    assert values.mean().item() == pytest.approx(0.5, abs=5 * (1 / 12 / len(MANY)) ** 0.5)
    assert values.var().item() == pytest.approx(1 / 12, abs=5 * (1 / 180 / len(MANY)) ** 0.5)
    counts = torch.histc(values, bins=20, min=0, max=1)
    chi_squared = ((counts - 5000) ** 2 / 5000).sum().item()
    assert 2 < chi_squared < 60  # 19 degrees of freedom


def test_every_bit_is_used():
    bits = counter_bits(MANY, 3)
    for place in range(64):
        assert ((bits >> place) & 1).double().mean().item() == pytest.approx(0.5, abs=0.01), place


@pytest.mark.parametrize(
    "other",
    [
        (2, 0, 0, 11),
        (1, 1, 0, 11),
        (1, 0, 1, 11),
        (1, 0, 0, 12),
        (0, 1, 0, 11),
        (1, 0, 11),
        (1, 0, 0, 11, 0),
        (-1, 0, 0, 11),
    ],
)
def test_another_seed_epoch_view_or_stream_is_independent(other):
    one, two = counter_uniform(MANY, 1, 0, 0, 11), counter_uniform(MANY, *other)
    assert (one == two).sum() == 0
    assert abs(torch.corrcoef(torch.stack([one, two]))[0, 1].item()) < 5 / len(MANY) ** 0.5


def test_neighbours_are_independent():
    values = counter_uniform(MANY, 1)
    assert abs(torch.corrcoef(torch.stack([values[1:], values[:-1]]))[0, 1].item()) < 5 / len(MANY) ** 0.5


def test_the_order_of_a_subset_keeps_the_relative_order():
    whole = counter_order(MANY[:1000], 4, 2)
    subset = MANY[:1000][::3]
    assert torch.equal(counter_order(subset, 4, 2), whole[whole % 3 == 0])
    assert torch.equal(counter_order(subset.flip(0), 4, 2), whole[whole % 3 == 0])


def test_an_order_is_a_permutation_that_changes_with_the_key():
    orders = [counter_order(MANY[:1000], seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert all(torch.equal(order.sort().values, MANY[:1000]) for order in orders)
    for number, order in enumerate(orders):
        for other in [MANY[:1000], *orders[:number]]:
            assert (order == other).sum() < 10


def test_orders_are_fair():
    # over 600 epochs each of 3 samples comes first equally often
    firsts = [counter_order(torch.arange(3), 1, epoch)[0].item() for epoch in range(600)]
    assert all(150 < firsts.count(number) < 250 for number in range(3))


def test_derived_seeds():
    seeds = {derived_seed(a, b) for a in range(20) for b in range(20)}
    assert len(seeds) == 400 and all(0 <= seed < 2**63 for seed in seeds)
    torch.Generator().manual_seed(max(seeds))
