"""The loop from a ranking to a network that fills its limits, on devices whose law is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_cost.cost.resource import Resource
from lightning_cost.pruning.target.estimate import device_estimate
from lightning_cost.pruning.target.growth import next_widths
from lightning_cost.pruning.target.target import (
    LARGEST_NUM_MEASUREMENTS,
    NUM_READINGS,
    Fill,
    within_limits,
)
from tests.reference.stairs import StairDevice, random_path, stair_cases

LATENCY = Resource.latency_ms


def everything(rows):
    return np.ones(len(rows), dtype=bool)


def proportional(device, path):
    """What is guessed without a latency table."""
    dense = float(device.latency(path.widths[0])[0])
    return device_estimate(None, device, path.widths[:1], dense={LATENCY: dense})


def search(device, path, limit, *, estimate=None, is_within=everything, is_noisy=True):
    return within_limits(
        path,
        is_within,
        limits={LATENCY: limit},
        estimate=estimate or proportional(device, path),
        read=device.read,
        is_noisy=is_noisy,
    )


def can_be_wider(device, path, widths, limit):
    """Whether a block more of a group would still keep the limit with room to spare."""
    rows, _ = next_widths(path, widths)
    return len(rows) > 0 and bool((device.latency(rows) <= 0.97 * limit).any())


def test_without_measured_limits_nothing_is_measured():
    path = random_path([16, 16], multiple=4, seed=0)
    target = within_limits(
        path,
        lambda rows: rows.sum(axis=1) <= 20,
        limits={},
        estimate=lambda rows: {},
        read=lambda widths: pytest.fail("nothing to measure"),
    )
    assert target.widths.sum() == 20
    assert (target.fill, target.num_measurements) == (None, 0)


def test_a_budget_that_is_kept_already_costs_one_measurement():
    path = random_path([16, 32, 16], multiple=4, seed=0)
    device = StairDevice([16, 32, 16], 4, 0.1)
    target = search(device, path, limit=10.0)
    assert target.widths.tolist() == [16, 32, 16]
    assert target.num_measurements == 1


def test_nothing_on_the_path_keeps_the_limit():
    path = random_path([16, 32, 16], multiple=4, seed=0)
    device = StairDevice([16, 32, 16], 4, overhead=1.0)
    assert search(device, path, limit=0.9) is None


@settings(max_examples=60, deadline=None)
@given(stair_cases(noise=0.0), st.booleans())
def test_never_over_and_full_or_nothing_more_fits(case, is_noisy):
    device, path, limit = case
    target = search(device, path, limit, is_noisy=is_noisy)
    if target is None:
        assert device.latency(path.widths[-1])[0] > limit * 0.95
        return
    fill = device.latency(target.widths)[0] / limit
    assert fill <= 1
    assert target.fill == pytest.approx(fill)
    assert target.num_measurements <= LARGEST_NUM_MEASUREMENTS
    is_exhausted = target.num_measurements == LARGEST_NUM_MEASUREMENTS
    assert fill >= 0.95 or is_exhausted or not can_be_wider(device, path, target.widths, limit)


@settings(max_examples=40, deadline=None)
@given(stair_cases(noise=0.005))
def test_with_noise_the_true_cost_is_not_over_either(case):
    device, path, limit = case
    target = search(device, path, limit)
    if target is not None and target.fill < 0.995:
        assert device.latency(target.widths)[0] <= 1.003 * limit


def biased(device, factor, scatter=0.0):
    """A latency table that is off by ``factor`` everywhere, and by something in each network."""
    primes = np.array([7919 * (place + 1) for place in range(len(device.totals))])

    def estimate(widths):
        shares = (widths * primes).sum(axis=1) % 1000 / 1000 - 0.5
        return {LATENCY: factor * device.latency(widths) * np.exp(scatter * shares)}

    return estimate


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_the_bias_of_a_table_is_gone_after_one_measurement(factor):
    totals = [32, 64, 64, 96, 96, 64]
    device, path = StairDevice(totals, 8, 0.05), random_path(totals, multiple=8, seed=1)
    limit = 0.5 * float(device.latency(path.widths[0])[0])
    target = search(device, path, limit, estimate=biased(device, factor), is_noisy=False)
    fill = device.latency(target.widths)[0] / limit
    assert 0.95 <= fill <= 1
    assert target.num_measurements <= 2


def test_a_table_that_scatters_takes_a_few_measurements_more():
    totals = [32, 64, 64, 96, 96, 64]
    counts = []
    for seed in range(10):
        device = StairDevice(totals, 8, 0.05, noise=0.003, seed=seed)
        path = random_path(totals, multiple=8, seed=seed)
        limit = (0.3 + 0.05 * seed) * float(device.latency(path.widths[0])[0])
        target = search(device, path, limit, estimate=biased(device, 1.3, scatter=0.1))
        assert 0.95 <= device.latency(target.widths)[0] / limit <= 1
        counts.append(target.num_measurements)
    assert np.median(counts) <= 4


def test_the_tightest_of_several_limits_decides():
    totals = [16, 32, 64, 32]
    device, path = StairDevice(totals, 4, 0.1), random_path(totals, multiple=4, seed=3)
    dense = float(device.latency(path.widths[0])[0])
    energy = Resource.energy_mj

    def read(widths):
        latency = float(device.latency(widths)[0])
        return {LATENCY: latency, energy: 10 * latency}

    def estimate(widths):
        return {LATENCY: device.latency(widths), energy: device.latency(widths)}

    target = within_limits(
        path,
        everything,
        limits={LATENCY: 0.9 * dense, energy: 6 * dense},
        estimate=estimate,
        read=read,
    )
    assert 0.95 <= device.latency(target.widths)[0] / (0.6 * dense) <= 1


def test_counted_limits_hold_beside_measured_ones():
    totals = [16, 32, 64, 32]
    device, path = StairDevice(totals, 4, 0.1), random_path(totals, multiple=4, seed=3)
    most = 0.4 * float(device.macs(path.widths[0])[0])
    target = search(device, path, limit=10.0, is_within=lambda rows: device.macs(rows) <= most)
    assert 0.95 * most <= device.macs(target.widths)[0] <= most


def test_readings_go_on_until_the_median_is_known():
    totals = [32, 64, 64, 96]
    device = StairDevice(totals, 8, 0.05, noise=0.003)
    path = random_path(totals, multiple=8, seed=1)
    limit = 0.5 * float(device.latency(path.widths[0])[0])
    target = search(device, path, limit)
    assert device.num_readings >= target.num_measurements - 1 + NUM_READINGS[0]


def test_a_fill_is_the_tightest_limits_with_its_interval():
    energy = Resource.energy_mj
    fill = Fill(readings=[{LATENCY: 0.9 + 0.01 * index, energy: 0.8} for index in range(6)])
    assert fill.by_resource == {LATENCY: pytest.approx(0.925), energy: pytest.approx(0.8)}
    assert fill.value == pytest.approx(0.925)
    assert fill.interval == pytest.approx((0.9, 0.95))
    assert fill.is_kept
    assert not fill.is_full
    assert not Fill(readings=[{LATENCY: 0.99}, {LATENCY: 1.01}]).is_kept
