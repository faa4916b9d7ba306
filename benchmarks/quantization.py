"""Accuracy, size and speed of quantised networks as files: ours beside torchao and NNCF.

ResNet-20 of width 16, trained once a seed as ``pruning.py`` does, and MobileNetV2-small of width 8,
trained for half as many epochs, as a step of it takes longer on a CPU. ``_ptq`` is quantised after
training, with the same 8 batches of training images for everyone to set ranges;
``_qat`` trains 430 steps of 128 images with fake quantisers: the same batches, SGD with Nesterov
momentum, peak 0.02, a tenth of the steps up, half a cosine down, float32. ``fp32_longer`` trains on
for as many steps without quantisers, since steps alone help. Ours is ``QuantizationAwareTraining``
in ``Trainer.fit``; below 8 bits the first and the last layer keep 8. Of equal bytes are int8 and
two powers of two, int4 and one power or APoT, and nearly int5 and FLightNN at 1.3 terms;
``gradual`` rounds the largest weights first, as INQ; ``learned`` trains the ranges of activations,
as NNCF does. torchao is PT2E with the x86 quantiser, NNCF
its default preset; both follow their own recipe but for optimizer and batches.

Each is written to a file, ONNX or OpenVINO's own for NNCF, which OpenVINO then runs over the test
images, read once: that is the accuracy reported, beside what PyTorch computes from the network that
was written and what ONNX Runtime computes from the file. Latency is of one image on one thread,
measured in turn with the float32 file.

Rows are saved as they come, one file a seed; what is there is not run again.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from quantization_peers import FREEZE_AFTER, PEERS
from results_file import FOLDER, ResultsFile, Rows, argument_parser
from torch import Tensor, nn
from trained_base import BASE_EPOCHS, BATCH_SIZE, MODELS, Base, base_of, epochs_of, fine_tuned

from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.packing.packed import save_packed
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.schemes.registry import get_scheme
from lightning_cost.runtime.contract import open_file
from lightning_cost.runtime.onnx_file import write_onnx
from lightning_cost.runtime.openvino import OpenVinoRuntime
from lightning_cost.runtime.timing import time_alternating

NAME = "quantization"
STEPS, PEAK = 430, 0.02
EPOCHS = {"resnet20": BASE_EPOCHS, "mobilenet_v2_small": BASE_EPOCHS // 2}
NUM_CALIBRATION_BATCHES = 8
NUM_TIMINGS = 3
SCHEMES: dict[str, Any] = {
    "int8": "int8",
    "int5": "int5",
    "int4": "int4",
    "power_of_two": "power_of_two",
    "power_of_two_2": "power_of_two_2",
    "flightnn": {"name": "flightnn", "mean_terms": 1.3},
    "apot": "apot",
    "power_of_two_gradual": "power_of_two",
    "int8_learned": "int8",
}
# of what there is in training alone
RULES: dict[str, dict[str, Any]] = {
    "power_of_two_gradual": {"gradual": [0.5, 0.75, 0.875, 1.0]},
    "int8_learned": {"observer": "learned"},
}
FP32, FP32_LONGER = "fp32", "fp32_longer"
METHODS = [
    FP32,
    FP32_LONGER,
    *(
        f"{name}_{when}"
        for when in ("ptq", "qat")
        for name in (*SCHEMES, *PEERS)
        if when == "qat" or name not in RULES
    ),
]


def calibration_batches(base: Base) -> list[Tensor]:
    """Training images, not augmented."""
    part = base.data.part("train")
    starts = range(0, NUM_CALIBRATION_BATCHES * BATCH_SIZE, BATCH_SIZE)
    return [part.__getitems__(range(start, start + BATCH_SIZE))[0] for start in starts]


def tuned(
    network: nn.Module, base: Base, steps: int, callbacks: Sequence[pl.Callback] = ()
) -> nn.Module:
    """``network`` after the steps that every trained method gets."""
    pl.seed_everything(base.seed, verbose=False)
    return fine_tuned(
        network, base.data, steps=steps, peak=PEAK, callbacks=callbacks, precision="32-true"
    )


def quantized_by_us(base: Base, scheme: str, steps: int) -> nn.Module:
    """A prepared copy, trained for ``steps`` steps or calibrated if there are none."""
    network, settings = copy.deepcopy(base.network), get_scheme(SCHEMES[scheme])
    if steps:
        training = QuantizationAwareTraining(
            settings,
            start=0,
            epochs=epochs_of(steps, base.data),
            rules=QuantizationRules(
                freeze_after=FREEZE_AFTER,
                freeze_norms_after=FREEZE_AFTER,
                **RULES.get(scheme, {}),
            ),
        )
        return tuned(network, base, steps, [training])
    batches = calibration_batches(base)
    apply_change(network, plan_quantization(network, batches[0], settings))
    calibrate(network, batches)
    return network


def quantized_by_peer(base: Base, peer: str, steps: int) -> nn.Module:
    """As :func:`quantized_by_us`, by another tool."""
    tool = PEERS[peer]
    network = tool.prepare(base.network, calibration_batches(base), steps > 0)
    return tuned(network, base, steps, tool.callbacks) if steps else network


def written_by_us(network: nn.Module, example: Tensor, path: Path) -> tuple[list[Path], nn.Module]:
    deployed = deployed_copy(network, example)
    return [write_onnx(deployed, example, path.with_suffix(".onnx"))], deployed


def run_method(base: Base, method: str, steps: int, dense_file: Path) -> dict[str, Any]:
    """Everything about one method, from the file that it ends in."""
    kind, _, when = method.rpartition("_")
    start = time.process_time()
    write, steps = written_by_us, 0 if when in ("ptq", FP32) else steps
    if method == FP32:
        network = base.network
    elif method == FP32_LONGER:
        network = tuned(copy.deepcopy(base.network), base, steps)
    elif kind in PEERS:
        network, write = quantized_by_peer(base, kind, steps), PEERS[kind].write
    else:
        network = quantized_by_us(base, kind, steps)
    trained_s = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        packed = {}
        if kind in SCHEMES:
            path = save_packed(network, Path(folder) / "model.packed")
            packed = {"packed_bytes": path.stat().st_size}
        start = time.process_time()
        files, deployed = write(network, base.example, Path(folder) / "model")
        written_s = time.process_time() - start
        return {
            "seed": base.seed,
            "base": base.digest,
            "steps": steps,
            "quantize_cpu_s": round(trained_s, 1),
            "convert_export_cpu_s": round(written_s, 1),
            "file_bytes": sum(file.stat().st_size for file in files),
            **packed,
            **accuracy_columns(files[0], deployed, base),
            **latency_columns(files[0], dense_file, base.example),
        }


def accuracy_columns(file: Path, deployed: nn.Module, base: Base) -> dict[str, Any]:
    """Of the file on each runtime that runs it and of the network in PyTorch, over the test set."""
    part = base.data.part("test")
    images, labels = part.__getitems__(range(len(part)))
    found = {"openvino": predictions_of_file(file, "openvino", images)}
    if file.suffix == ".onnx":
        found["onnxruntime"] = predictions_of_file(file, "onnxruntime", images)
    with torch.no_grad():
        found["torch"] = torch.cat([deployed(batch).argmax(1) for batch in images.split(500)])
    columns = {"test_accuracy_percent": percent_equal(found["openvino"], labels)}
    for name in ("torch", "onnxruntime"):
        if name in found:
            columns[f"{name}_accuracy_percent"] = percent_equal(found[name], labels)
            columns[f"{name}_agreement_percent"] = percent_equal(found[name], found["openvino"])
    return columns


def predictions_of_file(file: Path, runtime: str, images: Tensor) -> Tensor:
    with open_file(file, runtime=runtime, num_threads=1) as session:
        logits = [torch.from_numpy(session.run(batch)[0]) for batch in images.split(500)]
    return torch.cat(logits).argmax(1)


def percent_equal(one: Tensor, other: Tensor) -> float:
    return round(100 * float((one == other).double().mean()), 2)


def latency_columns(file: Path, dense_file: Path, example: Tensor) -> dict[str, Any]:
    """Of one image on OpenVINO, measured in turn with the float32 file."""
    runtime = OpenVinoRuntime()
    sessions = {
        "own": runtime.open_for(file, example, num_threads=1),
        "dense": runtime.open_for(dense_file, example, num_threads=1),
    }
    calls = {name: session.bind(example) for name, session in sessions.items()}
    rounds = [time_alternating(calls) for _ in range(NUM_TIMINGS)]
    medians = {
        name: statistics.median(timing[name].median_ms for timing in rounds) for name in calls
    }
    return {
        "latency_ms": round(medians["own"], 4),
        "speedup_of_fp32": round(medians["dense"] / medians["own"], 2),
    }


def run_seed(base: Base, model: str, rows: Rows, settings: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dense = written_by_us(base.network, base.example, Path(folder) / "dense")[0][0]
        for method in settings.methods:
            rows.get(
                model,
                method,
                lambda method=method: run_method(base, method, settings.steps, dense),
            )


COLUMNS = {
    "test_accuracy_percent": ("test, %", 16),
    "torch_agreement_percent": ("as PyTorch, %", 15),
    "onnxruntime_accuracy_percent": ("ORT, %", 9),
    "file_bytes": ("bytes", 10),
    "packed_bytes": ("packed", 10),
    "speedup_of_fp32": ("x faster", 10),
    "convert_export_cpu_s": ("write, s", 10),
}


def table_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Means over the seeds, and the standard deviation of the accuracy, by model and method."""
    by_method: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        by_method.setdefault((row["case"], row["method"]), []).append(row)
    lines = [
        f"{'model':20}{'method':20}{'seeds':>6}"
        + "".join(f"{title:>{width}}" for title, width in COLUMNS.values())
    ]
    for (case, method), of in by_method.items():
        cells = [
            f"{_cell(name, [row[name] for row in of if name in row]):>{width}}"
            for name, (_, width) in COLUMNS.items()
        ]
        lines.append(f"{case:20}{method:20}{len(of):>6}" + "".join(cells))
    return lines


