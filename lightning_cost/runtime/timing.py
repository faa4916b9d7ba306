"""How long a call takes: warmed up, until the median is known well enough; the clock is given."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from lightning_cost.runtime.median import batch_medians, median_interval

Clock = Callable[[], float]

_Name = TypeVar("_Name")

_WINDOW = 5
_LARGEST_WINDOW = 100
_WINDOW_SECONDS = 0.005
_MAX_WINDOWS = 20
_STABLE_RATIO = 0.95
_BLOCK_SECONDS = 0.01
_LARGEST_BLOCK = 1000
_LOOK_GROWTH = 1.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """The time of one call.

    Args:
        median_ms: Median over the samples.
        iqr_ms: Interquartile range of the samples.
        p95_ms: Time that 95 % of the samples kept within.
        interval_ms: Where the median lies at 95 % confidence, as far as the time of measuring
            tells; ``None`` if there are too few samples.
        num_samples: Calls that were timed.
        stopped_by: What ended the measuring: ``"precision"``, the interval was narrow enough;
            ``"time"`` or ``"samples"``, the most that was allowed.
    """

    median_ms: float
    iqr_ms: float
    p95_ms: float
    interval_ms: tuple[float, float] | None
    num_samples: int
    stopped_by: str = "samples"

    @classmethod
    def of(cls, samples_s: list[float], *, stopped_by: str = "samples") -> "Timing":
        """What ``samples_s``, at least two, in seconds and in the order of time, tell.

        >>> timing = Timing.of([0.001, 0.002, 0.003])
        >>> timing.median_ms, timing.iqr_ms, timing.interval_ms
        (2.0, 1.0, None)
        """
        samples = [1e3 * sample for sample in samples_s]
        first, median, third = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(
            median_ms=median,
            iqr_ms=third - first,
            p95_ms=sorted(samples)[math.ceil(0.95 * len(samples)) - 1],
            interval_ms=_interval(samples, median),
            num_samples=len(samples),
            stopped_by=stopped_by,
        )


def _interval(samples: list[float], median: float) -> tuple[float, float] | None:
    found = median_interval(batch_medians(samples))
    if found is None:
        return None
    # the median of the samples is the figure given, so the interval holds it in any case
    return min(found[0], median), max(found[1], median)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimingSettings:
    """How much to time.

    Args:
        max_interval_ratio: Width of the median's 95 % interval, as a share of the median, at
            which it is known well enough.
        min_samples: Calls to time at least, however long they take.
        max_samples: Calls to time at most.
        min_seconds: Time to measure at least, where ``max_samples`` and ``max_seconds`` allow it:
            moments later the machine may be slower.
        max_seconds: Time after which no more than ``min_samples`` are taken.

    Raises:
        ValueError: If the samples allow no spread, or the share is not positive.
    """

    max_interval_ratio: float = 0.02
    min_samples: int = 50
    max_samples: int = 100_000
    min_seconds: float = 0.2
    max_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 2 <= self.min_samples <= self.max_samples:
            raise ValueError(
                "min_samples must be at least 2 and at most max_samples, got "
                f"{self.min_samples} and {self.max_samples}; a spread needs two samples"
            )
        if not self.max_interval_ratio > 0:
            raise ValueError(
                f"max_interval_ratio must be > 0, got {self.max_interval_ratio}; "
                "0.02 asks for an interval of 2 % of the median"
            )


def time_calls(
    run: Callable[[], object],
    *,
    settings: TimingSettings | None = None,
    synchronize: Callable[[], None] | None = None,
    clock: Clock = time.perf_counter,
) -> Timing:
    """Time ``run``, after calls that warm it up until they no longer get faster.

    >>> import itertools
    >>> ticks = itertools.count()
    >>> time_calls(lambda: None, clock=lambda: next(ticks) / 1024).median_ms
    0.9765625
    """
    return time_alternating({"": run}, settings=settings, synchronize=synchronize, clock=clock)[""]


def time_alternating(
    runs: Mapping[_Name, Callable[[], object]],
    *,
    settings: TimingSettings | None = None,
    synchronize: Callable[[], None] | None = None,
    clock: Clock = time.perf_counter,
) -> dict[_Name, Timing]:
    """Time several calls in turn, so that a slower moment of the machine hits them all.

    Use it for ratios. They take turns in blocks of about 10 ms, each begun by a call that is not
    timed: changed after every single call, each would find its data driven out of the cache.
    Limits in ``settings`` are for each of ``runs``; measuring ends when all are precise enough.
    """
    settings = settings or TimingSettings()

    def sample(run: Callable[[], object]) -> float:
        start = clock()
        run()
        if synchronize is not None:
            synchronize()
        return clock() - start

    def sampler(run: Callable[[], object]) -> Callable[[], float]:
        return lambda: sample(run)

    samplers = {name: sampler(run) for name, run in runs.items()}
    sizes = {
        name: _block_size(_warm_up(call, settings.max_seconds)) for name, call in samplers.items()
    }
    samples: dict[_Name, list[float]] = {name: [] for name in runs}
    next_look, seconds = float(settings.min_samples), 0.0
    while True:
        short = [name for name, taken in samples.items() if len(taken) < settings.max_samples]
        fewest = min(map(len, samples.values()), default=0)
        is_over = seconds >= settings.max_seconds * len(runs)
        if not short or (is_over and fewest >= settings.min_samples):
            break
        if fewest >= next_look and seconds >= settings.min_seconds * len(runs):
            # looked at ever less often: each look is a chance to stop by luck
            next_look = _LOOK_GROWTH * fewest
            if all(_is_precise(Timing.of(taken), settings) for taken in samples.values()):
                break
        for name in short:
            if len(runs) > 1:
                samplers[name]()
            num_calls = min(sizes[name], settings.max_samples - len(samples[name]))
            block = [samplers[name]() for _ in range(num_calls)]
            samples[name] += block
            seconds += sum(block)
    return {name: _judged(Timing.of(taken), settings) for name, taken in samples.items()}


def _judged(timing: Timing, settings: TimingSettings) -> Timing:
    is_full = timing.num_samples >= settings.max_samples
    reason = "samples" if is_full else "time"
    return replace(timing, stopped_by="precision" if _is_precise(timing, settings) else reason)


def _is_precise(timing: Timing, settings: TimingSettings) -> bool:
    if timing.interval_ms is None:
        return False
    low, high = timing.interval_ms
    return high - low <= settings.max_interval_ratio * timing.median_ms


def _block_size(call_s: float) -> int:
    """Calls in a row before it is another one's turn."""
    return max(1, min(_LARGEST_BLOCK, int(_BLOCK_SECONDS / call_s))) if call_s > 0 else 1


def _warm_up(sample: Callable[[], float], max_seconds: float) -> float:
    """Call until a window of calls is no longer clearly faster than the one before it.

    Returns:
        Seconds of a call in the last window.
    """
    before, seconds = float("inf"), 0.0
    for _ in range(_MAX_WINDOWS):
        window = [sample() for _ in range(_WINDOW)]
        while sum(window) < _WINDOW_SECONDS and len(window) < _LARGEST_WINDOW:
            window.append(sample())
        now = statistics.median(window)
        seconds += sum(window)
        if now >= _STABLE_RATIO * before or seconds >= max_seconds:
            return now
        before = now
    return before
