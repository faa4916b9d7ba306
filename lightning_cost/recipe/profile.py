"""Measures a latency table of a configured network, here or through a bundle elsewhere."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from tqdm import tqdm

from lightning_cost.hardware.device import AUTO
from lightning_cost.hardware.local import candidate_runtimes, measure_fastest
from lightning_cost.hardware.tables.bundle import PROGRAM_NAME, export_bundle, import_bundle
from lightning_cost.hardware.tables.latency_table import LatencyTable
from lightning_cost.hardware.tables.predictor import LatencyPredictor
from lightning_cost.hardware.tables.profiling import (
    ProfileSettings,
    empty_table,
    profile,
    require_operator_times,
)
from lightning_cost.hardware.tables.staircase import staircases
from lightning_cost.pruning.pricing.family import PrunedFamily
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.quantization.schemes.registry import get_scheme
from lightning_cost.recipe.config import RunConfig
from lightning_cost.recipe.data import first_images
from lightning_cost.runtime.contract import DEPLOYABLE


@dataclass(kw_only=True, slots=True)
class ProfileConfig(RunConfig):
    """What ``profile`` is told: the network and device of ``fit``, and how much to measure.

    Args:
        table: The file to write; measurements that it already holds are kept and continued.
        bundle: A new folder to write for another device, instead of measuring this one.
        results: A bundle's folder with the results of its device, to make ``table`` from.
        measuring: How much to measure.
    """

    table: str = "latency_table.json"
    bundle: str | None = None
    results: str | None = None
    measuring: ProfileSettings = field(default_factory=ProfileSettings)

    def __post_init__(self) -> None:
        if self.bundle is not None and self.results is not None:
            raise ValueError(
                f"bundle and results must not be given at once, got {self.bundle!r} and "
                f"{self.results!r}; write the bundle first, and read it once it ran"
            )


def profile_run(config: ProfileConfig, network: nn.Module, data: pl.LightningDataModule) -> str:
    """Measure what ``config`` asks for, and describe it.

    Args:
        config: The configuration.
        network: Freshly made.
        data: Gives the shape of an input.

    Returns:
        Text for the terminal; its last line is the path that was written.

    Raises:
        ValueError: If the network has no channels that could vary, the runtime cannot be profiled,
            or a table or bundle is not what it should be.
    """
    path = Path(config.table)
    begun = LatencyTable.load(path) if config.bundle is None and path.exists() else None
    wanted = config.runtime or config.hardware.runtime or AUTO
    if wanted == AUTO and begun is not None:
        wanted = begun.runtime
    if wanted != AUTO:
        require_operator_times(wanted)
    family = _family(config, network, data)
    options: dict[str, Any] = {
        "runtime": _fastest(config, family) if wanted == AUTO else wanted,
        "num_threads": config.hardware.num_threads,
        "precision": config.hardware.precision,
    }
    if config.bundle is not None:
        folder = export_bundle(family, config.bundle, settings=config.measuring, **options)
        return f"on the device: python {PROGRAM_NAME}; then profile results={folder}\n{folder}"
    setting = empty_table(family, **options)
    table = setting if begun is None else begun
    table.require_setting(setting)
    with tqdm(desc="networks", file=sys.stderr, disable=not config.trainer.progress_bar) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        table = profile(family, table, settings=config.measuring, path=path, progress=progress)
    table.save(path)  # also where the time was over before the first network
    return table_text(table, config.table)


def import_results(config: ProfileConfig) -> str:
    """Make ``config.table`` of the results that a bundle brought back, and describe it.

    Returns:
        Text for the terminal; its last line is the path that was written.

    Raises:
        ValueError: If the table exists already, or the bundle is not what it should be.
    """
    if config.results is None or Path(config.table).exists():
        raise ValueError(
            f"table must be a new file for results of a bundle, got {config.table!r} for "
            f"{config.results!r}; choose another"
        )
    table = import_bundle(config.results)
    table.save(config.table)
    return table_text(table, config.table)


def table_text(table: LatencyTable, path: str) -> str:
    """The layers of a table with their steps, and how well it predicts, as lines of text."""
    steps = staircases(table)
    lines = [
        f"{table.runtime} {table.device.get('runtime_version')}, {table.precision}, "
        f"{table.num_threads} thread(s), batch {table.batch_size}, {table.device.get('cpu')}"
    ]
    for network in table.networks:
        if not network.samples:
            lines += ["", f"{network.name}: no networks yet"]
            continue
        observed = network.observations()
        widest = int(np.argmax(observed.outs.sum(axis=1)))
        lines += [
            "",
            f"{network.name}: {len(observed)} networks of {observed.latency_ms.min():.3f} to "
            f"{observed.latency_ms.max():.3f} ms; the widest:",
            f"{'layer':32} {'channels':>12} {'ms':>8}  {'steps':>8}  kind",
        ]
        for place, layer in enumerate(network.layers):
            channels = f"{observed.ins[widest, place]:.0f} → {observed.outs[widest, place]:.0f}"
            stairs = steps.get(layer.signature)
            shown = "" if stairs is None else f"{stairs.in_step} → {stairs.out_step}"
            lines.append(
                f"{layer.name:32} {channels:>12} {observed.layer_ms[widest, place]:8.4f}  "
                f"{shown:>8}  {_briefly(layer.signature)}"
            )
        try:
            predictor = LatencyPredictor.from_table(table, network.layers)
        except ValueError as error:
            lines.append(f"no predictions yet: {error}")
        else:
            lines.append(f"predictions are {predictor.error}")
    return "\n".join([*lines, path])


def _briefly(signature: str) -> str:
    """A signature without what is as usual."""
    usual = {"strides1x1", "dilations1x1", "batch1"}
    return " ".join(word for word in signature.split() if word not in usual)


def _family(
    config: ProfileConfig, network: nn.Module, data: pl.LightningDataModule
) -> PrunedFamily:
    images = first_images(data)
    example = torch.zeros_like(images[:1]).expand(config.hardware.batch_size, *images.shape[1:])
    grouping = channel_groups(network, example, exclude=config.compress.channels.exclude)
    if not grouping.groups:
        raise ValueError(
            "network must have channels that can vary, got none; exclude less, or time the network "
            "as a whole: measure(network, example, hardware=Hardware.local())"
        )
    scheme, rules = config.compress.quantize, config.compress.quantization

    def quantized(built: nn.Module) -> nn.Module:
        return QuantizationAwareTraining(scheme, rules=rules).preview(built, example)

    return PrunedFamily(
        network,
        example.contiguous(),
        grouping,
        name=_name_of(config, tuple(example.shape[1:])),
        preview=None if scheme is None else quantized,
    )


def _name_of(config: ProfileConfig, shape: tuple[int, ...]) -> str:
    """What tells an architecture apart: class and arguments, input, fixed layers, weights' type."""
    given = {key: value for key, value in config.model.items() if value is not None}
    name = str(given.pop("_target_", "network")).rpartition(".")[2]
    words = [name, *(f"{key}={value}" for key, value in given.items())]
    words += ["on", "x".join(map(str, shape))]
    scheme = config.compress.quantize
    words += [config.hardware.precision if scheme is None else get_scheme(scheme).name]
    if config.compress.channels.exclude:
        words += ["without", *config.compress.channels.exclude]
    return " ".join(words)


def _fastest(config: ProfileConfig, family: PrunedFamily) -> str:
    """The fastest runtime of those that can be profiled here."""
    precision = config.hardware.precision
    installed = [name for name in DEPLOYABLE if name in candidate_runtimes(precision)]
    if config.bundle is not None or not installed:
        raise ValueError(
            f"runtime must be one of {', '.join(DEPLOYABLE)} that runs on the device, got auto; "
            f"set runtime={DEPLOYABLE[0]}"
        )
    deployed = family.built(family.totals)
    found = [
        measure_fastest(
            deployed,
            family.example,
            runtime=runtime,
            num_threads=config.hardware.num_threads,
            precision=precision,
        )
        for runtime in installed
    ]
    fastest = min(found, key=lambda latency: latency.value).runtime
    assert fastest is not None
    print(f"runtime: {fastest}, the fastest here", file=sys.stderr)
    return fastest
