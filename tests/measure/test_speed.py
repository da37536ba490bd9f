"""Timing in turns, with a clock that only the calls move."""

import pytest

from kdlab.measure import speed, timed_in_turns
from kdlab.measure.speed import TURNS, WARM_UP_CALLS


class Clock:
    def __init__(self):
        self.now, self.called = 0.0, []

    def __call__(self):
        return self.now

    def lasting(self, name, seconds):
        def call():
            self.called.append(name)
            self.now += seconds

        return call


def test_each_has_its_time_in_turns_that_go_to_and_fro():
    clock = Clock()
    found = timed_in_turns({"a": clock.lasting("a", 0.25), "b": clock.lasting("b", 0.5)}, seconds=10.0, clock=clock)
    assert found == {"a": [0.25] * 4 * TURNS, "b": [0.5] * 2 * TURNS}
    warm_up = ["a"] * WARM_UP_CALLS + ["b"] * WARM_UP_CALLS
    forwards, backwards = ["a"] * 5 + ["b"] * 3, ["b"] * 3 + ["a"] * 5  # one of each does not count
    assert clock.called == warm_up + (forwards + backwards) * (TURNS // 2)


def test_a_call_longer_than_its_turn_is_timed_once_a_turn():
    clock = Clock()
    assert timed_in_turns({"slow": clock.lasting("slow", 3.0)}, seconds=0.1, clock=clock) == {"slow": [3.0] * TURNS}


def test_waiting_for_a_device_counts():
    clock = Clock()
    assert timed_in_turns({"a": lambda: None}, 1.0, clock.lasting("wait", 0.5), clock) == {"a": [0.5] * TURNS}


def test_a_machine_that_slows_down_slows_both_alike():
    """Timed one after the other, the second would look twice as slow."""
    clock = Clock()

    def slowing():
        clock.now += 0.01 * (1 + clock.now / 10)

    found = timed_in_turns({"a": slowing, "b": slowing}, seconds=5.0, clock=clock)
    first, second = (speed(durations, 1)["latency_ms"] for durations in found.values())
    assert clock.now > 10 and first == pytest.approx(second, rel=0.05)
