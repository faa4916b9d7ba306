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
    timing = timed(machine, machine.call("a", 2), min_samples=8, max_samples=8)
    assert timing == Timing(
        median_ms=2000 / 1024,
        iqr_ms=0.0,
        p95_ms=2000 / 1024,
        interval_ms=(2000 / 1024, 2000 / 1024),
        num_samples=8,
        stopped_by="precision",
    )


def test_precision_ends_the_sampling_once_there_is_enough_of_it():
    machine = Machine()
    timing = timed(machine, machine.call("a", 16), min_samples=10, min_seconds=1, max_seconds=9)
    assert timing.stopped_by == "precision"
    assert timing.num_samples == 64  # a second, at 1/64 s each


def test_time_ends_the_sampling_of_what_never_settles():
    machine = Machine()
    run = machine.call("a", *[value for index in range(999) for value in (32 + index, 16)])
    timing = timed(machine, run, min_samples=10, max_seconds=4)
    assert timing.stopped_by == "time"
    assert timing.num_samples >= 10
    low, high = timing.interval_ms
    assert high - low > 0.02 * timing.median_ms


def test_samples_end_the_sampling_where_they_are_limited():
    machine = Machine()
    timing = timed(machine, machine.call("a", *range(1, 100)), min_samples=10, max_samples=20)
    assert (timing.stopped_by, timing.num_samples) == ("samples", 20)


def test_slow_calls_are_taken_as_often_as_is_asked_for_at_least():
    machine = Machine()
    timing = timed(machine, machine.call("a", 4096), min_samples=3, max_seconds=4)
    assert (timing.stopped_by, timing.num_samples) == ("time", 3)
    assert timing.interval_ms is None


def test_calls_are_repeated_untimed_until_they_no_longer_get_faster():
    machine = Machine()
    slow_start = [100] * 5 + [50] * 5 + [10] * 5
    timing = timed(machine, machine.call("a", *slow_start, 10), min_samples=2, max_samples=2)
    assert (timing.median_ms, timing.num_samples) == (10_000 / 1024, 2)
    assert len(machine.log) == 20 + 2


def test_warming_up_ends_even_if_calls_get_faster_for_ever():
    machine = Machine()
    durations = [8 * 0.9**i for i in range(20 * 100)]
    timed(machine, machine.call("a", *durations), min_samples=2, max_samples=2)
    assert 20 * 5 <= len(machine.log) <= 20 * 100 + 2


def test_warming_up_of_slow_calls_ends_by_time():
    machine = Machine()
    durations = [4096 * 0.9**i for i in range(100)]
    run = machine.call("a", *durations)
    timed(machine, run, min_samples=2, max_samples=2, max_seconds=3)
    assert len(machine.log) == 5 + 2


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


def test_several_calls_are_timed_in_turn_in_blocks_that_begin_untimed():
    machine = Machine()
    runs = {"a": machine.call("a", 1), "b": machine.call("b", 3)}
    timings = time_alternating(
        runs, settings=TimingSettings(min_samples=20, max_samples=20), clock=machine.clock
    )
    assert {name: timing.median_ms for name, timing in timings.items()} == {
        "a": 1000 / 1024,
        "b": 3000 / 1024,
    }
    # blocks of 10 ms: ten calls of a, three of b, and one before each
    assert "b" + "a" * 11 + "b" * 4 + "a" * 11 in "".join(machine.log)


def test_a_slower_moment_hits_all_that_are_timed_in_turn():
    machine = Machine()

    def during_the_slow_half(fast):
        def run():
            machine.now += fast * (3 if machine.now > 2 else 1) / 1024

        return run

    runs = {"a": during_the_slow_half(4), "b": during_the_slow_half(8)}
    settings = TimingSettings(min_samples=400, max_samples=400)
    together = time_alternating(runs, settings=settings, clock=machine.clock)
    assert together["b"].median_ms == pytest.approx(2 * together["a"].median_ms)


def test_one_call_more_often_than_another_and_nothing_at_all():
    machine = Machine()
    runs = {"fast": machine.call("a", 1), "slow": machine.call("b", 512)}
    timings = time_alternating(
        runs, settings=TimingSettings(min_samples=4, max_seconds=3), clock=machine.clock
    )
    assert timings["fast"].num_samples > timings["slow"].num_samples >= 4
    assert time_alternating({}) == {}


@pytest.mark.parametrize("share", [0.04, 0.2])
def test_outliers_move_neither_median_nor_interval(share):
    calls = [5000 if index % round(1 / share) == 1 else 10 for index in range(1000)]
    machine = Machine()
    run = machine.call("a", *[10] * 10, *calls)
    timing = timed(machine, run, min_samples=500, max_samples=500)
    assert timing.median_ms == 10_000 / 1024
    assert timing.interval_ms == (10_000 / 1024, 10_000 / 1024)
    assert (timing.p95_ms > timing.median_ms) == (share > 0.05)


def test_of_two_speeds_in_long_turns_the_interval_holds_both():
    turns = ([10] * 50 + [20] * 50) * 10
    machine = Machine()
    run = machine.call("a", *[10] * 10, *turns)
    timing = timed(machine, run, min_samples=200, max_samples=200)
    assert timing.interval_ms == (10_000 / 1024, 20_000 / 1024)
    assert timing.stopped_by == "samples"


@given(samples=st.lists(st.floats(1e-6, 10), min_size=2, max_size=50))
def test_median_and_range_are_those_of_the_samples(samples):
    timing = Timing.of(samples)
    assert timing.median_ms == pytest.approx(1e3 * statistics.median(samples))
    assert 0 <= timing.iqr_ms <= 1e3 * (max(samples) - min(samples)) * (1 + 1e-9)
    assert timing.median_ms <= timing.p95_ms * (1 + 1e-9)
    assert sum(1e3 * s <= timing.p95_ms for s in samples) >= 0.95 * len(samples)
    if timing.interval_ms is not None:
        assert timing.interval_ms[0] <= timing.median_ms <= timing.interval_ms[1]


@pytest.mark.parametrize(("least", "most"), [(1, 5), (6, 5)])
def test_too_few_samples_are_refused(least, most):
    with pytest.raises(ValueError, match=rf"min_samples must be .* got {least} and {most};"):
        TimingSettings(min_samples=least, max_samples=most)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"max_interval_ratio must be > 0, got 0; 0.02 asks for"):
        TimingSettings(max_interval_ratio=0)
