"""A deployed network in OpenVINO's own format: an ``.xml`` file, and its weights in a ``.bin``."""

import importlib.util
import tempfile
from pathlib import Path

from torch import nn

from lightning_cost.cost.forward import Example
from lightning_cost.network.whole_file import require_place
from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.runtime.standalone import openvino_core


def write_openvino_ir(network: nn.Module, example: Example, path: str | Path) -> Path:
    """Write ``network``, as deployed, to ``path`` and to a file beside it that ends in ``.bin``.

    Nothing is compressed any further: OpenVINO computes from it what it does from the ONNX file.

    Args:
        network: In its deployed form; quantised ones hold quantise and dequantise operators.
        example: One batch as the network takes it; the batch axis stays dynamic.
        path: The file to write, which ends in ``.xml``; its folder must exist.

    Returns:
        ``path``.

    Raises:
        ValueError: If ``path`` has another ending, OpenVINO is not installed, or the network
            cannot be exported; see :func:`write_onnx`.
        OSError: If ``path`` cannot be written.
    """
    path = Path(path)
    if path.suffix != ".xml":
        raise ValueError(
            f"path must end in .xml for OpenVINO's own format, got {str(path)!r}; "
            "name it so, or export to ONNX, which OpenVINO reads too"
        )
    if importlib.util.find_spec("openvino") is None:
        raise ValueError(
            "path must be written with the package openvino, which is missing; install it: "
            "pip install 'lightning-cost[deploy]', or export to ONNX"
        )
    import openvino

    require_place(path)
    with tempfile.TemporaryDirectory() as folder:
        onnx_file = write_onnx(network, example, Path(folder) / "model.onnx")
        core = openvino_core()
        core.set_property({"ENABLE_MMAP": False})  # the file is gone before the model is
        openvino.save_model(core.read_model(onnx_file), path, compress_to_fp16=False)
    return path
