"""PyTorch through ``torch.compile``."""

import itertools
import os
import shutil
import warnings
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from typing_extensions import override

from lightning_cost.cost.forward import Example
from lightning_cost.runtime.eager import TorchSession
from lightning_cost.runtime.session import Runtime

_COMPILERS = ("g++", "c++", "clang++", "cl")
_numbers = itertools.count()


class CompiledRuntime(Runtime):
    """Compiles the network for the example's shape; the first call, in ``load``, is slow."""

    name = "compiled"

    @classmethod
    @override
    def is_available(cls) -> bool:
        compilers = (os.environ.get("CXX", ""), *_COMPILERS)
        return any(shutil.which(compiler) for compiler in compilers if compiler)

    @override
    def load(self, network: nn.Module, example: Example, *, num_threads: int) -> TorchSession:
        with warnings.catch_warnings():
            # PyTorch's compiler uses parts of PyTorch that warn of their own age
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            function = torch.compile(_call_of(network), dynamic=False)
            session = TorchSession(function, num_threads=num_threads)
            try:
                session.bind(example)()
            except TorchDynamoException as error:
                raise ValueError(
                    f"runtime compiled must be able to compile the network, got: "
                    f"{str(error).strip().splitlines()[0]}; choose another runtime"
                ) from error
        return session


def _call_of(network: nn.Module) -> FunctionType:
    """A function that calls ``network`` and whose code object is its own.

    PyTorch counts recompilations by code object, and after eight falls back to eager in silence:
    the ninth network of one class would not be compiled.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return network(*args, **kwargs)

    code = call.__code__.replace(co_name=f"call_{next(_numbers)}")
    return FunctionType(code, call.__globals__, closure=call.__closure__)
