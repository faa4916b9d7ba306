"""A deployed network as an ExecuTorch program, whose layers XNNPACK runs, in integers too."""

import importlib.util
import io
import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.forward import Example, call_arguments, observing
from lightning_cost.network.whole_file import require_place, whole_file
from lightning_cost.quantization.convert import QuantizeDequantize, StoredIntegers, stored_layers
from lightning_cost.quantization.operators import (
    dequantize_filters_from,
    quantize_dequantize_signed,
)
from lightning_cost.runtime.executorch import open_executorch
from lightning_cost.runtime.parity import check_parity

_MAX_ERROR_RATIO = 0.05


def write_executorch(network: nn.Module, example: Example, path: str | Path) -> Path:
    """Write ``network``, as deployed, to a ``.pte`` file for exactly the batch of ``example``.

    XNNPACK takes signed activations and plain biases; both stand for the very same numbers, so
    the file computes what an ONNX file does, which is checked on the example. A layer whose result
    is not quantised, as that of the last one, is stored in float32, as XNNPACK has no integer form
    for it.

    Args:
        network: In its deployed form; left as it is.
        example: One batch as the network takes it, of the size that the device will run.
        path: The file to write, which ends in ``.pte``; its folder must exist.

    Returns:
        ``path``.

    Raises:
        ValueError: If ``path`` has another ending, ExecuTorch is not installed, the network
            cannot be exported, or ExecuTorch computes something else from it.
        OSError: If ``path`` cannot be written.
    """
    path = Path(path)
    if path.suffix != ".pte":
        raise ValueError(f"path must end in .pte for ExecuTorch, got {str(path)!r}; name it so")
    require_place(path)
    if importlib.util.find_spec("executorch") is None:
        raise ValueError(
            "path must be written with the package executorch, which is missing; install it: "
            "pip install 'lightning-cost[executorch]', or export to ONNX"
        )
    with observing(network), _quiet():
        from executorch.kernels import quantized  # noqa: F401 - rounding outside of XNNPACK

        try:
            lowered = _lowered(network, example)
            left = _left_by_xnnpack(lowered.exported_program())
            if left:
                lowered = _lowered(network, example, in_float=left)
            content = lowered.to_executorch().buffer
        except Exception as error:
            raise ValueError(
                f"network must be one that ExecuTorch takes, got {type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else 'no reason'}; export it to ONNX"
            ) from error
    with whole_file(path) as file:
        file.write(content)
        file.flush()
        _check(network, example, Path(file.name))
    return path


def _lowered(network: nn.Module, example: Example, in_float: Collection[str] = ()) -> Any:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    args, kwargs = call_arguments(example)
    program = torch.export.export(_for_xnnpack(network, in_float), args, kwargs)
    return to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])


def _left_by_xnnpack(program: Any) -> set[str]:
    """The layers whose integers XNNPACK has left to slow kernels: those without a grid behind."""
    buffers = program.graph_signature.inputs_to_buffers
    sources = [
        node.args[0].name
        for node in program.graph.nodes
        if node.op == "call_function" and "dequantize_per_channel" in str(node.target)
    ]
    names = [buffers[source] for source in sources if source in buffers]
    return {name.removesuffix(".stored_weight.values") for name in names}


def _check(network: nn.Module, example: Example, path: Path) -> None:
    """Refuse a file that computes something else: ExecuTorch 1.5 gets some mixed graphs wrong."""
    try:
        with open_executorch(path) as session:
            parity = check_parity(network, session, example, max_error_ratio=_MAX_ERROR_RATIO)
    except RuntimeError as error:
        raise ValueError(
            f"network must be one that ExecuTorch runs, got {str(error).splitlines()[0]}; "
            "export it to ONNX"
        ) from error
    if not parity.passed:
        raise ValueError(
            "network must compute on ExecuTorch what it does in PyTorch, got an error of "
            f"{parity.max_abs_error:.3g} in outputs that span {parity.output_range:.3g}; "
            "export it to ONNX"
        )


def _for_xnnpack(network: nn.Module, in_float: Collection[str] = ()) -> nn.Module:
    """A copy of ``network`` in the forms that XNNPACK recognises, the named layers in float32."""
    network = duplicated(network).eval()
    for name, module in list(network.named_modules()):
        if isinstance(module, QuantizeDequantize):
            network.set_submodule(name, _SignedGrid(module).eval())
    for name, (weight, bias) in stored_layers(network).items():
        layer = network.get_submodule(name)
        if not isinstance(layer, nn.Embedding):
            form = _Plain(weight()) if name in in_float else _Filters(weight)
            layer.stored_weight = form.eval()
        if bias is not None:
            layer.stored_bias = _Plain(bias()).eval()
    return network


class _SignedGrid(nn.Module):
    """The same grid, its 256 levels counted from -128 on."""

    def __init__(self, grid: QuantizeDequantize) -> None:
        super().__init__()
        self._scale, self._zero_point = grid.scale, grid.zero_point

    @override
    def forward(self, x: Tensor) -> Tensor:
        return quantize_dequantize_signed(x, scale=self._scale, zero_point=self._zero_point - 128)


class _Filters(nn.Module):
    """A stored weight whose zero points are stored too."""

    zero_points: Tensor
    values: Tensor
    scale: Tensor

    def __init__(self, stored: StoredIntegers) -> None:
        super().__init__()
        self.register_buffer("values", stored.values)
        self.register_buffer("scale", stored.scale)
        zero_points = torch.zeros(len(stored.scale), dtype=torch.int64)
        self.register_buffer("zero_points", zero_points)

    @override
    def forward(self) -> Tensor:
        return dequantize_filters_from(self.values, self.scale, self.zero_points)


class _Plain(nn.Module):
    """A tensor in float32; XNNPACK makes of a bias the integers that it was made from."""

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    @override
    def forward(self) -> Tensor:
        return self.value


@contextmanager
def _quiet() -> Iterator[None]:
    """Without remarks on how packages are made."""
    disabled = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
