"""ExecuTorch programs, run on this machine to check them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from lightning_cost.cost.forward import Example, batch_size_of, map_tensors, tensors_of
from lightning_cost.runtime.session import Arrays, Session, to_arrays


def open_executorch(path: str | Path) -> Session:
    """A session that runs the ``.pte`` file at ``path``, with as many threads as it likes.

    A batch that is a multiple of the file's own is run part by part.

    Raises:
        ValueError: If ExecuTorch is not installed, or there is no such file.
    """
    if importlib.util.find_spec("executorch") is None:
        raise ValueError(
            "path must be read with the package executorch, which is missing; install it: "
            "pip install 'lightning-cost[executorch]'"
        )
    if not Path(path).is_file():
        raise ValueError(f"path must be a .pte file, got {str(path)!r}; export the network first")
    from executorch.kernels import quantized  # noqa: F401 - operators that programs call
    from executorch.runtime import Runtime

    return _ExecuTorchSession(Runtime.get().load_program(str(path)).load_method("forward"))


class _ExecuTorchSession(Session):
    def __init__(self, method: Any) -> None:
        self._method = method
        self._batch_size = int(method.metadata.input_tensor_meta(0).sizes()[0])

    @override
    def bind(self, example: Example) -> Callable[[], Any]:
        method, tensors = self._method, [tensor.contiguous() for tensor in tensors_of(example)]
        if method is None:
            raise RuntimeError("this session is closed; load the network again")
        return lambda: method.execute(tensors)

    @override
    def run(self, example: Example) -> Arrays:
        size, num_samples = self._batch_size, batch_size_of(example)
        if num_samples % size:
            raise ValueError(
                f"example must be of a multiple of {size} samples, the batch of the file, got "
                f"{num_samples}; cut it, or export with another batch"
            )
        parts = [
            self._run_part(example, start, num_samples) for start in range(0, num_samples, size)
        ]
        return tuple(np.concatenate(each) for each in zip(*parts, strict=True))

    def _run_part(self, example: Example, start: int, num_samples: int) -> Arrays:
        def cut(tensor: Any) -> Any:
            has_batch = tensor.dim() > 0 and tensor.shape[0] == num_samples
            return tensor[start : start + self._batch_size] if has_batch else tensor

        return to_arrays(tensor.numpy() for tensor in self.bind(map_tensors(cut, example))())

    @override
    def close(self) -> None:
        self._method = None