def _cell(name: str, values: Sequence[float]) -> str:
    if not values:
        return "-"
    if name == "test_accuracy_percent":
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        return f"{statistics.fmean(values):.2f} ± {deviation:.2f}"
    return (
        f"{statistics.fmean(values):.0f}" if "bytes" in name else f"{statistics.fmean(values):.2f}"
    )


def main() -> None:
    parser = argument_parser(
        __doc__, seeds=(0, 1, 2), quick="one seed, ResNet-20, 2 epochs of base, 40 steps"
    )
    parser.add_argument("--data", default="fashion_mnist", help="a name that ImageData knows")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    settings.steps, epochs = STEPS, EPOCHS
    if settings.quick:
        settings.seeds, settings.models = settings.seeds[:1], settings.models[:1]
        settings.steps, epochs = 40, dict.fromkeys(MODELS, 2)
    results = ResultsFile(NAME, quick=settings.quick)
    folder = FOLDER / NAME
    prefix = "quick_" if settings.quick else ""
    for seed in settings.seeds:
        rows = Rows(folder / f"{prefix}{settings.data}_seed{seed}.jsonl", results)
        for model in settings.models:
            base = base_of(settings.data, seed, epochs=epochs[model], model=model)
            run_seed(base, model, rows, settings)
    for file in sorted(folder.glob(f"{prefix}{settings.data}_seed*.jsonl")):
        for line in file.read_text().splitlines():
            results.add(json.loads(line))
    results.save(table_of(results.rows))


if __name__ == "__main__":
    main()
