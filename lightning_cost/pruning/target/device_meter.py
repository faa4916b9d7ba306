"""What a device measures of pruned networks, one reading at a time."""

from dataclasses import replace

import torch
from torch import nn

from lightning_cost.cost.forward import Example, with_batch_size
from lightning_cost.cost.measurement import Cost, Measurement
from lightning_cost.hardware.device import AUTO, Hardware
from lightning_cost.hardware.local import candidate_runtimes, measure_fastest
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.runtime.contract import DEPLOYABLE
from lightning_cost.runtime.latency import InTurn
from lightning_cost.runtime.timing import TimingSettings

SETTINGS = TimingSettings(min_seconds=0.2, max_seconds=0.5)
_DENSE = "dense"


class DeviceMeter:
    """Measures pruned networks on a device; on this machine in turn with the dense one.

    A machine's speed drifts by several percent within minutes, which hits the dense network alike.
    So each reading loads both anew, times them in turn, and is their ratio times the latency of
    the dense network that percentages are of. What a described device takes is estimated instead.
    A context manager; it owns the files that are run.

    Args:
        dense: The dense network; left as it is.
        example: What one forward pass takes.
        hardware: The device.
        dense_latency: The dense network's, as it was measured; ``None`` to measure it now.
    """

    def __init__(
        self,
        dense: nn.Module,
        example: Example,
        hardware: Hardware,
        dense_latency: Measurement | None = None,
    ) -> None:
        self._hardware = hardware
        self._example = with_batch_size(example, hardware.batch_size)
        self._turns = InTurn(
            self._example,
            num_threads=hardware.num_threads,
            precision=hardware.precision,
            settings=SETTINGS,
        )
        if not hardware.is_local:
            return
        deployed = _deployed(dense, example)
        self._turns.add(_DENSE, deployed)
        self._dense_latency = dense_latency or measure_fastest(
            deployed,
            self._example,
            runtime=None if hardware.runtime == AUTO else hardware.runtime,
            num_threads=hardware.num_threads,
            precision=hardware.precision,
        )

    def __enter__(self) -> "DeviceMeter":
        return self

    def __exit__(self, *details: object) -> None:
        self._turns.__exit__(*details)

    @property
    def is_noisy(self) -> bool:
        """Whether two readings of one network differ."""
        return self._hardware.is_local

    def read(self, name: str, network: nn.Module) -> Cost:
        """Latency, energy and price of ``network``, read once.

        Args:
            name: Tells the structure of the network; each is exported once.
            network: Pruned, and brought to the structure that will be deployed; left as it is.

        Raises:
            ValueError: If the runtime cannot run it.
        """
        deployed = _deployed(network, self._example)
        latency = self._latency(name, deployed) if self._hardware.is_local else None
        return self._hardware.price(deployed, self._example, latency=latency)

    def _latency(self, name: str, deployed: nn.Module) -> Measurement:
        dense = (_DENSE, str(self._dense_latency.runtime))
        self._turns.add(name, deployed)
        found = self._turns.read([dense, *((name, runtime) for runtime in self._runtimes())])
        self._turns.forget(name)
        beside = found.pop(dense)
        running = [value for value in found.values() if isinstance(value, Measurement)]
        if not isinstance(beside, Measurement) or not running:
            reasons = [
                value for value in (beside, *found.values()) if isinstance(value, ValueError)
            ]
            raise ValueError(
                f"runtime must run the dense and the pruned network, got {self._hardware.runtime}: "
                f"{'; '.join(map(str, reasons))}; choose another runtime"
            )
        fastest = min(running, key=lambda latency: latency.value)
        scale = self._dense_latency.value / beside.value
        return replace(
            fastest,
            value=fastest.value * scale,
            spread=None if fastest.spread is None else fastest.spread * scale,
            interval=None,
            p95=None,
        )

    def _runtimes(self) -> list[str]:
        """Where a pruned network may run: on the runtime given, or on any that runs files."""
        if self._hardware.runtime not in (None, AUTO):
            return [str(self._hardware.runtime)]
        if self._dense_latency.runtime not in DEPLOYABLE:
            return [str(self._dense_latency.runtime)]
        return [name for name in candidate_runtimes(self._hardware.precision) if name in DEPLOYABLE]


def _deployed(network: nn.Module, example: Example) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return deployed_copy(network, example)
