"""ONNX Runtime on the CPU."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typing_extensions import override

from lightning_cost.cost.forward import Example
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


class OnnxRuntime(FileRuntime):
    """Runs an ONNX file with ONNX Runtime's CPU provider."""

    name = "onnxruntime"

    @classmethod
    @override
    def is_available(cls) -> bool:
        return is_export_available() and importlib.util.find_spec("onnxruntime") is not None

    @override
    def open(self, path: str | Path, *, num_threads: int) -> Session:
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = check_num_threads(num_threads)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        file = check_file(path)
        with explained(path, self.name):
            session = onnxruntime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"]
            )
        return _OnnxSession(session)


class _OnnxSession(Session):
    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [node.name for node in session.get_inputs()]

    @override
    def bind(self, example: Example) -> Callable[[], Any]:
        if self._session is None:
            raise RuntimeError("this session is closed; load the network again")
        session, arrays = self._session, feed(self._names, example)
        return lambda: session.run(None, arrays)

    @override
    def run(self, example: Example) -> Arrays:
        return to_arrays(self.bind(example)())

    @override
    def close(self) -> None:
        self._session = None
