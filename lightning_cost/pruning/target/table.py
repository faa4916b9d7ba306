"""The latency table of the target, and the steps in which its networks get slower."""

import warnings
from pathlib import Path

import numpy as np

from lightning_cost.hardware.device import AUTO, Hardware
from lightning_cost.hardware.tables.latency_table import LatencyTable
from lightning_cost.hardware.tables.staircase import alignment
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.runtime.standalone import fingerprint


def read_table(hardware: Hardware | None) -> LatencyTable | None:
    """The latency table that ``hardware`` names, ``None`` if it names none.

    A table of another machine or version of the runtime is used with a warning: it only proposes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or of another runtime, batch, precision or number of threads.
    """
    if hardware is None or hardware.latency_table is None:
        return None
    table = LatencyTable.load(Path(hardware.latency_table))
    here = LatencyTable(
        device=table.device,
        runtime=table.runtime if hardware.runtime in (None, AUTO) else str(hardware.runtime),
        num_threads=hardware.num_threads,
        precision=hardware.precision,
        batch_size=hardware.batch_size,
    )
    table.require_setting(here)
    device = fingerprint(table.runtime)
    different = [
        f"{name} {table.device.get(name)!r} instead of {device.get(name)!r}"
        for name in ("cpu", "machine", "runtime_version")
        if table.device.get(name) != device.get(name)
    ]
    if different:
        warnings.warn(
            f"latency_table {hardware.latency_table!r} has {', '.join(different)}; it proposes "
            "widths nevertheless, and more of them will have to be measured",
            stacklevel=2,
        )
    return table


def steps_of(table: LatencyTable, grouping: Grouping) -> int:
    """What kept channels should be a multiple of on the device of ``table``.

    The steps that it spends most of the time on, unless these leave half of the groups with no
    choice but all of their channels.
    """
    usual = int(np.median(list(grouping.num_channels.values())))
    return max(1, min(alignment(table), usual // 2))
