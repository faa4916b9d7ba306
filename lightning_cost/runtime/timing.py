"""How long a call takes: warmed up, many times, by the median; the clock is an argument."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Clock = Callable[[], float]

_WINDOW = 5
_MAX_WINDOWS = 20
_STABLE_RATIO = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """The time of one call.

    Args:
        median_ms: Median over the samples.
        iqr_ms: Interquartile range of the samples.
        num_samples: Calls that were timed.
    """

    median_ms: float
    iqr_ms: float
    num_samples: int

    @classmethod
    def of(cls, samples_s: list[float]) -> "Timing":
        """Median and interquartile range of ``samples_s``, in seconds.

        >>> Timing.of([0.001, 0.002, 0.003])
        Timing(median_ms=2.0, iqr_ms=1.0, num_samples=3)
        """
        first, median, third = statistics.quantiles(samples_s, n=4, method="inclusive")
        return cls(median_ms=median * 1e3, iqr_ms=(third - first) * 1e3, num_samples=len(samples_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class TimingSettings:
    """How much to time.

    Args:
        min_samples: Calls to time at least, however long they take.
        max_samples: Calls to time at most.
        max_seconds: Time after which no more than ``min_samples`` are taken.
    """

    min_samples: int = 50
    max_samples: int = 1000
    max_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 2 <= self.min_samples <= self.max_samples:
            raise ValueError(
                "min_samples must be at least 2 and at most max_samples, got "
                f"{self.min_samples} and {self.max_samples}; a spread needs two samples"
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
    runs: Mapping[str, Callable[[], object]],
    *,
    settings: TimingSettings | None = None,
    synchronize: Callable[[], None] | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time several calls in turn, one each, so that a slower moment of the machine hits them all.

    Use it for ratios. Limits in ``settings`` are for each of ``runs``.
    """
    settings = settings or TimingSettings()

    def sample(run: Callable[[], object]) -> float:
        start = clock()
        run()
        if synchronize is not None:
            synchronize()
        return clock() - start

    for run in runs.values():
        _warm_up(lambda run=run: sample(run))  # type: ignore[misc]
    samples: dict[str, list[float]] = {name: [] for name in runs}
    seconds, num_rounds = 0.0, 0
    while num_rounds < settings.min_samples or (
        num_rounds < settings.max_samples and seconds < settings.max_seconds * len(runs)
    ):
        for name, run in runs.items():
            samples[name].append(sample(run))
            seconds += samples[name][-1]
        num_rounds += 1
    return {name: Timing.of(values) for name, values in samples.items()}


def _warm_up(sample: Callable[[], float]) -> None:
    """Call until a window of calls is no longer clearly faster than the one before it."""
    before = float("inf")
    for _ in range(_MAX_WINDOWS):
        now = statistics.median(sample() for _ in range(_WINDOW))
        if now >= _STABLE_RATIO * before:
            return
        before = now
