"""A deployed network as one ONNX file with a dynamic batch axis."""

import importlib.util
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from lightning_cost.cost.forward import (
    Example,
    batch_size_of,
    call_arguments,
    observing,
    tensors_of,
    with_batch_size,
)
from lightning_cost.cost.size import loaded_bytes
from lightning_cost.network.whole_file import require_place
from lightning_cost.runtime.onnx_addends import round_addends_twice
from lightning_cost.runtime.onnx_notes import remove_notes

BATCH_AXIS = "batch"
OPSET = 18


def write_onnx(network: nn.Module, example: Example, path: str | Path) -> Path:
    """Write ``network``, as deployed, to one ONNX file with a dynamic batch axis.

    Inputs are named as the parameters of the network's ``forward``. The file holds the network and
    little else: a quantised ResNet-20 takes a tenth more than its weights. The network is left as
    it was found, and nothing is printed.

    Args:
        network: In its deployed form; quantised ones hold quantise and dequantise operators.
        example: One batch as the network takes it.
        path: The file to write, which ends in ``.onnx``; its folder must exist.

    Returns:
        ``path``.

    Raises:
        ValueError: If ``path`` has another ending, the packages that export needs are missing, the
            network does not export with a dynamic batch axis, or it is larger than one file may be.
        OSError: If ``path`` cannot be written.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(
            f"path must end in .onnx, got {str(path)!r}; name it so, or choose the runtime whose "
            "format it is to have"
        )
    require_place(path)
    if not is_export_available():
        raise ValueError(
            "path must be written with the packages onnx and onnxscript, which are missing; "
            "install them: pip install 'lightning-cost[deploy]'"
        )
    dynamic_shapes = _dynamic_shapes(network, example)
    # a batch of one would be taken for a constant
    args, kwargs = call_arguments(with_batch_size(example, max(2, batch_size_of(example))))
    with observing(network), _quiet():
        try:
            program = torch.onnx.export(
                network,
                args,
                kwargs=kwargs,
                dynamo=True,
                opset_version=OPSET,
                input_names=input_names(network, args, kwargs),
                dynamic_shapes=dynamic_shapes,
                verbose=False,
            )
        except Exception as error:
            raise ValueError(
                f"network must export to ONNX with a dynamic batch axis, got {_cause(error)}; "
                "forward must be traceable by torch.export and take any batch size"
            ) from error
    assert program is not None
    _check_batch_axis(program.model.graph.inputs, example)
    _tell_apart(program.model.graph)
    round_addends_twice(program.model)
    remove_notes(program.model)
    _save(program, path, network)
    return path


def _save(program: Any, path: Path, network: nn.Module) -> None:
    try:
        program.save(path, external_data=False)
    except Exception as error:
        if type(error).__name__ != "EncodeError":  # of protobuf: one message, of less than 2 GiB
            raise
        raise ValueError(
            "network must be smaller than 2 GiB to fit into one ONNX file, got "
            f"{loaded_bytes(network):,} bytes of weights; make it smaller, or quantise it"
        ) from error


def is_export_available() -> bool:
    """Whether the packages that export needs are installed."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript"))


def input_names(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """The names of the tensors in a call, in order: parameters of ``forward``, numbered if nested.

    >>> input_names(nn.Linear(1, 1), (torch.zeros(1, 1),), {})
    ['input']
    """
    names = []
    for name, value in [*_positional(network, args), *kwargs.items()]:
        tensors = tensors_of(value)
        is_plain = isinstance(value, Tensor)
        names += [name if is_plain else f"{name}_{index}" for index in range(len(tensors))]
    return names


def feed(names: list[str], example: Example) -> dict[str, npt.NDArray[Any]]:
    """The tensors of ``example`` as contiguous arrays by input name.

    Keyword arguments go by name, others in order.

    Raises:
        ValueError: If the example does not have as many tensors as the file has inputs, or a type
            that arrays cannot have.
    """
    tensors = tensors_of(example)
    if len(tensors) != len(names):
        raise ValueError(
            f"example must hold {len(names)} tensors ({', '.join(names)}), got {len(tensors)}; "
            "give the arguments that the file was exported with"
        )
    if any(tensor.dtype is torch.bfloat16 for tensor in tensors):
        raise ValueError(
            "example must hold tensors of a type that arrays have, got bfloat16; convert example "
            "and network to float32, or run them with the runtime eager"
        )
    arrays = [tensor.detach().cpu().contiguous().numpy() for tensor in tensors]
    if isinstance(example, dict) and set(example) == set(names):
        return dict(zip(example, arrays, strict=True))
    return dict(zip(names, arrays, strict=True))


def _positional(network: nn.Module, args: tuple[Any, ...]) -> list[tuple[str, Any]]:
    bound = inspect.signature(network.forward).bind_partial(*args)
    pairs = []
    for name, value in bound.arguments.items():
        kind = inspect.signature(network.forward).parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            pairs += [(f"{name}_{index}", item) for index, item in enumerate(value)]
        else:
            pairs.append((name, value))
    return pairs


def _has_batch(tensor: Tensor, batch_size: int) -> bool:
    return tensor.dim() > 0 and tensor.shape[0] == batch_size


def _dynamic_shapes(network: nn.Module, example: Example) -> dict[str, Any]:
    """The batch axis of every tensor in ``example`` that has one, by parameter of ``forward``."""
    args, kwargs = call_arguments(example)
    batch_size, axis = batch_size_of(example), torch.export.Dim(BATCH_AXIS)
    given = inspect.signature(network.forward).bind_partial(*args, **kwargs).arguments

    def shape(value: Any) -> dict[int, Any] | None:
        return {0: axis} if isinstance(value, Tensor) and _has_batch(value, batch_size) else None

    shapes: dict[str, Any] = tree_map(shape, dict(given))
    return shapes


def _tell_apart(graph: Any) -> None:
    """Give outputs names that no input has, which the exporter gives to an input's copy."""
    taken = {value.name for value in (*graph.inputs, *graph.outputs)}
    for output in graph.outputs:
        if any(output.name == value.name and output is not value for value in graph.inputs):
            name = f"{output.name}_out"
            while name in taken:
                name += "_"
            output.name = name
            taken.add(name)


def _check_batch_axis(inputs: Any, example: Example) -> None:
    """Refuse a batch axis that the exporter, without a word, has taken for a constant."""
    batch_size = batch_size_of(example)
    for node, tensor in zip(inputs, tensors_of(example), strict=True):
        if _has_batch(tensor, batch_size) and isinstance(node.shape[0], int):
            raise ValueError(
                "network must export to ONNX with a dynamic batch axis, got a forward that only "
                f"takes {node.shape[0]} samples in {node.name}; use the sizes of its inputs instead"
            )


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress lines, advice and remarks on packages it could also use."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
