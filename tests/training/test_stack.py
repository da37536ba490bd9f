"""Several students in one step: gradients, optimisers and weights are those of each run alone."""

import pytest
import torch
from torch import nn

from kdlab.config.compose import compose, own_hydra
from kdlab.losses import CrossEntropy, HintonKD, SoftCrossEntropy, SymmetricKL
from kdlab.objective import Objective
from kdlab.schedules import Schedule
from kdlab.strategies import Offline
from kdlab.training.assemble import assembled
from kdlab.training.stack import Given, Stack, form_of
from kdlab.training.stacked import sources_of
from kdlab.training.stacked_optimizer import StackedOptimizer, misfit
from kdlab.training.trial import ROUNDS, _difference, tried, unfit


def parts_of(taught, *overrides, seeds=(1, 2)):
    """Assembled runs that differ in the seed."""
    with own_hydra():
        config = compose(["teacher=run", f"teacher.run={taught.path}", "progress=none", *overrides])
    return [assembled({**config, "seed": seed}) for seed in seeds]


@pytest.fixture(scope="module")
def grid(taught):
    """The configs of 12 runs: temperature, weights and learning rate, with 3 seeds."""
    with own_hydra():
        config = compose(["teacher=run", f"teacher.run={taught.path}", "progress=none"])
    return [
        {
            **config,
            "seed": seed,
            "optimizer": {**config["optimizer"], "lr": rate},
            "loss": {
                "ce": {**config["loss"]["ce"], "weight": 1 - weight},
                "kd": {**config["loss"]["kd"], "weight": weight, "temperature": temperature},
            },
        }
        for temperature, weight, rate in ((2.0, 0.9, 0.01), (4.0, 0.5, 0.003), (8.0, 0.0, 0.03), (1.0, 1.0, 0.01))
        for seed in (1, 2, 3)
    ]


def given_of(parts, batches):
    return [
        Given(
            batch, next(one.strategy.teach(batch) for one, source in zip(parts, sources_of(parts)) if source == number)
        )
        for number, batch in enumerate(batches)
    ]


def loaders_of(parts):
    sources = sources_of(parts)
    return [parts[sources.index(number)].data.train_dataloader() for number in range(max(sources) + 1)]


def optimizers_of(parts):
    return [one.strategy.optimization.optimizer(params=one.strategy.parameter_groups()) for one in parts]


def alone(one, batch):
    """The gradient of a run, flat."""
    loss = one.strategy.distill(batch).loss.total
    return torch.cat([value.flatten() for value in torch.autograd.grad(loss, list(one.strategy.student.parameters()))])


@pytest.mark.parametrize("together", [True, False])
def test_the_gradients_of_a_step_are_those_of_each_run_alone(grid, together):
    parts = [assembled(config) for config in grid]
    batches = [next(iter(loader)) for loader in loaders_of(parts)]
    stack = Stack([one.strategy for one in parts], optimizers_of(parts), sources_of(parts), together)
    assert (stack._form is not None) == together
    gradients, losses = stack.gradients(given_of(parts, batches))
    for row, (one, source) in enumerate(zip(parts, stack.sources)):
        torch.testing.assert_close(gradients[row], alone(one, batches[source]), atol=1e-6, rtol=0)
        found = one.strategy.distill(batches[source]).loss
        part = next(part for part in losses if row in part.rows)
        place = part.rows.index(row)
        torch.testing.assert_close(part.totals[place], found.total.detach(), atol=1e-6, rtol=1e-6)
        assert set(part.names) == set(found.parts), "a term of weight 0 is not computed"
        for name, values in zip(part.names, part.values):
            torch.testing.assert_close(values[place], found.parts[name], atol=1e-6, rtol=1e-6)


