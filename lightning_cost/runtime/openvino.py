"""OpenVINO on the CPU."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typing_extensions import override

from lightning_cost.cost.forward import Example, batch_size_of
from lightning_cost.runtime.onnx_file import feed, is_export_available
from lightning_cost.runtime.session import (
    Arrays,
    FileRuntime,
    Session,
    check_file,
    check_num_threads,
    explained,
    to_arrays,
)
from lightning_cost.runtime.standalone import openvino_core

_PRECISION_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoRuntime(FileRuntime):
    """Runs an ONNX file with OpenVINO's CPU plugin, tuned for latency.

    The precision is always given: left to itself, OpenVINO computes in bfloat16 where the
    processor has units for it, which is neither float32's accuracy nor float32's time.
    """

    name = "openvino"
    precisions = tuple(_PRECISION_HINTS)

    @classmethod
    @override
    def is_available(cls) -> bool:
        return is_export_available() and importlib.util.find_spec("openvino") is not None

    @override
    def open_for(self, path: str | Path, example: Example, *, num_threads: int) -> Session:
        """As :meth:`open`, for exactly the batch size of ``example``: some percent faster."""
        return self.open(path, num_threads=num_threads, batch_size=batch_size_of(example))

    @override
    def open(self, path: str | Path, *, num_threads: int, batch_size: int | None = None) -> Session:
        """A session that runs the file at ``path``.

        Args:
            path: An ONNX file, or an ``.xml`` file of OpenVINO's own with its ``.bin`` beside it.
            num_threads: Threads for one forward pass.
            batch_size: The only batch size to run, some percent faster; ``None`` for any.

        Raises:
            ValueError: If ``num_threads`` is not positive, there is no such file, or OpenVINO
                refuses it.
        """
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": check_num_threads(num_threads),
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[self.precision],
            "ENABLE_MMAP": False,  # the file may be gone before the session is
        }
        core = openvino_core()
        core.set_property({"ENABLE_MMAP": False})
        file = check_file(path)
        with explained(path, self.name):
            model = core.read_model(file)
            if batch_size is not None:
                _fix_batch(model, batch_size)
            return _OpenVinoSession(core.compile_model(model, "CPU", config))


def _fix_batch(model: Any, batch_size: int) -> None:
    shapes = {}
    for node in model.inputs:
        shape = node.partial_shape
        if shape.rank.get_length() > 0 and shape[0].is_dynamic:
            shape[0] = batch_size
        shapes[node.any_name] = shape
    model.reshape(shapes)


class _OpenVinoSession(Session):
    def __init__(self, model: Any) -> None:
        self._request = model.create_infer_request()
        self._names = [node.any_name for node in model.inputs]

    @override
    def bind(self, example: Example) -> Callable[[], Any]:
        if self._request is None:
            raise RuntimeError("this session is closed; load the network again")
        request, arrays = self._request, feed(self._names, example)
        return lambda: request.infer(arrays, share_inputs=True, share_outputs=True)

    @override
    def run(self, example: Example) -> Arrays:
        return to_arrays(self.bind(example)().values())

    @override
    def close(self) -> None:
        self._request = None
