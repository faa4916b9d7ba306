"""Times ONNX models, whole and operator by operator, with a runtime and numpy alone.

This file is also the program inside an exported bundle, run on a device that has nothing of this
package: it imports nothing of it, and runs on Python 3.8.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RUNTIMES = ("onnxruntime", "openvino")
MANIFEST_NAME = "manifest.json"
RESULTS_NAME = "results.json"
INPUTS_NAME = "inputs.npz"

_PRECISION_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_NUM_ROUNDS = 5
_WARM_UP_CALLS = 10
_MIN_CALLS = 5


class TimedModel:
    """An ONNX model, ready to run on fixed inputs and to be timed.

    Args:
        content: The ONNX file's bytes.
        inputs: Arrays by input name.
        runtime: ``"onnxruntime"`` or ``"openvino"``.
        num_threads: Threads for one forward pass.
        precision: ``"float32"``, or ``"bfloat16"`` on OpenVINO.
        is_profiled: Whether the runtime keeps the time of each operator.

    Raises:
        ValueError: If the runtime is unknown, or does not offer the precision.
    """

    def __init__(
        self,
        content: bytes,
        inputs: dict[str, Any],
        *,
        runtime: str,
        num_threads: int = 1,
        precision: str = "float32",
        is_profiled: bool = False,
    ) -> None:
        if runtime not in RUNTIMES:
            raise ValueError(
                f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}; choose one of them"
            )
        opened = _open_openvino if runtime == "openvino" else _open_onnxruntime
        self.run, self._operators = opened(content, inputs, num_threads, precision, is_profiled)
        for _ in range(_WARM_UP_CALLS):
            self.run()

    def time_ms(self, seconds: float) -> float:
        """The median time of a call, over about ``seconds``."""
        samples: list[float] = []
        end = time.perf_counter() + seconds
        while len(samples) < _MIN_CALLS or time.perf_counter() < end:
            start = time.perf_counter()
            self.run()
            samples.append(time.perf_counter() - start)
        return statistics.median(samples) * 1e3

    def operators(self) -> list[list[Any]]:
        """[name, names of the graph's nodes in it, ms] of each operator, in order of execution.

        To be called once, on a profiled model, after it was timed.
        """
        found: list[list[Any]] = self._operators()
        return found


def compare(
    plain: TimedModel, profiled: TimedModel, reference: TimedModel, *, seconds: float = 0.6
) -> dict[str, Any]:
    """How long a model takes in units of a reference, in turn with it, and its operators' share.

    A machine's speed drifts by a tenth within minutes, which hits both alike.

    Args:
        plain: The model.
        profiled: The same model, keeping the time of each operator.
        reference: A model that stays the same over all comparisons.
        seconds: About how long to measure.

    Returns:
        ``ratio`` and ``ratio_spread``: median and interquartile range over the rounds;
        ``reference_ms``: time of the reference meanwhile; ``operators``: as
        :meth:`TimedModel.operators`, their times as ratios to the reference too.
    """
    share = seconds / (5 * _NUM_ROUNDS)
    ratios, references = [], [reference.time_ms(share)]
    for _ in range(_NUM_ROUNDS):
        taken = plain.time_ms(2 * share)
        references.append(reference.time_ms(share))
        ratios.append(2 * taken / (references[-2] + references[-1]))
    profiled.time_ms(seconds / 5)
    references.append(reference.time_ms(share))
    meanwhile = (references[-2] + references[-1]) / 2
    quarters = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "ratio": quarters[1],
        "ratio_spread": quarters[2] - quarters[0],
        "reference_ms": statistics.median(references),
        "operators": [
            [name, contents, taken / meanwhile] for name, contents, taken in profiled.operators()
        ],
    }


def fingerprint(runtime: str) -> dict[str, Any]:
    """What identifies a device: processor, cores, system, and the runtime's version."""
    version = str(getattr(__import__(runtime), "__version__", "unknown")).split("-")[0]
    return {
        "cpu": cpu_name(),
        "num_cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "runtime_version": version,
    }


def cpu_name(cpu_info: str | Path = "/proc/cpuinfo") -> str:
    """The processor's model name, as far as the system tells."""
    if os.path.exists(cpu_info):
        with open(cpu_info, errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in ("model name", "Model") and value.strip():
                    return value.strip()
    return platform.processor() or platform.machine() or "unknown CPU"


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` whole or not at all."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content))
    partial.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Measure the models of the bundle that this file lies in; goes on where it was interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=str(Path(__file__).parent))
    parser.add_argument("--time-limit-s", type=float, default=float("inf"))
    options = parser.parse_args(arguments)
    folder = Path(options.folder)
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    settings = manifest["settings"]
    results = _results_so_far(folder, manifest, settings)

    def exported(name: str) -> bytes:
        content = (folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["sha256"][name]:
            raise ValueError(f"{name} must be as it was exported, got another; export it again")
        return content

    with np.load(io.BytesIO(exported(INPUTS_NAME))) as arrays:
        inputs = dict(arrays)

    def opened(name: str, is_profiled: bool = False) -> TimedModel:
        return TimedModel(exported(name), inputs, is_profiled=is_profiled, **settings)

    reference = opened(manifest["reference"])
    end = time.monotonic() + options.time_limit_s
    for place, name in enumerate(manifest["models"]):
        if name in results["measured"]:
            continue
        if time.monotonic() > end:
            print(f"time limit reached after {place} models; run again to go on", file=sys.stderr)
            return 1
        results["measured"][name] = compare(
            opened(name), opened(name, True), reference, seconds=manifest["seconds"]
        )
        write_json(folder / RESULTS_NAME, results)
        print(f"{place + 1} of {len(manifest['models'])} models", file=sys.stderr, flush=True)
    print(folder / RESULTS_NAME)
    return 0


def _results_so_far(folder: Path, manifest: Any, settings: Any) -> dict[str, Any]:
    path = folder / RESULTS_NAME
    device = fingerprint(settings["runtime"])
    if path.exists():
        results: dict[str, Any] = json.loads(path.read_text())
        if results["device"] == device and results["id"] == manifest["id"]:
            return results
        raise ValueError(
            f"{RESULTS_NAME} must be of this device and this bundle, got others'; move it away"
        )
    return {"id": manifest["id"], "device": device, "measured": {}}


@functools.cache
def openvino_core() -> Any:
    """The one OpenVINO core of this process, never given back.

    On a processor with AMX each core lends the thread a stack for signals. Of two that are given
    back in the order in which they came, OpenVINO 2026.4 leaves the thread with a stack that is
    gone, and the next ctrl-C ends the process with a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _open_openvino(
    content: bytes, inputs: dict[str, Any], num_threads: int, precision: str, is_profiled: bool
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import openvino

    core = openvino_core()
    model = core.read_model(content)
    model.reshape({name: list(array.shape) for name, array in inputs.items()})
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": num_threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
        "PERF_COUNT": is_profiled,
    }
    compiled = core.compile_model(model, "CPU", config)
    request = compiled.create_infer_request()

    def operators() -> list[list[Any]]:
        contents = {}
        for node in compiled.get_runtime_model().get_ops():
            names = node.get_rt_info()["originalLayersNames"]
            contents[node.get_friendly_name()] = str(getattr(names, "value", names)).split(",")
        # an average that is cut to whole microseconds falls short by half of one in the mean
        return [
            [
                info.node_name,
                contents.get(info.node_name, []),
                info.real_time.total_seconds() * 1e3 + 5e-4,
            ]
            for info in request.get_profiling_info()
            if info.status == openvino.ProfilingInfo.Status.EXECUTED
        ]

    return lambda: request.infer(inputs, share_inputs=True, share_outputs=True), operators


def _open_onnxruntime(
    content: bytes, inputs: dict[str, Any], num_threads: int, precision: str, is_profiled: bool
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import onnxruntime  # type: ignore[import-untyped, unused-ignore]

    if precision != "float32":
        raise ValueError(
            f"precision must be float32 on onnxruntime, got {precision!r}; use openvino instead"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if is_profiled:
        folder = tempfile.TemporaryDirectory()
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder.name, "profile")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def operators() -> list[list[Any]]:
        with open(session.end_profiling()) as file:
            events = json.load(file)
        folder.cleanup()
        times: dict[str, list[float]] = {}
        suffix = "_kernel_time"
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith(suffix):
                times.setdefault(event["name"][: -len(suffix)], []).append(event["dur"] / 1e3)
        return [[name, [name], _middle_mean(values)] for name, values in times.items()]

    return lambda: session.run(None, inputs), operators


def _middle_mean(values: list[float]) -> float:
    """Mean of the middle half: as robust as a median, and finer than the clock's ticks."""
    ordered = sorted(values[len(values) // 10 :])
    quarter = len(ordered) // 4
    middle = ordered[quarter : len(ordered) - quarter] or ordered
    return sum(middle) / len(middle)


if __name__ == "__main__":
    sys.exit(main())
