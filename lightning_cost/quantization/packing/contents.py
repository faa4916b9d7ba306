"""What a converted network consists of, and how each part of it is written."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_cost.network.lineage import lineage_of, lineage_to_list
from lightning_cost.quantization.convert import QuantizeDequantize, StoredIntegers, stored_layers
from lightning_cost.quantization.packing import scales
from lightning_cost.quantization.packing.codecs import Values, smallest_codec
from lightning_cost.quantization.packing.positions import with_masks

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}
"""The types of tensors that a packed file may hold, by name."""
_COUNTER = "num_batches_tracked"
_GRID_BYTES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """A converted network, in the order in which it is written.

    Args:
        lineages: The structural changes of each module that has had any.
        grids: The quantise/dequantise operators of activations.
        layers: The stored weight and bias of each layer that has them.
        tensors: All else that the network's state holds; tied ones under each of their names.
        dtypes: What each layer, and each buffer outside the state, computes in if not float32.
    """

    lineages: dict[str, list[dict[str, Any]]]
    grids: dict[str, QuantizeDequantize]
    layers: dict[str, tuple[StoredIntegers, StoredIntegers | None]]
    tensors: dict[str, Tensor]
    dtypes: dict[str, str]

    @classmethod
    def of(cls, network: nn.Module) -> "Contents":
        """The contents of ``network``, which is converted.

        Raises:
            ValueError: If something in its state has no form in a packed file.
        """
        modules = dict(network.named_modules())
        layers = stored_layers(network)
        dtypes = {name: weight.dtype for name, (weight, _) in layers.items()}
        dtypes |= {name: buffer.dtype for name, buffer in unsaved_buffers(network).items()}
        return cls(
            lineages={
                name: lineage_to_list(lineage_of(module))
                for name, module in modules.items()
                if lineage_of(module)
            },
            grids={
                name: module
                for name, module in modules.items()
                if isinstance(module, QuantizeDequantize)
            },
            layers=layers,
            tensors={name: _checked(name, value) for name, value in plain_state(network).items()},
            dtypes={
                name: name_of(dtype) for name, dtype in dtypes.items() if dtype != torch.float32
            },
        )

    def header(self) -> dict[str, Any]:
        """What has to be known to read :meth:`parts`, as JSON-compatible data."""
        first = self._first_names()
        return {
            "lineages": with_masks(self.lineages),
            "grids": list(self.grids),
            "layers": [[name, *self._form(*pair)] for name, pair in self.layers.items()],
            "tensors": [
                [name, name_of(tensor.dtype), list(tensor.shape)]
                if first[name] == name
                else [name, first[name]]
                for name, tensor in self.tensors.items()
            ],
            "dtypes": self.dtypes,
        }

    def num_bytes(self) -> int:
        """Bytes of :meth:`parts`, by the formula."""
        total = _GRID_BYTES * len(self.grids)
        for weight, bias in self.layers.values():
            rows = _rows(weight)
            size = smallest_codec(rows).num_bytes(rows)
            assert size is not None
            total += size + scales.num_scale_bytes(weight.scale)
            if bias is not None:
                total += scales.num_bias_bytes(bias.values)
                if self._grid_of(weight, bias) is None:
                    total += scales.num_scale_bytes(bias.scale)
        first = self._first_names()
        return total + sum(
            tensor.numel() * tensor.element_size()
            for name, tensor in self.tensors.items()
            if first[name] == name
        )

    def parts(self) -> Iterator[bytes]:
        """Grids, then integers, scales and biases layer by layer, then the other tensors."""
        for grid in self.grids.values():
            yield scales.encode_floats(torch.tensor([grid.scale])) + bytes([grid.zero_point])
        for weight, bias in self.layers.values():
            rows = _rows(weight)
            yield smallest_codec(rows).encode(rows)
            yield scales.encode_scale(weight.scale)
            if bias is not None:
                yield scales.encode_bias(bias.values)
                if self._grid_of(weight, bias) is None:
                    yield scales.encode_scale(bias.scale)
        first = self._first_names()
        for name, tensor in self.tensors.items():
            if first[name] == name:
                yield _bytes_of(tensor)

    def _form(self, weight: StoredIntegers, bias: StoredIntegers | None) -> list[Any]:
        """Codec, shape and form of scales; with a bias its bits, and its grid or form of scales."""
        form = [
            smallest_codec(_rows(weight)).name,
            list(weight.values.shape),
            scales.scale_form(weight.scale),
        ]
        if bias is None:
            return form
        grid = self._grid_of(weight, bias)
        unit = scales.scale_form(bias.scale) if grid is None else grid
        return [*form, scales.bias_bits(bias.values), unit]

    def _grid_of(self, weight: StoredIntegers, bias: StoredIntegers) -> int | None:
        """Which grid's scale makes the scales of ``bias`` from those of ``weight``."""
        for index, grid in enumerate(self.grids.values()):
            if torch.equal(weight.scale * torch.tensor(grid.scale), bias.scale):
                return index
        return None

    def _first_names(self) -> dict[str, str]:
        """For each tensor, the first name of the same one."""
        names: dict[int, str] = {}
        return {name: names.setdefault(id(tensor), name) for name, tensor in self.tensors.items()}


def plain_state(network: nn.Module) -> dict[str, Any]:
    """What the state of ``network`` holds besides stored integers, by name, tied ones as one.

    Batch normalisation's ``num_batches_tracked`` serves training only and is left out.
    """
    stored = {f"{name}.stored_" for name in stored_layers(network)}
    return {
        name: value
        for name, value in network.state_dict(keep_vars=True).items()
        if name.rpartition(".")[2] != _COUNTER
        and not any(f"{name.rpartition('.stored_')[0]}.stored_" == one for one in stored)
    }


def unsaved_buffers(network: nn.Module) -> dict[str, Tensor]:
    """The buffers in floating point that the state of ``network`` does not hold, by name."""
    state = network.state_dict()
    return {
        name: buffer
        for name, buffer in network.named_buffers()
        if name not in state and name_of(buffer.dtype) in DTYPES and buffer.is_floating_point()
    }


def name_of(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def _checked(name: str, value: Any) -> Tensor:
    is_plain = isinstance(value, Tensor) and value.layout is torch.strided
    if not is_plain or name_of(value.dtype) not in DTYPES:
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"network must hold dense tensors of {', '.join(DTYPES)}, got {found} at {name!r}; "
            "leave it out of the state dict, or save a checkpoint instead"
        )
    assert isinstance(value, Tensor)
    return value


def _rows(weight: StoredIntegers) -> Values:
    rows: Values = weight.values.cpu().flatten(1).numpy()
    return rows


def _bytes_of(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return np.asarray(flat.view(torch.uint8).numpy()).tobytes()
