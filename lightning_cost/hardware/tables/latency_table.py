"""What layers take on one device and runtime, measured inside networks of many widths."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_cost.cost.documents import UnreadableError, read_json
from lightning_cost.hardware.tables.latency_fit import Observations
from lightning_cost.runtime.standalone import write_json
from lightning_cost.runtime.width_layer import WidthLayer

FORMAT = "lightning-cost latency table"
VERSION = 1
UNITS = {"latency": "ms", "spread": "ms", "layers": "ms", "outs": "channels", "ins": "channels"}

_IDENTITY = ("cpu", "machine", "runtime_version")


@dataclass(frozen=True, kw_only=True, slots=True)
class WidthSample:
    """One network of a family, measured.

    Args:
        outs: Output channels of each layer.
        ins: Input channels of each layer.
        latency: Median time of a pass, ms.
        spread: Its interquartile range, ms.
        layers: What each layer took, ms, with the clock's own time in it.
        operators: How many operators of the runtime each layer was.
    """

    outs: tuple[int, ...]
    ins: tuple[int, ...]
    latency: float
    spread: float
    layers: tuple[float, ...]
    operators: tuple[int, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "WidthSample":
        """A sample from plain data, in which tuples are lists."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**values)

    def is_plausible(self, num_layers: int) -> bool:
        """Whether it has a value for each layer, and none that no measurement can have."""
        by_layer = (self.outs, self.ins, self.layers, self.operators)
        return (
            all(isinstance(row, tuple) and len(row) == num_layers for row in by_layer)
            and _are_numbers([self.latency, *self.outs, *self.ins], above=0)
            and _are_numbers([self.spread, *self.layers, *self.operators], above=-1e-9)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfiledNetwork:
    """The measured networks of one architecture.

    Args:
        name: What the architecture is called.
        layers: Its layers, in the order of execution.
        samples: What was measured.
        reference_ms: Time of the network that the others were measured in turn with.
    """

    name: str
    layers: tuple[WidthLayer, ...]
    reference_ms: float
    samples: tuple[WidthSample, ...] = ()

    def observations(self) -> Observations:
        """The samples as arrays."""

        def stacked(field: str) -> Any:
            rows = [getattr(sample, field) for sample in self.samples]
            return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.layers))

        return Observations(
            layers=self.layers,
            outs=stacked("outs"),
            ins=stacked("ins"),
            layer_ms=stacked("layers"),
            num_operators=stacked("operators"),
            latency_ms=np.array([sample.latency for sample in self.samples]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyTable:
    """Per-layer latencies of one device and one setting of one runtime.

    Args:
        device: The device's fingerprint.
        runtime: What ran the networks.
        num_threads: Threads for one forward pass.
        precision: Floating-point type of the arithmetic.
        batch_size: Samples in one forward pass.
        networks: What was measured, by architecture.
        created: Date of the first measurement.
    """

    device: Mapping[str, Any]
    runtime: str
    num_threads: int
    precision: str
    batch_size: int
    networks: tuple[ProfiledNetwork, ...] = ()
    created: str = ""

    @property
    def signatures(self) -> frozenset[str]:
        """The layers, up to their channels, that were measured."""
        return frozenset(
            layer.signature
            for network in self.networks
            if network.samples
            for layer in network.layers
        )

    def network(self, name: str) -> ProfiledNetwork | None:
        """The samples of one architecture."""
        return next((network for network in self.networks if network.name == name), None)

    def with_network(self, network: ProfiledNetwork) -> "LatencyTable":
        """The table with the samples of one architecture added or replaced."""
        others = [other for other in self.networks if other.name != network.name]
        return replace(self, networks=(*others, network))

    def require_layers(self, layers: Sequence[WidthLayer]) -> None:
        """Refuse layers that were not measured.

        Raises:
            ValueError: If a signature is not in the table; names each with one of its layers.
        """
        missing = {
            layer.signature: layer.name
            for layer in layers
            if layer.signature not in self.signatures
        }
        if missing:
            named = "; ".join(f"{name} ({signature})" for signature, name in missing.items())
            raise ValueError(
                f"the latency table must hold every layer of the network, got none of: {named}; "
                "add them: lightning-cost profile with the same table and this network"
            )

    def require_setting(self, setting: "LatencyTable") -> None:
        """Refuse a table of another device, runtime or setting than the empty table ``setting``.

        Raises:
            ValueError: Names what differs.
        """
        own, wanted = self._setting(), setting._setting()
        different = [
            f"{key} {own[key]!r} where {wanted[key]!r} is wanted"
            for key in own
            if own[key] != wanted[key]
        ]
        if different:
            raise ValueError(
                "the latency table must be of this device, runtime and setting, got "
                f"{', '.join(different)}; profile this one into a table of its own"
            )

    def _setting(self) -> dict[str, Any]:
        return {
            **{key: self.device.get(key) for key in _IDENTITY},
            "runtime": self.runtime,
            "num_threads": self.num_threads,
            "precision": self.precision,
            "batch_size": self.batch_size,
        }

    def save(self, path: str | Path) -> Path:
        """Write the table as JSON, whole or not at all; with a checksum of its content."""
        content = {"format": FORMAT, "version": VERSION, "units": UNITS, **asdict(self)}
        content = json.loads(json.dumps(content))
        write_json(path, {**content, "sha256": _checksum(content)})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "LatencyTable":
        """Read a table.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a whole, unedited table of this version with positive values.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"table must be a file that lightning-cost profile wrote, got {str(path)!r}, "
                "which is none; profile this device first"
            )
        try:
            content = read_json(path)
        except UnreadableError as error:
            raise _unreadable(path, str(error)) from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise _unreadable(path, "a file of another kind")
        if content.get("version") != VERSION:
            raise _unreadable(path, f"version {content.get('version')!r}, not {VERSION}")
        if content.get("units") != UNITS:
            raise _unreadable(path, f"units {content.get('units')!r}, not {UNITS}")
        if content.pop("sha256", None) != _checksum(content):
            raise _unreadable(path, "content that differs from its checksum: edited or damaged")
        try:
            table = cls._from_content(content)
        except (AttributeError, KeyError, TypeError) as error:
            raise _unreadable(
                path, f"entries that are missing or of another kind: {error}"
            ) from None
        wrong = table.wrong_values()
        if wrong is not None:
            raise _unreadable(path, wrong)
        return table

    @classmethod
    def _from_content(cls, content: Mapping[str, Any]) -> "LatencyTable":
        networks = tuple(
            ProfiledNetwork(
                name=network["name"],
                reference_ms=network["reference_ms"],
                layers=tuple(WidthLayer(**layer) for layer in network["layers"]),
                samples=tuple(WidthSample.from_dict(sample) for sample in network["samples"]),
            )
            for network in content["networks"]
        )
        others = ("device", "runtime", "num_threads", "precision", "batch_size", "created")
        return cls(networks=networks, **{key: content[key] for key in others})

    def wrong_values(self) -> str | None:
        """Names the first value that no measurement can have, or a sample that lacks some."""
        for name in ("num_threads", "batch_size"):
            count = getattr(self, name)
            if type(count) is not int or count < 1:
                return f"{name} {count!r}, not a whole number > 0"
        for name in ("runtime", "precision", "created"):
            if not isinstance(getattr(self, name), str):
                return f"{name} {getattr(self, name)!r}, which is no text"
        device: Any = self.device
        if not isinstance(device, Mapping):
            return f"device {device!r}, which is no fingerprint"
        for network in self.networks:
            if not _are_numbers([network.reference_ms], above=0):
                return f"reference_ms {network.reference_ms!r} of {network.name!r}, not > 0"
            for index, sample in enumerate(network.samples):
                if not sample.is_plausible(len(network.layers)):
                    return f"sample {index} of {network.name!r} with missing or negative values"
        return None


def _are_numbers(values: Sequence[Any], *, above: float) -> bool:
    return all(
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > above
        for value in values
    )


def _unreadable(path: Path, found: str) -> ValueError:
    return ValueError(
        f"{str(path)!r} must be a whole latency table as lightning-cost profile wrote it, "
        f"got {found}; profile the device again"
    )


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