def test_an_epoch_in_float64_gives_the_same_weights(grid):
    parts = [assembled(config) for config in grid]
    for one in parts:
        one.strategy.student.double()
        one.strategy.teacher.network.double()
    loaders = loaders_of(parts)
    batches = [[batch.replace(inputs=batch.inputs.double()) for batch in loader] for loader in loaders]
    optimizers = optimizers_of(parts)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    schedules = [cosine(one, T_max=40) for one in optimizers]
    stack = Stack([one.strategy for one in parts], optimizers, sources_of(parts))
    begun = [[value.detach().clone() for value in one.strategy.student.parameters()] for one in parts]
    for number in range(len(batches[0])):
        stack.step(given_of(parts, [of_seed[number] for of_seed in batches]))
        for schedule in schedules:
            schedule.step()
    assert all(
        torch.equal(value, first)
        for one, values in zip(parts, begun)
        for value, first in zip(one.strategy.student.parameters(), values)
    ), "the students get their weights when they are written"
    stack.write()
    together = [[value.detach().clone() for value in one.strategy.student.parameters()] for one in parts]
    for row, one in enumerate(parts):
        student = one.strategy.student
        with torch.no_grad():
            for value, first in zip(student.parameters(), begun[row]):
                value.copy_(first)
        (optimizer,) = optimizers_of([one])
        schedule = cosine(optimizer, T_max=40)
        for batch in batches[stack.sources[row]]:
            optimizer.zero_grad()
            one.strategy.distill(batch).loss.total.backward()
            optimizer.step()
            schedule.step()
        for value, other, first in zip(student.parameters(), together[row], begun[row]):
            torch.testing.assert_close(value, other, atol=1e-9, rtol=0)
            assert (value - first).abs().max() > 1e-3
        for value, its in zip(student.parameters(), optimizers[row].param_groups[0]["params"]):
            mine, theirs = optimizer.state[value], optimizers[row].state[its]
            assert mine.keys() == theirs.keys()
            for name, number in mine.items():
                assert (number.dtype, number.shape) == (theirs[name].dtype, theirs[name].shape)
                torch.testing.assert_close(number, theirs[name], atol=1e-9, rtol=1e-9)


OPTIMIZERS = {
    "AdamW": lambda params, rate: torch.optim.AdamW(params, lr=rate, weight_decay=10 * rate),
    "Adam": lambda params, rate: torch.optim.Adam(params, lr=rate, weight_decay=rate, betas=(0.8, 0.9)),
    "SGD": lambda params, rate: torch.optim.SGD(params, lr=rate),
    "momentum": lambda params, rate: torch.optim.SGD(params, lr=rate, momentum=0.9, weight_decay=rate, dampening=0.1),
    "nesterov": lambda params, rate: torch.optim.SGD(params, lr=rate, momentum=0.9, weight_decay=rate, nesterov=True),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_vectorised_optimiser_steps_as_torchs_and_goes_on_from_its_state(make):
    torch.manual_seed(0)
    gradients = torch.randn(6, 3, 8, dtype=torch.float64)
    first = torch.randn(3, 8, dtype=torch.float64)
    rates = (0.1, 0.01, 0.3)

    def made():
        values = [[nn.Parameter(row[:2].clone()), nn.Parameter(row[2:].view(2, 3).clone())] for row in first]
        return values, [make(params, rate) for params, rate in zip(values, rates)]

    def steps(values, optimizers, some):
        for gradient in some:
            for row, (params, optimizer) in enumerate(zip(values, optimizers)):
                params[0].grad, params[1].grad = gradient[row, :2].clone(), gradient[row, 2:].view(2, 3).clone()
                optimizer.step()

    values, optimizers = made()
    steps(values, optimizers, gradients)
    expected = torch.stack([torch.cat([value.detach().flatten() for value in params]) for params in values])
    # two steps of torch's, two of the vectorised one, two of torch's again
    values, optimizers = made()
    steps(values, optimizers, gradients[:2])
    weights = torch.stack([torch.cat([value.detach().flatten() for value in params]) for params in values])
    stacked = StackedOptimizer(optimizers, weights)
    for gradient in gradients[2:4]:
        stacked.step(weights, gradient)
    stacked.write()
    with torch.no_grad():
        for params, row in zip(values, weights):
            params[0].copy_(row[:2])
            params[1].copy_(row[2:].view(2, 3))
    steps(values, optimizers, gradients[4:])
    found = torch.stack([torch.cat([value.detach().flatten() for value in params]) for params in values])
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    # from the beginning
    values, optimizers = made()
    weights = first.clone()
    stacked = StackedOptimizer(optimizers, weights)
    for gradient in gradients:
        stacked.step(weights, gradient)
    torch.testing.assert_close(weights, expected, atol=1e-12, rtol=1e-12)


def test_optimisers_that_are_not_stacked():
    params = [nn.Parameter(torch.zeros(2))]
    assert "RMSprop is not torch's" in misfit(torch.optim.RMSprop(params), params)
    assert misfit(torch.optim.Adam(params, amsgrad=True), params) == "optimizer.amsgrad is set"
    betas = (torch.tensor(0.9), torch.tensor(0.99))
    assert misfit(torch.optim.Adam(params, betas=betas, foreach=False), params) == "optimizer.betas is a tensor"
    assert misfit(torch.optim.SGD(params, lr=torch.tensor(0.1)), params) == "optimizer.lr is a tensor"
    groups = [{"params": params}, {"params": [nn.Parameter(torch.zeros(1))]}]
    assert "more than the student's parameters" in misfit(torch.optim.SGD(groups, lr=0.1), params)
    assert misfit(torch.optim.SGD(params, lr=0.1), params) == ""
    two = [torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=momentum) for momentum in (0.1, 0.9)]
    weights = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="optimizer.momentum differs between the runs"):
        StackedOptimizer(two, weights).step(weights, weights)


