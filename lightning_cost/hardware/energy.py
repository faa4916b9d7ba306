"""Energy of a network from the accesses that a systolic array with two buffers makes for it.

Energy is what is computed plus what is fetched: accesses to DRAM, buffer and register file, each
times its own energy (Chen, Emer and Sze, Eyeriss, ISCA 2016), in the closed form of Yang, Zhu and
Liu (Energy-constrained compression, ICLR 2019).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_cost.hardware.catalogue import conf_dir, read_description
from lightning_cost.hardware.layers import Layer, Number

_BITS = 16
"""The word length that the coefficients are given for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyModel:
    """Coefficients of the closed form; energies are relative, of 16-bit words.

    Args:
        name: What it is called in measurements.
        mac: A multiply-accumulate.
        register_file: An access to a register file.
        buffer: An access to an on-chip buffer.
        dram: An access to DRAM.
        joules_per_unit: What a relative energy of 1 is in joules.
        array_rows: Rows of processing elements; they share a weight.
        array_columns: Columns of processing elements; they share an input.
        input_buffer_bytes: Size of the buffer for activations.
        weight_buffer_bytes: Size of the buffer for weights.
        add_ratio: The addition's share of a multiply-accumulate.
        shift_ratio: A shift, as a share of a multiply-accumulate.
        is_shift_add: Whether the hardware shifts and adds where weights allow it.
        source: Where the coefficients come from.
        date: When the source was published.

    Raises:
        ValueError: If a coefficient is not positive and finite, or a ratio above 1.
    """

    name: str
    mac: float
    register_file: float
    buffer: float
    dram: float
    joules_per_unit: float
    array_rows: int
    array_columns: int
    input_buffer_bytes: float
    weight_buffer_bytes: float
    add_ratio: float
    shift_ratio: float
    is_shift_add: bool = False
    source: str
    date: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("name", "source", "date", "is_shift_add"):
                continue
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not (math.isfinite(value) and value > 0):
                raise ValueError(
                    f"{field.name} of energy model {self.name!r} must be a number > 0, got "
                    f"{value!r}; see conf/energy/eyeriss.yaml"
                )
            if field.name.endswith("_ratio") and value > 1:
                raise ValueError(
                    f"{field.name} of energy model {self.name!r} must be at most 1, a share of a "
                    f"multiply-accumulate, got {value}; see conf/energy/eyeriss.yaml"
                )

    @classmethod
    def load(cls, name_or_path: str | Path, *, is_shift_add: bool | None = None) -> "EnergyModel":
        """A model that comes with the package, by name, or one of your own, by the file's path.

        Args:
            name_or_path: As in ``"eyeriss"`` or ``"mine.yaml"``.
            is_shift_add: Overrides the file's.

        >>> EnergyModel.load("eyeriss").dram
        200

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If there is none of that name, or an entry is unknown, missing or wrong.
        """
        values = dict(_read(name_or_path))
        if is_shift_add is not None:
            values["is_shift_add"] = is_shift_add
        known = {field.name for field in fields(cls)}
        given = set(values)
        wrong = sorted(given - known) or sorted(known - given - {"is_shift_add"})
        if wrong:
            raise ValueError(
                f"an energy model must have the entries of conf/energy/eyeriss.yaml, got "
                f"{str(name_or_path)!r} with {', '.join(wrong)} "
                f"{'unknown' if given - known else 'missing'}; check the spelling"
            )
        return cls(**values)

    def energy_mj(self, layers: Iterable[Layer]) -> float:
        """Millijoules for all layers."""
        return sum(float(self.layer_mj(layer)) for layer in layers)

    def layer_mj(self, layer: Layer) -> NDArray[np.float64]:
        """Millijoules for one layer; never less for a wider one.

        Args:
            layer: At one width, or at N (:meth:`Layer.with_channels`).

        Returns:
            Of shape [N], or [] for a single width.
        """
        units = self._inputs(layer) + self._weights(layer) + self._outputs(layer)
        units = units + layer.macs * self._mac(layer)
        return np.asarray(units * self.joules_per_unit * 1e3, dtype=np.float64)

    def _inputs(self, layer: Layer) -> Number:
        """Inputs go to DRAM once, to the buffer for each pass over the output channels.

        Of a single position that exceeds the buffer, the rest is fetched again for each pass.
        """
        bits = layer.activation_bits
        num_inputs = layer.input_bytes * 8 / bits
        if layer.kind == "other":
            return num_inputs * self.dram * bits / _BITS
        outputs = layer.out_channels / layer.groups
        passes = np.ceil(outputs / self.array_columns)
        stride = 1 if layer.kind == "conv_transposed" else math.prod(layer.stride)
        reuse = math.prod(layer.kernel) / stride
        num_fetches = num_inputs
        if layer.kind == "linear":
            room = self.input_buffer_bytes * 8 / bits
            positions = num_inputs / np.maximum(layer.in_channels, 1)
            excess = positions * np.maximum(layer.in_channels - room, 0)
            num_fetches = num_inputs + excess * (passes - 1)
        units = num_fetches * self.dram + num_inputs * reuse * (
            passes * self.buffer + outputs * self.register_file
        )
        return units * bits / _BITS

    def _weights(self, layer: Layer) -> Number:
        """Weights that fit into the buffer go to DRAM once, the rest for each pass over positions.

        Biases and scales are read once.
        """
        bits = layer.weight_bits
        num_weights = layer.weight_bytes * 8 / bits
        reads = layer.macs * self.register_file
        biases = layer.bias_bytes * 8 / _BITS * self.dram
        if layer.kind == "other":
            return (num_weights * self.dram + reads) * bits / _BITS + biases
        positions = np.round(layer.macs / np.maximum(num_weights, 1))
        passes = np.ceil(positions / self.array_rows)
        room = self.weight_buffer_bytes * 8 / bits
        excess = np.maximum(num_weights - room, 0)
        num_fetches = num_weights + excess * np.maximum(passes - 1, 0)
        fetched: Number = num_fetches * self.dram + num_weights * passes * self.buffer
        return (fetched + reads) * bits / _BITS + biases

    def _outputs(self, layer: Layer) -> Number:
        return layer.output_bytes * 8 / _BITS * self.dram

    def _mac(self, layer: Layer) -> float:
        """A multiply-accumulate, with the reading and writing of its partial sum."""
        bits = (layer.weight_bits + layer.activation_bits) / 2
        add = self.add_ratio * bits / _BITS
        product = layer.weight_bits * layer.activation_bits / _BITS**2
        arithmetic = (1 - self.add_ratio) * product + add
        if self.is_shift_add and layer.is_shift_add:
            shift = self.shift_ratio * layer.activation_bits / _BITS
            arithmetic = min(arithmetic, layer.num_shifts * (shift + add))
        return self.mac * arithmetic + 2 * self.register_file * bits / _BITS


def known_energy_models() -> list[str]:
    """The names that :meth:`EnergyModel.load` takes.

    >>> known_energy_models()
    ['eyeriss']
    """
    return sorted(path.stem for path in (conf_dir() / "energy").glob("*.yaml"))


def _read(name_or_path: str | Path) -> Mapping[str, Any]:
    if str(name_or_path) in known_energy_models():
        return read_description(conf_dir() / "energy" / f"{name_or_path}.yaml")
    if Path(name_or_path).suffix not in (".yaml", ".yml"):
        raise ValueError(
            f"energy_model must be one of {', '.join(known_energy_models())} or the path of a YAML "
            f"file, got {str(name_or_path)!r}; write your own like conf/energy/eyeriss.yaml"
        )
    return read_description(Path(name_or_path))
