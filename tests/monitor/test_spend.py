import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.monitor.spend import GRID_CO2_KG_PER_KWH, SpendMeter


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_closed_form(clock):
    meter = SpendMeter(clock=clock)
    meter.power_w, meter.price_usd_per_hour, meter.num_machines = 500.0, 3.0, 2
    meter.flops_per_sample = 10
    meter.start()
    clock.now += 7200
    meter.add_samples(32)
    meter.search_flops = 5
    spend = meter.spend
    assert spend.to_dict() == {
        "train_flops": 320,
        "search_flops": 5,
        "wall_clock_s": 7200,
        "energy_kwh": pytest.approx(2.0),
        "co2_kg": pytest.approx(2 * GRID_CO2_KG_PER_KWH),
        "usd": pytest.approx(12.0),
    }
    assert spend.flops == 325
    assert spend.log_metrics()["spend/train_flops"] == 320


def test_what_is_unknown_is_absent(clock):
    spend = SpendMeter(clock=clock).spend
    assert (spend.energy_kwh, spend.co2_kg, spend.usd) == (None, None, None)
    assert set(spend.to_dict()) == {"train_flops", "search_flops", "wall_clock_s"}


def test_time_stands_still_when_stopped_and_calls_may_repeat(clock):
    meter = SpendMeter(clock=clock)
    meter.start()
    clock.now += 1
    meter.start()
    clock.now += 2
    meter.stop()
    clock.now += 50
    meter.stop()
    assert meter.seconds == 3


@given(parts=st.lists(st.integers(1, 1000), min_size=1, max_size=5))
def test_it_adds_up_over_resumes(parts):
    state = None
    for part in parts:
        clock = Clock()
        meter = SpendMeter(clock=clock)
        meter.start()
        clock.now += 5  # before the checkpoint is loaded: belongs to no part
        if state is not None:
            meter.load_state_dict(state)
        else:
            clock.now -= 5
        meter.flops_per_sample = 2
        meter.add_samples(part)
        clock.now += part
        state = meter.state_dict()
    assert state["seconds"] == sum(parts)
    assert state["train_flops"] == 2 * sum(parts)
