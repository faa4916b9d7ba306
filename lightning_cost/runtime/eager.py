"""PyTorch as it is: every operator called from Python."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from lightning_cost.cost.forward import Example, call_arguments, tensors_of
from lightning_cost.runtime.session import Arrays, Runtime, Session, check_num_threads


class EagerRuntime(Runtime):
    """Runs the network's own ``forward``, on whatever device it is."""

    name = "eager"

    @classmethod
    @override
    def is_available(cls) -> bool:
        return True

    @override
    def load(self, network: nn.Module, example: Example, *, num_threads: int) -> "TorchSession":
        return TorchSession(network, num_threads=num_threads)


class TorchSession(Session):
    """Calls ``function`` without gradients; PyTorch's thread count changes only meanwhile."""

    def __init__(self, function: Callable[..., Any], *, num_threads: int) -> None:
        self._function: Callable[..., Any] | None = function
        self._num_threads = check_num_threads(num_threads)

    @override
    def bind(self, example: Example) -> Callable[[], Any]:
        if self._function is None:
            raise RuntimeError("this session is closed; load the network again")
        function, num_threads = self._function, self._num_threads
        args, kwargs = call_arguments(example)

        def call() -> Any:
            with torch_threads(num_threads), torch.inference_mode():
                return function(*args, **kwargs)

        return call

    @override
    def run(self, example: Example) -> Arrays:
        tensors = [tensor.cpu() for tensor in tensors_of(self.bind(example)())]
        return tuple(
            (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
            for tensor in tensors
        )

    @override
    def close(self) -> None:
        self._function = None


@contextmanager
def torch_threads(num_threads: int) -> Iterator[None]:
    """PyTorch with ``num_threads`` threads, as many as before afterwards."""
    before = torch.get_num_threads()
    if before == num_threads:
        yield
        return
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
