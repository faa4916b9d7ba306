"""The contract of every runtime: load a deployed network, run it, close it."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn
from typing_extensions import Self, override

from lightning_cost.cost.forward import Example
from lightning_cost.runtime.onnx_file import write_onnx

Arrays = tuple[npt.NDArray[Any], ...]


class Session(ABC):
    """A loaded network, ready to run. A context manager that closes itself."""

    @abstractmethod
    def bind(self, example: Example) -> Callable[[], object]:
        """One forward pass on ``example``, its inputs converted, to be called and timed at will.

        What a call returns may be overwritten by the next one.
        """

    @abstractmethod
    def run(self, example: Example) -> Arrays:
        """The network's output tensors for ``example``, flattened in order."""

    def close(self) -> None:
        """Give back what the session holds; it cannot run afterwards. May be called again."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(kw_only=True, slots=True)
class Runtime(ABC):
    """Something that runs networks.

    Args:
        precision: Floating-point type of the arithmetic; one of the runtime's ``precisions``.

    Raises:
        ValueError: If this runtime does not offer ``precision``.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = ("float32",)

    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in self.precisions:
            raise ValueError(
                f"precision must be one of {', '.join(self.precisions)} on runtime {self.name}, "
                f"got {self.precision!r}; choose another runtime or leave it out"
            )

    @classmethod
    @abstractmethod
    def is_available(cls) -> bool:
        """Whether what this runtime needs is installed."""

    @abstractmethod
    def load(self, network: nn.Module, example: Example, *, num_threads: int) -> Session:
        """A session that runs ``network``, as deployed, on inputs shaped as ``example``.

        Args:
            network: As deployed: in evaluation mode, on the device that it is to run on.
            example: One batch; the session may be specialised to its shape.
            num_threads: Threads for one forward pass.

        Raises:
            ValueError: If ``num_threads`` is not positive or the network cannot be converted.
        """


class FileRuntime(Runtime):
    """A runtime that runs an ONNX file, without PyTorch."""

    @abstractmethod
    def open(self, path: str | Path, *, num_threads: int) -> Session:
        """A session that runs the ONNX file at ``path``, at any batch size.

        Raises:
            ValueError: If ``num_threads`` is not positive, or there is no such file.
        """

    def open_for(self, path: str | Path, example: Example, *, num_threads: int) -> Session:
        """As :meth:`open`, for inputs shaped as ``example``; may be faster, and may take no others.

        Raises:
            ValueError: If ``num_threads`` is not positive, or there is no such file.
        """
        return self.open(path, num_threads=num_threads)

    @override
    def load(self, network: nn.Module, example: Example, *, num_threads: int) -> Session:
        check_num_threads(num_threads)
        with tempfile.TemporaryDirectory() as folder:
            path = write_onnx(network, example, Path(folder) / "model.onnx")
            return self.open_for(path, example, num_threads=num_threads)


def check_file(path: str | Path) -> str:
    """``path`` as text, of a file that exists.

    Raises:
        ValueError: If there is none.
    """
    if not Path(path).is_file():
        raise ValueError(f"path must be an ONNX file, got {str(path)!r}; export the network first")
    return str(path)


@contextmanager
def explained(path: str | Path, runtime: str) -> Iterator[None]:
    """Say of whatever a runtime raises while it loads the file at ``path`` which file it is.

    Raises:
        ValueError: If the runtime raises anything.
    """
    try:
        yield
    except Exception as error:  # any: each runtime has its own
        first_line = next(iter(str(error).strip().splitlines()), "")
        cause = first_line.replace(str(path), Path(path).name)[:200]
        raise ValueError(
            f"path must be a file that {runtime} runs, got {str(path)!r}, which it refuses "
            f"({type(error).__name__}: {cause}); export the network anew, or take another runtime"
        ) from error


def check_num_threads(num_threads: int) -> int:
    """``num_threads``, which must be at least 1.

    Raises:
        ValueError: If it is not.
    """
    if num_threads < 1:
        raise ValueError(
            f"num_threads must be at least 1, got {num_threads}; "
            "give the number of cores that one forward pass may use"
        )
    return num_threads


def to_arrays(outputs: Any) -> Arrays:
    """Copies of a runtime's output arrays, which it may overwrite."""
    return tuple(np.array(output) for output in outputs)