def test_objectives_of_one_form_differ_in_numbers_alone():
    def objective(loss, **scheduled):
        return Objective({"kd": loss, "ce": CrossEntropy()}, {"kd": 0.5, "ce": 0.5}, scheduled.get("schedules"))

    form = form_of([objective(HintonKD(2.0)), objective(HintonKD(4.0)), objective(HintonKD(4.0))])
    assert [(name, values) for _, name, values in form.numbers["kd"]] == [("temperature", [2.0, 4.0, 4.0])]
    assert form.numbers["ce"] == []
    assert form_of([objective(HintonKD(2.0)), objective(SoftCrossEntropy(2.0))]) is None
    assert form_of([objective(HintonKD(2.0)), objective(HintonKD(2.0, temperature_squared=False))]) is None
    weights = objective(HintonKD(2.0), schedules={"kd.weight": schedule()})
    assert form_of([weights, objective(HintonKD(2.0))]) is not None
    assert form_of([objective(HintonKD(2.0), schedules={"kd.temperature": schedule()})] * 2) is None


def schedule():
    from kdlab.schedules import scheduled

    ((_, found),) = scheduled({"weight": {"schedule": "stop", "value": 1.0, "epochs": 3}})
    assert isinstance(found, Schedule)
    return found


class Sums(nn.Module):
    """Torch cannot run it for several students at once: it looks at a number."""

    def __init__(self, **shapes):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        y = self.linear(x.flatten(1))
        return y * 2 if float(y.detach().sum()) > 1e9 else y


class Counts(Sums):
    """It remembers the steps: stacked runs would share them."""

    steps = 0

    def forward(self, x):
        self.steps += 1
        return self.linear(x.flatten(1))


class Remembers(HintonKD):
    """A loss that keeps a list."""

    def __init__(self, temperature: float = 4.0):
        super().__init__(temperature)
        self.seen = []

    def forward(self, student, teacher, batch):
        self.seen.append(len(batch))
        return super().forward(student, teacher, batch)


def test_what_cannot_be_stacked_says_why(taught):
    cpu = torch.device("cpu")

    def why(*overrides):
        return tried(parts_of(taught, *overrides), cpu, True).why_not

    assert why() == ""
    assert why("student.dropout=0.2") == "the network or a loss draws random numbers (dropout)"
    assert why("student=cnn") == ""
    assert "reads features" in why("loss=[ce,sp]", "loss.sp.student_taps=[stage1]", "loss.sp.teacher_taps=[stage1]")
    remembers = "changes in a step, so it may remember earlier ones"
    assert why(f"student._target_={__name__}.Counts") == f"student.steps {remembers}"
    assert why(f"+loss.own={{_target_:{__name__}.Remembers,weight:0.5}}") == f"loss.own.seen {remembers}"
    assert why(f"student._target_={__name__}.Sums").startswith("its step cannot be computed for several runs at once")


