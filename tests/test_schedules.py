import math

import pytest

from kdlab.schedules import (
    SCHEDULES,
    Complement,
    Constant,
    Cosine,
    Linear,
    RampUp,
    Schedule,
    Stop,
    WarmUp,
    is_schedule,
    schedule,
)


@pytest.mark.parametrize(
    "given, epochs, values",
    [
        (Constant(0.3), [0, 0.5, 100], [0.3, 0.3, 0.3]),
        (Linear(8, 2, epochs=4), [-1, 0, 1, 2.5, 4, 9], [8, 8, 6.5, 4.25, 2, 2]),
        (Linear(0, 1, epochs=0.5), [0.25, 0.5, 1], [0.5, 1, 1]),
        (Cosine(1, 0, epochs=4), [-1, 0, 1, 2, 4, 9], [1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, 0, 0]),
        (Cosine(2, 6, epochs=6), [0, 2, 3, 4, 6], [2, 3, 4, 5, 6]),
        (WarmUp(0.9, epochs=3), [0, 0.99, 1, 2, 3, 50], [0.3, 0.3, 0.6, 0.9, 0.9, 0.9]),
        (
            RampUp(2.0, epochs=80),
            [-1, 0, 20, 80, 90.5],
            [2 * math.exp(-5), 2 * math.exp(-5), 2 * math.exp(-5 * 0.75**2), 2, 2],
        ),
        (Stop(0.9, epochs=2), [0, 1.99, 2, 3], [0.9, 0.9, 0, 0]),
        (Complement(Stop(0.9, epochs=2)), [0, 1.99, 2, 3], [0.1, 0.1, 1, 1]),
    ],
)
def test_values(given, epochs, values):
    assert [given(epoch) for epoch in epochs] == pytest.approx(values)
    assert all(isinstance(given(epoch), float) for epoch in epochs)


@pytest.mark.parametrize("epochs", [0, -1, float("nan")])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: Linear(0, 1, n),
        lambda n: Cosine(0, 1, n),
        lambda n: WarmUp(1, n),
        lambda n: RampUp(1, n),
        lambda n: Stop(1, n),
    ],
)
def test_a_length_that_is_not_positive_is_refused(make, epochs):
    with pytest.raises(ValueError, match="epochs"):
        make(epochs)


def test_steps_in_place_of_epochs():
    in_epochs = {"schedule": "linear", "start": 8, "end": 2, "epochs": 4}
    in_steps = {"schedule": "linear", "start": 8, "end": 2, "steps": 400}
    assert schedule(in_epochs).after(1.0, 100) == schedule(in_steps).after(1.0, 100) == 6.5
    assert schedule(in_steps).after(99.0, 400) == 2.0 and schedule(in_epochs).after(1.0, None) == 6.5
    assert schedule({**in_steps, "epochs": None}).after(0.0, 200) == 5.0, "what a file leaves open"
    other = schedule({"schedule": "complement", "of": {"schedule": "stop", "value": 0.9, "steps": 3}})
    assert [other.after(0.0, step) for step in (2, 3)] == pytest.approx([0.1, 1.0])
    assert [schedule({"schedule": "warmup", "end": 1, "steps": 4}).after(0.0, n) for n in (0, 1, 9)] == [0.25, 0.5, 1.0]
    with pytest.raises(ValueError, match="number is not given"):
        schedule(in_steps).after(1.0, None)
    with pytest.raises(ValueError, match="steps must be greater than 0, got 0"):
        schedule({**in_steps, "steps": 0})


def test_a_schedule_has_no_state():
    given = Cosine(3, 1, epochs=7)
    forwards = [given(epoch / 3) for epoch in range(30)]
    assert forwards == [given(epoch / 3) for epoch in reversed(range(30))][::-1]


@pytest.mark.parametrize(
    "node, kind",
    [
        ({"schedule": "constant", "value": 2}, Constant),
        ({"schedule": "linear", "start": 1, "end": 2, "epochs": 3}, Linear),
        ({"schedule": "cosine", "start": 1, "end": 2, "epochs": 3}, Cosine),
        ({"schedule": "warmup", "end": 2, "epochs": 3}, WarmUp),
        ({"schedule": "ramp_up", "end": 2, "epochs": 3}, RampUp),
        ({"schedule": "stop", "value": 2, "epochs": 3}, Stop),
        ({"schedule": "complement", "of": {"schedule": "stop", "value": 2, "epochs": 3}}, Complement),
    ],
)
def test_from_config(node, kind):
    given = dict(node)
    assert is_schedule(node) and type(schedule(node)) is kind
    assert node == given
    assert SCHEDULES[node["schedule"]] is kind


def test_a_schedule_within_a_schedule():
    tied = schedule({"schedule": "complement", "of": {"schedule": "linear", "start": 0.2, "end": 1.0, "epochs": 4}})
    assert [tied(epoch) for epoch in (0, 2, 4)] == pytest.approx([0.8, 0.4, 0.0])


@pytest.mark.parametrize("value", [0.5, "linear", None, {}, {"value": 1}, ["schedule"]])
def test_what_is_not_a_schedule(value):
    assert not is_schedule(value)


def test_a_schedule_without_a_value_names_itself():
    class Mine(Schedule):
        pass

    with pytest.raises(NotImplementedError, match="Mine"):
        Mine()(0)
