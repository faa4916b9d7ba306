"""What quantisation made of a run's network, as plain data for the report."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.size import size_bytes
from lightning_cost.hardware.energy import EnergyModel
from lightning_cost.hardware.layers import layers_of
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.participants import callbacks_of
from lightning_cost.pruning.callback import GlobalRankingPruning
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.equal_bits import with_integers
from lightning_cost.quantization.packing.packed import packed_size_bytes, save_packed
from lightning_cost.quantization.prepare import PrepareQuantization
from lightning_cost.quantization.schemes.registry import label_of
from lightning_cost.recipe.frontier import accuracy_judge
from lightning_cost.recipe.layers import layer_bits

PACKED_NAME = "model.packed"
_ENERGY_MODEL = "eyeriss"


def quantization_record(
    trainer: pl.Trainer,
    network: nn.Module,
    dense: nn.Module,
    example: Tensor,
    run_dir: Path,
    *,
    metric: str,
    batches: Iterable[Any],
) -> dict[str, Any] | None:
    """Save the packed file, and tell what ``report.json`` says of the quantisation.

    Args:
        trainer: After the fit.
        network: As it was trained, on the CPU.
        dense: The network that the run started from.
        example: A batch of one.
        run_dir: Where the packed file goes.
        metric: Name of the share of samples that are classified right.
        batches: Of validation data (inputs, labels), for the metric.

    Returns:
        ``None`` if the network was not quantised.
    """
    changes = [each for each in lineage_of(network) if isinstance(each, PrepareQuantization)]
    if not changes:
        return None
    (change,) = changes
    path = save_packed(network, run_dir / PACKED_NAME)
    calibrated = _calibrated(trainer, network)
    samples = list(batches)
    judge = accuracy_judge(metric, samples, sum(len(labels) for _, labels in samples))
    bits = layer_bits(network)
    integers = None if calibrated is None else with_integers(calibrated)
    deployed = deployed_copy(network, example)
    return {
        "layers": [
            {"name": name, "scheme": scheme.name, "bits": bits[name]}
            for name, scheme in change.schemes.items()
        ],
        "left_float": dict(change.left_float),
        "calibrated": None if calibrated is None else judge(deployed_copy(calibrated, example)),
        "trained": judge(deployed),
        "integers": None
        if integers is None
        else {
            "calibrated": judge(deployed_copy(integers, example)),
            "formula": packed_size_bytes(integers),
        },
        "size_bytes": {
            "dense": size_bytes(deployed_copy(dense, example)),
            "packed": path.stat().st_size,
            "formula": packed_size_bytes(network),
        },
        "energy_mj": {
            "model": f"{_ENERGY_MODEL}: {EnergyModel.load(_ENERGY_MODEL).source}",
            "multiplying": _energy_mj(deployed, example, is_shift_add=False),
            "shift_add": _energy_mj(deployed, example, is_shift_add=True),
        },
        "choice": _choice(trainer),
    }


def _choice(trainer: pl.Trainer) -> dict[str, Any] | None:
    """Why each layer has its scheme, where there were several."""
    callbacks = callbacks_of(trainer)
    choosing = [
        entry.bits
        for entry in callbacks
        if isinstance(entry, QuantizationAwareTraining) and entry.bits is not None
    ]
    if not choosing or choosing[0].chosen is None:
        return None
    chosen = choosing[0].chosen
    planned = [entry.planned for entry in callbacks if isinstance(entry, GlobalRankingPruning)]
    return {
        "limits": {resource.value: limit for resource, limit in chosen.limits.items()},
        "costs": {resource.value: cost for resource, cost in chosen.costs.items()},
        "options": {
            name: [
                {
                    "scheme": label_of(option.scheme),
                    "bits": option.scheme.weight_bits,
                    "harm": _finite(option.harm),
                    "costs": {each.value: cost for each, cost in option.costs.items()},
                    "is_chosen": option.scheme == chosen.schemes[name],
                }
                for option in options
            ]
            for name, options in chosen.options.items()
        },
        "splits": [
            {**split, "harm": _finite(split["harm"])}
            for found in planned
            if found is not None
            for split in found.splits
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _calibrated(trainer: pl.Trainer, network: nn.Module) -> nn.Module | None:
    """The network as it was before it was trained with rounding."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, QuantizationAwareTraining) and callback.calibrated is not None:
            calibrated = duplicated(network)
            calibrated.load_state_dict(callback.calibrated)
            return calibrated
    return None


def _energy_mj(deployed: nn.Module, example: Tensor, *, is_shift_add: bool) -> float:
    layers, _ = layers_of(deployed, example)
    return EnergyModel.load(_ENERGY_MODEL, is_shift_add=is_shift_add).energy_mj(layers)
