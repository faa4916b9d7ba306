"""Predicted against measured latency of networks that the latency table never saw.

For ResNet-20 and MobileNetV2, in float32 and int8, on each runtime: profile a table, then draw
random widths (any number of channels from 8 % to all of them), build, export and time those
networks, and compare. The table's networks come from the profiler's own design and another
generator. Networks have random weights: latency does not depend on them. Beside it, on the same
networks: latency proportional to MACs, and a roofline; both get their figures fitted to the table's
networks. Every network is timed in turn with one reference, as the table's were. Tables and test
measurements are kept beside the results, and a run that was interrupted goes on from them.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_file import FOLDER, ResultsFile, argument_parser
from scipy.optimize import minimize
from torch import nn

from lightning_cost.hardware.layers import layers_of
from lightning_cost.hardware.roofline import Roofline
from lightning_cost.hardware.tables.latency_table import LatencyTable
from lightning_cost.hardware.tables.predictor import LatencyPredictor, PredictionError
from lightning_cost.hardware.tables.profiling import (
    FamilyTimer,
    ProfileSettings,
    empty_table,
    profile,
)
from lightning_cost.hardware.tables.width_design import width_design
from lightning_cost.hardware.tables.width_features import novelty, weight_bytes
from lightning_cost.pruning.pricing.family import PrunedFamily
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.zoo.mobilenet import mobilenet_v2_small
from lightning_cost.zoo.resnet import resnet20

NAME = "latency_predictor"
IMAGE = (1, 28, 28)
WIDTH = 32
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": lambda: resnet20(width=WIDTH, in_channels=IMAGE[0]),
    "mobilenet_v2": lambda: mobilenet_v2_small(width=WIDTH, in_channels=IMAGE[0]),
}
RUNTIMES = ("openvino", "onnxruntime")
SCHEMES = ("float32", "int8")
NUM_TESTED = 40
TEST_SEED = 1000


def family_of(network_name: str, scheme: str, seed: int) -> PrunedFamily:
    """The networks of one architecture."""
    torch.manual_seed(seed)
    network, example = NETWORKS[network_name](), torch.randn(1, *IMAGE)

    def quantized(built: nn.Module) -> nn.Module:
        return QuantizationAwareTraining("int8").preview(built, example)

    return PrunedFamily(
        network,
        example,
        channel_groups(network, example),
        name=f"{network_name} {scheme}",
        preview=quantized if scheme == "int8" else None,
    )


def tested_widths(family: PrunedFamily, seed: int, num_networks: int, seen: Any) -> Any:
    """Random widths that the profiler's design does not have."""
    generator = np.random.default_rng(TEST_SEED + seed)
    drawn = width_design(family.totals, 2 * num_networks, generator)
    is_unseen = [tuple(row) not in seen for row in drawn.tolist()]
    return drawn[is_unseen][:num_networks]


def case(
    network_name: str, scheme: str, runtime: str, seed: int, settings: ProfileSettings, tested: int
) -> Iterator[dict[str, Any]]:
    """One row for each way to predict."""
    family = family_of(network_name, scheme, seed)
    prefix = "quick_" if settings.num_networks < ProfileSettings().num_networks else ""
    path = FOLDER / NAME / f"{prefix}table_{network_name}_{scheme}_{runtime}_seed{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = LatencyTable.load(path) if path.exists() else empty_table(family, runtime=runtime)
    table = profile(family, table, settings=settings, path=path, progress=_progress)
    profiled = table.networks[0]
    predictor = LatencyPredictor.from_table(table, family.graph.layers)
    design = width_design(
        family.totals, settings.num_networks, np.random.default_rng(settings.seed)
    )
    widths = tested_widths(family, seed, tested, set(map(tuple, design.tolist())))
    outs, ins = family.channels_at(widths)
    truth = _measured(
        family, table, widths, path.with_name(f"tested_{path.name}"), settings.seconds
    )
    known = profiled.observations()
    speed = _assignments_per_second(predictor, outs, ins)
    ways = {
        "latency table": predictor.predict(outs, ins).latency_ms,
        "proportional to MACs": _by_macs(family, known, outs, ins),
        "roofline": _by_roofline(family, known, outs, ins),
    }
    for method, predicted in ways.items():
        error = PredictionError.between(predicted, truth)
        yield {
            "case": f"{network_name} {scheme} {runtime}",
            "method": method,
            "seed": seed,
            "median_error_ratio": round(error.median_ratio, 4),
            "p90_error_ratio": round(error.p90_ratio, 4),
            "rank_correlation": round(error.rank_correlation, 4),
            "held_out_median_error_ratio": round(predictor.error.median_ratio, 4),
            "num_networks_in_table": len(profiled.samples),
            "num_networks_tested": len(truth),
            "shortest_ms": round(float(truth.min()), 4),
            "longest_ms": round(float(truth.max()), 4),
            "reference_ms": round(profiled.reference_ms, 4),
            "assignments_per_s": round(speed),
            **{f"table_{name}": value for name, value in findings(table).items()},
        }


