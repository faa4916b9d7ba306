"""Latency tables of devices whose law is known in closed form."""

import numpy as np

from lightning_cost.hardware.tables.latency_table import LatencyTable, ProfiledNetwork, WidthSample
from lightning_cost.runtime.width_layer import WidthLayer

LAYERS = (
    WidthLayer(name="wide", signature="Conv 3x3", is_depthwise=False, bytes_per_weight=36.0),
    WidthLayer(name="filter", signature="Conv depthwise", is_depthwise=True, bytes_per_weight=36.0),
    WidthLayer(name="point", signature="Conv 1x1", is_depthwise=False, bytes_per_weight=4.0),
)
CONSTANT_MS, FACTOR = 0.02, 0.9


def layer_ms(outs, ins):
    """What each of ``LAYERS`` takes [N, 3]: stairs of 16 and 8, and constants."""

    def up(channels, step):
        return np.ceil(channels / step) * step

    return np.stack(
        [
            0.01 + 2e-5 * up(outs[:, 0], 16) * up(ins[:, 0], 8),
            0.005 + 4e-4 * up(outs[:, 1], 8),
            0.002 + 1e-5 * outs[:, 2] * ins[:, 2],
        ],
        axis=1,
    )


def latency_ms(outs, ins):
    """What a pass takes [N]: less than its layers together, and a constant."""
    return CONSTANT_MS + FACTOR * layer_ms(outs, ins).sum(axis=1)


def channels(num_networks, seed=0):
    """Random channels of ``LAYERS``: outputs and inputs [N, 3], as they follow from each other."""
    generator = np.random.default_rng(seed)
    first, middle, last = generator.integers(4, 96, (3, num_networks)).astype(float)
    return np.stack([middle, middle, last], axis=1), np.stack([first, middle, middle], axis=1)


def network(num_networks, *, seed=0, name="net", layers=LAYERS, noise=0.0, latency=latency_ms):
    """That many networks, measured without an error or with one."""
    outs, ins = channels(num_networks, seed)
    factors = np.exp(np.random.default_rng(seed).normal(0, noise, num_networks))
    taken, parts = latency(outs, ins) * factors, layer_ms(outs, ins) * factors[:, None]
    samples = tuple(
        WidthSample(
            outs=tuple(outs[index].astype(int).tolist()),
            ins=tuple(ins[index].astype(int).tolist()),
            latency=float(taken[index]),
            spread=0.001,
            layers=tuple(parts[index].tolist()),
            operators=(1, 1, 2),
        )
        for index in range(num_networks)
    )
    return ProfiledNetwork(name=name, layers=layers, reference_ms=0.25, samples=samples)


def table(*networks, **settings):
    device = {"cpu": "Some CPU", "machine": "x86_64", "runtime_version": "1.2.3", "num_cores": 2}
    options = {
        "device": device,
        "runtime": "openvino",
        "num_threads": 1,
        "precision": "float32",
        "batch_size": 1,
        "created": "2026-11-23",
    }
    return LatencyTable(networks=networks, **(options | settings))