def test_a_loss_that_looks_at_numbers_is_computed_in_turn(taught):
    """A mixture of both directions compares its weight with 0."""
    term = "+loss.both={_target_:kdlab.losses.SymmetricKL,weight:0.5,reverse_weight:%s}"
    parts = [parts_of(taught, term % weight)[0] for weight in (0.2, 0.7)]
    assert all(isinstance(one.strategy.objective.losses["both"], SymmetricKL) for one in parts)
    trial = tried(parts, torch.device("cpu"), True)
    assert not trial.why_not and not trial.together and trial.error < 1e-5


def test_a_trial_tries_the_terms_that_begin_later(taught):
    """The term with numbers that differ has a weight of 0 at first; its step in one pass is not possible."""
    ramp = "{schedule: linear, start: 0.0, end: 1.0, epochs: 2}"
    term = f"+loss.both={{_target_:kdlab.losses.SymmetricKL,weight:{ramp},reverse_weight:%s}}"
    parts = [parts_of(taught, term % weight)[0] for weight in (0.2, 0.7)]
    weights = [one.strategy.objective.weights["both"] for one in parts]
    trial = tried(parts, torch.device("cpu"), True)
    assert not trial.why_not and not trial.together
    assert weights == [one.strategy.objective.weights["both"] for one in parts] == [0.0, 0.0]


def test_both_sides_of_a_trial_ask_the_teacher(taught, monkeypatch):
    parts, asked, teach = parts_of(taught, seeds=(1, 1)), [], Offline.teach
    monkeypatch.setattr(Offline, "teach", lambda self, batch: asked.append(self) or teach(self, batch))
    assert tried(parts, torch.device("cpu"), True).why_not == ""
    # to compare and in each round: once for the stack, and once for each run
    assert len(asked) == 3 + 3 * (ROUNDS + 1)


@pytest.mark.parametrize("place", [0, 1])
def test_a_gradient_that_is_not_a_number_differs(place):
    values = [torch.ones(2), torch.ones(2)]
    assert _difference(*values) == 0
    values[place][1] = float("nan")
    assert _difference(*values) == float("inf")


def test_a_trial_changes_nothing(taught):
    parts = [parts_of(taught)[0], parts_of(taught, "optimizer=sgd")[1]]
    before = [{name: value.clone() for name, value in one.strategy.state_dict().items()} for one in parts]
    assert tried(parts, torch.device("cpu"), True).why_not.startswith("its step cannot be computed")
    assert [unfit(one) for one in parts] == ["", ""]
    assert tried(parts[:1] * 2, torch.device("cpu"), True).why_not == ""
    for one, values in zip(parts, before):
        assert all(torch.equal(value, values[name]) for name, value in one.strategy.state_dict().items())
        assert all(value.grad is None for value in one.strategy.parameters())


@pytest.mark.slow
def test_float32_moves_the_weights_as_another_rounding_does(taught):
    """Each run three times: alone, stacked, and alone from weights that are rounded in another way."""
    seeds, epochs = range(1, 9), 4
    parts = parts_of(taught, seeds=seeds)
    loaders = loaders_of(parts)
    batches = []
    for epoch in range(epochs):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        batches += list(zip(*loaders))
    given = [given_of(parts, of_seeds) for of_seeds in batches]
    stack = Stack([one.strategy for one in parts], optimizers_of(parts), sources_of(parts))
    begun = stack.weights.clone()
    for one in given:
        stack.step(one)

    def trained_alone(row, first):
        student = parts[row].strategy.student
        torch.nn.utils.vector_to_parameters(first, student.parameters())
        (optimizer,) = optimizers_of([parts[row]])
        for of_seeds in batches:
            optimizer.zero_grad()
            parts[row].strategy.distill(of_seeds[row]).loss.total.backward()
            optimizer.step()
        return torch.nn.utils.parameters_to_vector(student.parameters()).detach().clone()

    stacked, rounded = [], []
    for row in range(len(parts)):
        alone = trained_alone(row, begun[row].clone())
        # the last bit of every weight
        other = trained_alone(row, begun[row] * (1 + 2**-23))
        stacked.append(float((stack.weights[row] - alone).abs().max()))
        rounded.append(float((other - alone).abs().max()))
        assert (alone - begun[row]).abs().max() > 0.1
    assert all(value > 0 for value in rounded)
    middle = len(parts) // 2
    assert sorted(stacked)[middle] < 10 * sorted(rounded)[middle] and max(stacked) < 0.01, (stacked, rounded)
