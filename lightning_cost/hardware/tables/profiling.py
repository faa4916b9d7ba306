"""Measures a latency table on this device: the layers of a network, inside the network.

A layer alone is not what it is in a network: what is fused with it, the layout that its neighbours
want and what they leave in the caches decide its time. So whole networks of many widths run, and
the runtime's own clock divides each among its layers; a reference runs in turn with all of them,
which takes out the drift of the machine.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_cost.hardware.tables.latency_table import LatencyTable, ProfiledNetwork, WidthSample
from lightning_cost.hardware.tables.width_design import width_design
from lightning_cost.hardware.tables.width_family import (
    WidthFamily,
    Widths,
    batch_size_of_inputs,
    model_of,
    reference_widths,
)
from lightning_cost.runtime.operator_owners import OperatorOwners
from lightning_cost.runtime.standalone import RUNTIMES, TimedModel, compare, fingerprint

Progress = Callable[[int, int], None]
"""Called with how many of how many networks are measured."""

_LARGEST_SPREAD = 0.05
_NUM_TRIALS = 3


@dataclass(kw_only=True, slots=True)
class ProfileSettings:
    """How much to measure for a latency table.

    Args:
        num_networks: Networks of different widths; under 40 say little.
        seconds: Time for each; loading it comes on top.
        time_limit_s: After this long no further network is begun; ``None`` for no limit. The table
            keeps what was measured, and a later run goes on from there.
        seed: Of the random widths.
    """

    num_networks: int = 240
    seconds: float = 0.6
    time_limit_s: float | None = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_networks", "seconds", "time_limit_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0, got {value!r}; leave it at its default")


def require_operator_times(runtime: str) -> None:
    """Refuse a runtime that does not tell the time of single operators.

    Raises:
        ValueError: Names those that do.
    """
    if runtime not in RUNTIMES:
        raise ValueError(
            f"runtime must be one of {', '.join(RUNTIMES)}, which tell the time of each operator, "
            f"got {runtime!r}; measure whole networks on it with Hardware.local instead"
        )


def empty_table(
    family: WidthFamily, *, runtime: str, num_threads: int = 1, precision: str = "float32"
) -> LatencyTable:
    """A table for this device and setting, without measurements.

    Raises:
        ValueError: If the runtime does not tell the time of single operators.
    """
    require_operator_times(runtime)
    return LatencyTable(
        device=fingerprint(runtime),
        runtime=runtime,
        num_threads=num_threads,
        precision=precision,
        batch_size=batch_size_of_inputs(family),
        created=time.strftime("%Y-%m-%d"),
    )


def profile(
    family: WidthFamily,
    table: LatencyTable,
    *,
    settings: ProfileSettings | None = None,
    path: Path | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> LatencyTable:
    """Measure networks of ``family`` on this device and add them to ``table``.

    What the table already holds of the family is kept and continued.

    Args:
        family: The architecture.
        table: Of this device and setting; an empty one to begin with.
        settings: How much to measure.
        path: Where the table is saved after each network, so that an interruption loses one.
        progress: Told after each network.
        clock: Seconds that never go back.

    Raises:
        ValueError: If the table is of another device or setting, or holds another architecture
            under the family's name.
    """
    settings = settings or ProfileSettings()
    wanted = empty_table(
        family,
        runtime=table.runtime,
        num_threads=table.num_threads,
        precision=table.precision,
    )
    table.require_setting(wanted)
    timer = FamilyTimer(family, table)
    network = _begun(family, table, timer)
    widths = width_design(
        family.totals, settings.num_networks, np.random.default_rng(settings.seed)
    )
    limit = settings.time_limit_s
    end = None if limit is None else clock() + limit
    for index in range(len(network.samples), len(widths)):
        if end is not None and clock() > end:
            break
        sample = timer.sample(widths[index], network.reference_ms, settings.seconds)
        network = replace(network, samples=(*network.samples, sample))
        table = table.with_network(network)
        if path is not None:
            table.save(path)
        if progress is not None:
            progress(index + 1, len(widths))
    return table


class FamilyTimer:
    """Times networks of a family in turn with one of them.

    Args:
        family: The architecture.
        table: Says on what, and how.
    """

    def __init__(self, family: WidthFamily, table: LatencyTable) -> None:
        self._family = family
        self._options: Mapping[str, Any] = {
            "runtime": table.runtime,
            "num_threads": table.num_threads,
            "precision": table.precision,
        }
        self._reference = self._opened(model_of(family, reference_widths(family)))

    def reference_ms(self, seconds: float = 1.0) -> float:
        """The time of the reference now."""
        return self._reference.time_ms(seconds)

    def sample(self, widths: Widths, reference_ms: float, seconds: float) -> WidthSample:
        """Measure the network of ``widths`` [num_groups], and its layers."""
        found = self.compare(model_of(self._family, widths), seconds)
        outs, ins = self._family.channels_at(widths[None])
        return sample_of(
            found,
            self._family.graph.owners,
            reference_ms=reference_ms,
            outs=outs[0].astype(int).tolist(),
            ins=ins[0].astype(int).tolist(),
        )

    def compare(self, model: bytes, seconds: float) -> dict[str, Any]:
        """See :func:`runtime.standalone.compare`; again where a disturbance spoiled it."""
        trials = []
        for _ in range(_NUM_TRIALS):
            found = compare(
                self._opened(model), self._opened(model, True), self._reference, seconds=seconds
            )
            trials.append(found)
            if found["ratio_spread"] <= _LARGEST_SPREAD * found["ratio"]:
                break
        return min(trials, key=lambda trial: float(trial["ratio_spread"] / trial["ratio"]))

    def _opened(self, model: bytes, is_profiled: bool = False) -> TimedModel:
        inputs = dict(self._family.inputs)
        return TimedModel(model, inputs, is_profiled=is_profiled, **self._options)


def sample_of(
    found: Mapping[str, Any],
    owners: OperatorOwners,
    *,
    reference_ms: float,
    outs: list[int],
    ins: list[int],
) -> WidthSample:
    """A sample of what :func:`runtime.standalone.compare` found, in ms of the reference's time."""
    layers, operators = owners.divide(found["operators"])
    return WidthSample(
        outs=tuple(outs),
        ins=tuple(ins),
        latency=found["ratio"] * reference_ms,
        spread=found["ratio_spread"] * reference_ms,
        layers=tuple((layers * reference_ms).tolist()),
        operators=tuple(operators.tolist()),
    )


def _begun(family: WidthFamily, table: LatencyTable, timer: FamilyTimer) -> ProfiledNetwork:
    found = table.network(family.name)
    if found is None:
        return ProfiledNetwork(
            name=family.name, layers=family.graph.layers, reference_ms=timer.reference_ms()
        )
    outs, ins = family.channels_at(family.totals[None])
    dense = (tuple(outs[0]), tuple(ins[0]))
    is_same = not found.samples or (found.samples[0].outs, found.samples[0].ins) == dense
    if found.layers != family.graph.layers or not is_same:
        raise ValueError(
            f"name must tell architectures apart, got {family.name!r} for another network than the "
            "one of that name in the table; give it another name"
        )
    return found
