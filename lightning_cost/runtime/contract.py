"""The runtimes by name, and their contract."""

from pathlib import Path

from lightning_cost.runtime.compiled import CompiledRuntime
from lightning_cost.runtime.eager import EagerRuntime
from lightning_cost.runtime.onnxruntime import OnnxRuntime
from lightning_cost.runtime.openvino import OpenVinoRuntime
from lightning_cost.runtime.session import FileRuntime, Runtime, Session

__all__ = [
    "DEPLOYABLE",
    "RUNTIMES",
    "Runtime",
    "Session",
    "get_runtime",
    "installed_runtimes",
    "open_file",
]

RUNTIMES: dict[str, type[Runtime]] = {
    runtime.name: runtime
    for runtime in (EagerRuntime, CompiledRuntime, OnnxRuntime, OpenVinoRuntime)
}
"""Every runtime, by name."""

DEPLOYABLE: tuple[str, ...] = tuple(
    name for name, runtime in RUNTIMES.items() if issubclass(runtime, FileRuntime)
)
"""The runtimes that run an ONNX file, without PyTorch."""

_REMEDIES = {
    CompiledRuntime.name: "install a C++ compiler, such as g++",
    OnnxRuntime.name: "pip install 'lightning-cost[deploy]'",
    OpenVinoRuntime.name: "pip install 'lightning-cost[deploy]'",
}


def installed_runtimes() -> list[str]:
    """The names of the runtimes that can run here.

    >>> "eager" in installed_runtimes()
    True
    """
    return [name for name, runtime in RUNTIMES.items() if runtime.is_available()]


def get_runtime(name: str, *, precision: str = "float32") -> Runtime:
    """The runtime of that name.

    Raises:
        ValueError: If there is none of that name, it is not installed, or it does not offer
            ``precision``.
    """
    if name not in RUNTIMES:
        raise ValueError(
            f"runtime must be one of {', '.join(RUNTIMES)}, got {name!r}; choose one of them"
        )
    runtime = RUNTIMES[name]
    if not runtime.is_available():
        raise ValueError(
            f"runtime must be installed, got {name!r}, which is not: {_REMEDIES[name]}, "
            f"or choose one of {', '.join(installed_runtimes())}"
        )
    return runtime(precision=precision)


def open_file(
    path: str | Path, *, runtime: str, num_threads: int, precision: str = "float32"
) -> Session:
    """A session that runs the ONNX file at ``path``, at any batch size.

    Raises:
        ValueError: If ``runtime`` is not an installed one that runs ONNX files, ``precision`` is
            not one that it offers, there is no such file, or the runtime refuses it.
    """
    loader = get_runtime(runtime, precision=precision)
    if not isinstance(loader, FileRuntime):
        raise ValueError(
            f"runtime must be one of {', '.join(DEPLOYABLE)} to run a file, got {runtime!r}; "
            "load the network itself instead"
        )
    return loader.open(path, num_threads=num_threads)
