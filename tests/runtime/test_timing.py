import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.runtime.timing import Timing, TimingSettings, time_alternating, time_calls


class Machine:
    """A clock that only calls move, by durations in whole 1/1024 s, so that sums are exact."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def clock(self):
        return self.now

    def call(self, name, *durations):
        """A call that takes each duration in turn, the last one for ever."""
        remaining = list(durations)

        def run():
            self.log.append(name)
            self.now += (remaining.pop(0) if len(remaining) > 1 else remaining[0]) / 1024

        return run


def timed(machine, run, **settings):
    return time_calls(run, settings=TimingSettings(**settings), clock=machine.clock)


def test_a_steady_call_takes_what_it_takes():
    machine = Machine()
    timing = timed(machine, machine.call("a", 2), min_samples=3, max_samples=7)
    assert timing == Timing(median_ms=2000 / 1024, iqr_ms=0.0, num_samples=7)


def test_time_ends_the_sampling_once_there_are_enough():
    machine = Machine()
    assert timed(machine, machine.call("a", 512), min_samples=3, max_seconds=4).num_samples == 8
    assert timed(machine, machine.call("a", 4096), min_samples=3, max_seconds=4).num_samples == 3


def test_calls_are_repeated_untimed_until_they_no_longer_get_faster():
    machine = Machine()
    slow_start = [100] * 5 + [50] * 5 + [10] * 5
    timing = timed(machine, machine.call("a", *slow_start, 10), min_samples=2, max_samples=2)
    assert timing == Timing(median_ms=10_000 / 1024, iqr_ms=0.0, num_samples=2)
    assert len(machine.log) == 20 + 2


def test_warming_up_ends_even_if_calls_get_faster_for_ever():
    machine = Machine()
    durations = [1024 * 0.95**i for i in range(1000)]
    timed(machine, machine.call("a", *durations), min_samples=2, max_samples=2)
    assert len(machine.log) == 20 * 5 + 2


def test_waiting_for_the_device_is_timed():
    machine = Machine()
    timing = time_calls(
        machine.call("launch", 1),
        settings=TimingSettings(min_samples=2, max_samples=2),
        synchronize=machine.call("wait", 8),
        clock=machine.clock,
    )
    assert timing.median_ms == 9000 / 1024
    assert machine.log[:4] == ["launch", "wait"] * 2


def test_several_calls_are_timed_in_turn():
    machine = Machine()
    runs = {"a": machine.call("a", 1), "b": machine.call("b", 3)}
    timings = time_alternating(
        runs, settings=TimingSettings(min_samples=4, max_samples=4), clock=machine.clock
    )
    assert {name: timing.median_ms for name, timing in timings.items()} == {
        "a": 1000 / 1024,
        "b": 3000 / 1024,
    }
    assert machine.log[-8:] == ["a", "b"] * 4


@given(samples=st.lists(st.floats(1e-6, 10), min_size=2, max_size=50))
def test_median_and_range_are_those_of_the_samples(samples):
    timing = Timing.of(samples)
    assert timing.median_ms == pytest.approx(1e3 * statistics.median(samples))
    assert 0 <= timing.iqr_ms <= 1e3 * (max(samples) - min(samples)) * (1 + 1e-9)


@pytest.mark.parametrize(("least", "most"), [(1, 5), (6, 5)])
def test_too_few_samples_are_refused(least, most):
    with pytest.raises(ValueError, match=rf"min_samples must be .* got {least} and {most};"):
        TimingSettings(min_samples=least, max_samples=most)
