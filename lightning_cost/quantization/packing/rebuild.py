"""From the contents of a packed file to a network again."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from lightning_cost.network.folding import become_identity
from lightning_cost.network.lineage import lineage_from_list, replay
from lightning_cost.quantization.convert import (
    QuantizeDequantize,
    StoredIntegers,
    install_integers,
)
from lightning_cost.quantization.packing import scales
from lightning_cost.quantization.packing.codecs import CODECS
from lightning_cost.quantization.packing.contents import DTYPES, plain_state, unsaved_buffers
from lightning_cost.quantization.packing.positions import without_masks
from lightning_cost.quantization.weights import parametrized

_USUAL = "float32"


class MismatchError(Exception):
    """The network is not of the architecture that was packed."""


class Reader:
    """Gives the bytes of a file's body in order, and no more than there are."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def __call__(self, num_bytes: int) -> bytes:
        """The next ``num_bytes``."""
        end = self._position + num_bytes
        if not 0 <= num_bytes <= len(self._body) - self._position:
            raise ValueError(f"{num_bytes} bytes where {len(self._body) - self._position} are left")
        part = self._body[self._position : end]
        self._position = end
        return part

    def finish(self) -> None:
        """Refuse bytes that nothing has asked for."""
        if self._position != len(self._body):
            raise ValueError(f"{len(self._body) - self._position} bytes are left over")


def rebuild(network: nn.Module, header: Mapping[str, Any], read: Reader) -> None:
    """Make ``network``, freshly built, in place the one that ``header`` describes.

    Nothing is allocated by a size in the file alone: every shape in it must be the network's own.
    What each part computes in is that of the file, whatever ``network`` was built in.

    Raises:
        MismatchError: If the network is of another architecture.
        ValueError: If header and body do not belong together.
    """
    modules = dict(network.named_modules())
    for name, records in without_masks(header["lineages"]).items():
        if name not in modules:
            raise MismatchError(f"no module {name!r}")
        try:
            replay(modules[name], lineage_from_list(records))
        except ValueError as error:
            raise MismatchError(f"another one: {error}") from None
    dtypes = header.get("dtypes")  # older files have none, and go by the network
    factors = [_read_grid(network, name, read) for name in header["grids"]]
    for name, codec, shape, *form in header["layers"]:
        layer, bits, dtype = _layer(network, name, shape)
        if dtypes is not None:
            dtype = DTYPES[dtypes.get(name, _USUAL)]
        rows = CODECS[codec].decode(read, shape[0], _product(shape[1:]))
        values = torch.from_numpy(rows.astype("int8")).reshape(shape)
        scale = scales.decode_scale(read, form[0], shape[0])
        weight = StoredIntegers(values, scale, bits, dtype=dtype)
        bias = _read_bias(read, weight, factors, *form[1:]) if form[1:] else None
        install_integers(layer, weight, bias)
    _load_tensors(network, header["tensors"], read)
    if dtypes is not None:
        for name, buffer in unsaved_buffers(network).items():
            buffer.data = buffer.to(DTYPES[dtypes.get(name, _USUAL)])
    read.finish()


def _read_grid(network: nn.Module, name: str, read: Reader) -> Tensor:
    scale = scales.decode_scale(read, scales.FLOATS, 1)
    grid = QuantizeDequantize(scale=float(scale), zero_point=read(1)[0])
    network.set_submodule(name, grid.eval())
    return scale[0]


def _read_bias(
    read: Reader, weight: StoredIntegers, factors: list[Tensor], bits: int, unit: int | str
) -> StoredIntegers:
    num_filters = len(weight.scale)
    values = scales.decode_bias(read, bits, num_filters)
    if isinstance(unit, str):
        scale = scales.decode_scale(read, unit, num_filters)
    else:
        scale = weight.scale * factors[unit]
    return StoredIntegers(values, scale, dtype=weight.dtype)


def _layer(network: nn.Module, name: str, shape: list[int]) -> tuple[nn.Module, float, torch.dtype]:
    """The prepared layer called ``name``, its scheme's bits, and the dtype that it computes in.

    Its weight must be of ``shape``.
    """
    layer = dict(network.named_modules()).get(name)
    if layer is None or not parametrize.is_parametrized(layer, "weight"):
        raise MismatchError(f"no prepared layer {name!r}")
    quantizer, found = parametrized(layer.get_submodule("parametrizations.weight"))
    if list(found.shape) != shape:
        raise MismatchError(f"a weight of {list(found.shape)} in place of {shape} at {name!r}")
    assert isinstance(layer, nn.Module)
    return layer, quantizer.rounding.scheme.weight_bits, found.dtype


def _load_tensors(network: nn.Module, entries: list[list[Any]], read: Reader) -> None:
    names = {name for name, *_ in entries}
    for name, module in list(network.named_modules()):
        # one that was folded into the layer before it: without statistics it could not be
        has_statistics = getattr(module, "running_mean", None) is not None
        is_norm = isinstance(module, _BatchNorm) and has_statistics
        if is_norm and f"{name}.running_mean" not in names:
            become_identity(module)
    found: dict[str, Tensor] = {}
    for name, *_ in entries:
        owner, _, attribute = name.rpartition(".")
        layer = network.get_submodule(owner) if attribute == "bias" else None
        if layer is not None and getattr(layer, attribute, 0) is None:
            filters = plain_state(layer)["weight"]  # a bias that a folded batch norm left
            layer.bias = nn.Parameter(torch.zeros(len(filters), dtype=filters.dtype))
    own = plain_state(network)
    for name, kind, *rest in entries:
        if name not in own:
            raise MismatchError(f"nothing at {name!r}")
        if rest and list(own[name].shape) != rest[0]:
            raise MismatchError(f"{list(own[name].shape)} in place of {rest[0]} at {name!r}")
        found[name] = _read_tensor(read, DTYPES[kind], rest[0]) if rest else found[kind]
    for name, target in own.items():
        if name not in found:
            raise MismatchError(f"{name!r}, which was not packed")
        target.data = found[name]


def _read_tensor(read: Reader, dtype: torch.dtype, shape: list[int]) -> Tensor:
    content = bytearray(read(_product(shape) * dtype.itemsize))
    if not content:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=torch.uint8).view(dtype).reshape(shape)


def _product(sizes: list[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