def _measured(
    family: PrunedFamily, table: LatencyTable, widths: Any, path: Path, seconds: float
) -> Any:
    """Latencies of the networks of ``widths``, each built and exported; kept, to go on with."""
    kept = json.loads(path.read_text()) if path.exists() else {"widths": [], "latency_ms": []}
    timer = FamilyTimer(family, table)
    for row in widths[len(kept["widths"]) :]:
        found = timer.compare(family.exported(row), seconds)
        kept["widths"].append(row.tolist())
        kept["latency_ms"].append(found["ratio"] * table.networks[0].reference_ms)
        path.write_text(json.dumps(kept))
        _progress(len(kept["widths"]), len(widths))
    if kept["widths"] != widths.tolist():
        raise ValueError(f"{path} must hold the widths tested here, got others'; move it away")
    return np.array(kept["latency_ms"])


def _assignments_per_second(predictor: LatencyPredictor, outs: Any, ins: Any) -> float:
    """How many networks a thread prices in a second, 40,000 at once; the best of a few tries."""
    rows = np.arange(40_000) % len(outs)
    many_outs, many_ins = outs[rows], ins[rows]
    seconds = []
    for _ in range(5):
        start = time.process_time()
        predictor.predict(many_outs, many_ins)
        seconds.append(time.process_time() - start)
    return len(rows) / min(seconds)


def _macs(family: PrunedFamily, outs: Any, ins: Any) -> Any:
    layers = _layers(family, outs, ins)
    return sum(np.broadcast_to(layer.macs, len(outs)) for layer in layers)


def _by_macs(family: PrunedFamily, known: Any, outs: Any, ins: Any) -> Any:
    rate = np.median(known.latency_ms / _macs(family, known.outs, known.ins))
    return rate * _macs(family, outs, ins)


def _by_roofline(family: PrunedFamily, known: Any, outs: Any, ins: Any) -> Any:
    """A roofline whose peak and bandwidth suit the networks of the table best."""

    def predicted(logs: Any, layers: list[Any], num_networks: int) -> Any:
        peak, bandwidth = np.exp(logs)
        roof = Roofline(peak_gmacs_fp32=peak, peak_gmacs_int8=peak, bandwidth_gb_s=bandwidth)
        return sum(np.broadcast_to(roof.layer_ms(layer), num_networks) for layer in layers)

    there = _layers(family, known.outs, known.ins)

    def error(logs: Any) -> float:
        ratios = predicted(logs, there, len(known)) / known.latency_ms
        return float(np.median(np.abs(np.log(ratios))))

    starts = [(np.log(peak), np.log(band)) for peak in (20, 80, 320) for band in (5, 20, 80)]
    found = min(
        (minimize(error, start, method="Nelder-Mead") for start in starts), key=lambda f: f.fun
    )
    return predicted(found.x, _layers(family, outs, ins), len(outs))


def _layers(family: PrunedFamily, outs: Any, ins: Any) -> list[Any]:
    """The layers as the cost models see them, at widths [N]."""
    place = {layer.name: index for index, layer in enumerate(family.graph.layers)}
    found, _ = layers_of(family.built(family.totals), torch.zeros(1, *IMAGE))
    return [
        layer.with_channels(
            in_channels=ins[:, place[layer.name]], out_channels=outs[:, place[layer.name]]
        )
        if layer.name in place
        else layer
        for layer in found
    ]


