"""Accuracy at equal bytes: bits chosen layer by layer beside the same bits everywhere.

ResNet-20 of width 16, trained once a seed as ``pruning.py`` does. ``uniform`` has int3, int4 or
int5 in every layer but the first and the last, which keep int8; ``mixed`` may have int2 to int8 in
each, chosen by what rounding does to the outputs of 128 training images, within the stored bytes
of ``uniform``. ``_ptq`` is calibrated on 8 batches of training images; ``_qat`` trains 430 steps of
128 images, as ``quantization.py`` does. Accuracy is that of the file, run by OpenVINO over the
test images.

Rows are saved as they come, one file a seed; what is there is not run again.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from quantization_peers import FREEZE_AFTER
from results_file import FOLDER, ResultsFile, Rows, argument_parser
from torch import nn
from trained_base import BASE_EPOCHS, Base, base_of, epochs_of

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.resource import Resource
from lightning_cost.monitor.measure import measure
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.mixed.chooser import BitChooser
from lightning_cost.quantization.packing.packed import packed_size_bytes
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.schemes.registry import get_schemes
from quantization import (
    STEPS,
    accuracy_columns,
    calibration_batches,
    tuned,
    written_by_us,
)

NAME = "mixed_precision"
TARGETS = ["int3", "int4", "int5"]
CHOICES = [f"int{bits}" for bits in range(2, 9)]
METHODS = ["uniform_ptq", "mixed_ptq", "uniform_qat", "mixed_qat"]


def stored_bytes_of(base: Base, scheme: str) -> float:
    """Of the network with ``scheme`` everywhere but at its ends."""
    preview = QuantizationAwareTraining(scheme).preview(copy.deepcopy(base.network), base.example)
    cost = measure(preview, base.example, resources=["size_bytes"])
    return cost[Resource.size_bytes].value


def quantized(base: Base, method: str, target: str, steps: int) -> nn.Module:
    """The network of one row, calibrated or trained."""
    network, is_mixed = copy.deepcopy(base.network), method.startswith("mixed")
    budget = ModelBudget(size_bytes=stored_bytes_of(base, target)) if is_mixed else None
    if method.endswith("qat"):
        training = QuantizationAwareTraining(
            CHOICES if is_mixed else target,
            start=0,
            epochs=epochs_of(steps, base.data),
            rules=QuantizationRules(freeze_after=FREEZE_AFTER, freeze_norms_after=FREEZE_AFTER),
            budget=budget,
        )
        return tuned(network, base, steps, [training])
    batches = calibration_batches(base)
    if budget is None:
        change = plan_quantization(network, batches[0], target)
    else:
        chooser = BitChooser(
            get_schemes(CHOICES), QuantizationRules(), budget=budget, hardware=None
        )
        limits = chooser.find_limits(network, base.example, {}, is_alone=True)
        chooser.chosen = chooser.choose(network, base.example, batches, limits, reduced_range=False)
        change = chooser.plan(network, base.example, reduced_range=False)
    apply_change(network, change)
    calibrate(network, batches)
    return network


def run_row(base: Base, method: str, target: str, steps: int) -> dict[str, Any]:
    network = quantized(base, method, target, steps)
    bits = measure(network, base.example, resources=["size_bytes"])[Resource.size_bytes].value
    with tempfile.TemporaryDirectory() as folder:
        files, deployed = written_by_us(network, base.example, Path(folder) / "model")
        return {
            "seed": base.seed,
            "stored_bytes": bits,
            "packed_bytes": packed_size_bytes(network),
            **accuracy_columns(files[0], deployed, base),
        }


def run_seed(base: Base, rows: Rows, settings: argparse.Namespace) -> None:
    for method in settings.methods:
        for target in settings.targets:
            rows.get(
                target,
                method,
                lambda method=method, target=target: run_row(base, method, target, settings.steps),
            )


def table_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line a row."""
    lines = [f"{'bytes of':10}{'method':14}{'seed':>5}{'stored':>10}{'packed':>10}{'test, %':>9}"]
    return lines + [
        f"{row['case']:10}{row['method']:14}{row['seed']:>5}{row['stored_bytes']:>10.0f}"
        f"{row['packed_bytes']:>10}{row['test_accuracy_percent']:>9.2f}"
        for row in rows
    ]


def main() -> None:
    parser = argument_parser(__doc__, seeds=(0, 1, 2), quick="one seed, 2 epochs of base, 40 steps")
    parser.add_argument("--data", default="fashion_mnist", help="a name that ImageData knows")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    settings.steps, epochs = STEPS, BASE_EPOCHS
    if settings.quick:
        settings.seeds, settings.steps, epochs = settings.seeds[:1], 40, 2
    results = ResultsFile(NAME, quick=settings.quick)
    prefix = "quick_" if settings.quick else ""
    for seed in settings.seeds:
        rows = Rows(FOLDER / NAME / f"{prefix}{settings.data}_seed{seed}.jsonl", results)
        run_seed(base_of(settings.data, seed, epochs=epochs), rows, settings)
    for file in sorted((FOLDER / NAME).glob(f"{prefix}{settings.data}_seed*.jsonl")):
        for line in file.read_text().splitlines():
            results.add(json.loads(line))
    results.save(table_of(results.rows))


if __name__ == "__main__":
    main()
