"""A device whose latency grows in stairs of channels, and a ranking's path for random networks."""

import numpy as np
from hypothesis import strategies as st

from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.target.path import RemovalPath


class StairDevice:
    """Layers in a row, each between two groups; each costs on full steps of its channels."""

    def __init__(self, totals, step, overhead, noise=0.0, seed=0):
        self.totals = np.array(totals)
        self.step, self.overhead, self.noise = step, overhead, noise
        self.generator = np.random.default_rng(seed)
        self.num_readings = 0

    def latency(self, widths):
        """[N] of widths [N, num_groups], without noise."""
        rows = np.atleast_2d(widths).astype(float)
        up = np.ceil(rows / self.step) * self.step
        ends = np.ones((len(up), 1))
        ins, outs = np.hstack([ends, up]), np.hstack([up, ends])
        largest = np.hstack([[1.0], self.totals]) * np.hstack([self.totals, [1.0]])
        return self.overhead + (ins * outs / largest).mean(axis=1)

    def macs(self, widths):
        rows = np.atleast_2d(widths).astype(float)
        ends = np.ones((len(rows), 1))
        return (np.hstack([ends, rows]) * np.hstack([rows, ends])).sum(axis=1)

    def read(self, widths):
        self.num_readings += 1
        factor = np.exp(self.generator.normal(0, self.noise))
        return {Resource.latency_ms: float(self.latency(widths)[0] * factor)}

    def price(self, widths):
        return {Resource.macs: self.macs(widths)}


@st.composite
def stair_cases(draw, noise):
    """A device, the path of a random ranking on it, and a limit between smallest and dense."""
    totals = draw(st.lists(st.sampled_from([16, 32, 48, 64, 96]), min_size=3, max_size=10))
    step = draw(st.sampled_from([1, 4, 8, 16]))
    device = StairDevice(
        totals,
        step,
        overhead=draw(st.floats(0, 0.2)),
        noise=noise,
        seed=draw(st.integers(0, 10_000)),
    )
    path = random_path(totals, multiple=draw(st.sampled_from([1, 4, 8])), seed=draw(st.integers(0)))
    least, most = device.latency(path.widths[[-1, 0]])
    limit = least + draw(st.floats(0.05, 0.95)) * (most - least)
    return device, path, float(limit)


def random_path(totals, *, multiple, seed) -> RemovalPath:
    """Of a ranking in which groups differ."""
    generator = np.random.default_rng(seed)
    scores = {
        f"group{place}": tuple((generator.random(total) * generator.uniform(0.5, 2)).tolist())
        for place, total in enumerate(totals)
    }
    floors = dict.fromkeys(scores, multiple)
    return GlobalRanking(scores=scores).path(floors, steps=dict.fromkeys(scores, multiple))