def findings(table: LatencyTable) -> dict[str, float | None]:
    """What the samples of a table say of the device, as ratios of medians.

    Layers are compared with others of the same signature and the same channels; for the stairs with
    those of the same input channels.
    """
    network = table.networks[0]
    known = network.observations()
    filled = weight_bytes(network.layers, known.outs, known.ins)
    is_light = filled < np.median(filled)
    is_new = novelty(network.layers, known.outs, known.ins)
    seen: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for place, layer in enumerate(network.layers):
        for row in range(len(known)):
            key = (layer.signature, known.outs[row, place], known.ins[row, place])
            kinds = seen.setdefault(key, {})
            kinds.setdefault("new" if is_new[row, place] else "again", []).append(
                known.layer_ms[row, place]
            )
            if place == 0:
                weight = "light" if is_light[row] else "heavy"
                kinds.setdefault(weight, []).append(known.layer_ms[row, place])

    def ratio(over: str, under: str) -> float | None:
        found = [
            statistics.median(kinds[over]) / statistics.median(kinds[under])
            for kinds in seen.values()
            if over in kinds and under in kinds and min(kinds[under]) > 0
        ]
        return round(float(statistics.median(found)), 3) if found else None

    return {
        "new_kernel_over_repeated": ratio("new", "again"),
        "first_layer_in_heavy_over_light_networks": ratio("heavy", "light"),
        "17_to_31_channels_over_32": _past_a_step(known, network.layers),
    }


def _past_a_step(known: Any, layers: Any) -> float | None:
    """Time of 3x3 convolutions of 17 to 31 output channels over that of 32, inputs of 17 to 32."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for place, layer in enumerate(layers):
        if layer.is_depthwise or not layer.signature.startswith("Conv 3x3 strides1x1"):
            continue
        outs, times = known.outs[:, place], known.layer_ms[:, place]
        is_narrow = (known.ins[:, place] > 16) & (known.ins[:, place] <= 32)
        between, full = found.setdefault(layer.signature, ([], []))
        between += times[is_narrow & (outs > 16) & (outs < 32)].tolist()
        full += times[is_narrow & (outs == 32)].tolist()
    ratios = [
        statistics.median(between) / statistics.median(full)
        for between, full in found.values()
        if min(len(between), len(full)) >= 5
    ]
    return round(statistics.median(ratios), 3) if ratios else None


def _progress(done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        print(f"{NAME}: {done} of {total} networks", file=sys.stderr, flush=True)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"{'case':36} {'method':22} {'median error':>13} {'90 %':>8} {'rank corr.':>11} "
        f"{'range, ms':>16}"
    ]
    lines += [
        f"{row['case']:36} {row['method']:22} {row['median_error_ratio']:13.1%} "
        f"{row['p90_error_ratio']:8.1%} {row['rank_correlation']:11.3f} "
        f"{row['shortest_ms']:7.3f} – {row['longest_ms']:.3f}"
        for row in rows
    ]
    ours = [row for row in rows if row["method"] == "latency table"]
    worst = max(row["median_error_ratio"] for row in ours)
    usual = statistics.median(row["median_error_ratio"] for row in ours)
    return [
        *lines,
        f"latency table: median error {usual:.1%} in the median case, {worst:.1%} in the worst",
    ]


def main() -> None:
    parser = argument_parser(
        __doc__, seeds=[0], quick="ResNet-20 in int8 on OpenVINO alone, 60 networks in the table"
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), choices=RUNTIMES)
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=SCHEMES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = ResultsFile(NAME, quick=options.quick)
    settings = ProfileSettings(num_networks=60) if options.quick else ProfileSettings()
    cases = [
        (network, scheme, runtime, seed)
        for seed in options.seeds
        for network in options.networks
        for scheme in options.schemes
        for runtime in options.runtimes
    ]
    if options.quick:
        cases = [("resnet20", "int8", "openvino", options.seeds[0])]
    for network, scheme, runtime, seed in cases:
        results.progress(f"{network} {scheme} {runtime} seed {seed}")
        for row in case(network, scheme, runtime, seed, settings, NUM_TESTED):
            results.add(row)
    results.save(_table(results.rows))


if __name__ == "__main__":
    main()
