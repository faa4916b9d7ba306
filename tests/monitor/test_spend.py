import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.joules import Counter, EnergyCounters, NoCounters
from lightning_cost.monitor.spend import SpendMeter, with_lost_work


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def steps_of(flops_each, number, steps):
    """``number`` steps that are counted as ``flops_each`` FLOPs: a product of one row."""
    left, right = torch.ones(1, flops_each // 2), torch.ones(flops_each // 2, 1)
    for _ in range(number):
        steps.begin(left)
        left @ right
        steps.end()


def test_closed_form(clock):
    meter = SpendMeter(clock=clock)
    meter.power_w, meter.price_usd_per_hour, meter.num_machines = 500.0, 3.0, 2
    meter.pue, meter.co2_kg_per_kwh = 1.5, 0.4
    meter.start()
    clock.now += 7200
    steps_of(10, 32, meter.training)
    steps_of(4, 2, meter.evaluation)
    meter.searched_flops = 5
    spend = meter.spend
    assert spend.to_dict() == {
        "train_flops": 320,
        "eval_flops": 8,
        "search_flops": 5,
        "wall_clock_s": 7200,
        "energy_kwh": pytest.approx(2.0),
        "co2_kg": pytest.approx(2 * 1.5 * 0.4),
        "usd": pytest.approx(12.0),
    }
    assert spend.flops == 333
    assert spend.log_metrics()["spend/train_flops"] == 320


def test_what_is_unknown_is_absent(clock):
    spend = SpendMeter(clock=clock).spend
    assert (spend.energy_kwh, spend.measured_energy_kwh) == (None, None)
    assert (spend.co2_kg, spend.usd) == (None, None)
    assert set(spend.to_dict()) == {"train_flops", "eval_flops", "search_flops", "wall_clock_s"}


def test_a_gpu_is_one_device_of_many_and_an_owned_machine_pays_its_electricity(clock):
    meter = SpendMeter(clock=clock)
    meter.price_by(Hardware.load("nvidia_t4"), num_devices=4, num_nodes=1)
    assert (meter.power_w, meter.num_machines) == (70, 4)
    own = Hardware(power_w=100.0, is_owned=True)
    meter.price_by(own, num_devices=4, num_nodes=1)
    meter.start()
    clock.now += 3600
    assert meter.num_machines == 1
    assert meter.spend.usd == pytest.approx(0.1 * meter.usd_per_kwh)
    assert meter.spend.co2_kg == pytest.approx(0.1 * meter.co2_kg_per_kwh)


def test_what_was_used_on_another_machine_keeps_its_price(clock):
    a100 = Hardware.load("nvidia_a100")
    meter = SpendMeter(clock=clock)
    meter.price_by(a100, num_devices=8, num_nodes=1)
    meter.start()
    clock.now += 36_000
    state, before = meter.state_dict(), meter.spend
    meter = SpendMeter(clock=clock)
    meter.load_state_dict(state)
    meter.price_by(a100, num_devices=1, num_nodes=1)
    meter.start()
    assert meter.spend == before
    clock.now += 36_000
    for name in ("energy_kwh", "co2_kg", "usd"):
        used = getattr(before, name)
        assert getattr(meter.spend, name) == pytest.approx(used * 9 / 8)
    older = {name: value for name, value in state.items() if name not in before.to_dict()}
    meter = SpendMeter(clock=clock)
    meter.load_state_dict(older | {"train_flops": 0, "search_flops": 0})
    meter.price_by(a100, num_devices=1, num_nodes=1)
    assert meter.spend.usd == pytest.approx(before.usd / 8)


class Joules:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_counted_joules_are_beside_the_estimate_and_go_on_after_a_resume(clock):
    cpu = Joules()
    states = []
    for _ in range(2):
        meter = SpendMeter(clock=clock)
        meter.power_w = 50.0
        if states:
            meter.load_state_dict(states[-1])
        meter.start()
        meter.measure_energy(EnergyCounters({"cpu_package:0": Counter(cpu)}, {"gpu": "none here"}))
        clock.now += 10
        cpu.now += 360
        states.append(meter.state_dict())
    spend = meter.spend
    assert spend.measured_energy_kwh == pytest.approx(720 / 3.6e6)
    assert spend.energy_kwh == pytest.approx(50 * 20 / 3.6e6)
    note = meter.notes["measured_energy_kwh"]
    assert note == "counters read for 20 of 20 s, idle included; gpu not measured: none here"


def test_a_part_without_counters_is_named_and_not_zero(clock):
    meter = SpendMeter(clock=clock)
    meter.measure_energy(NoCounters(reason="no powercap here"))
    assert meter.spend.measured_energy_kwh is None
    assert meter.notes["measured_energy_kwh"] == "energy not measured: no powercap here"
    meter.start()
    still = EnergyCounters({"cpu_package:0": Counter(Joules())})
    meter.measure_energy(still)
    clock.now += 10
    meter.read_joules()
    assert meter.spend.measured_energy_kwh is None
    assert meter.notes["measured_energy_kwh"] == "the counters did not move in 10 s"


def test_a_counter_that_fails_ends_the_measuring_not_the_training(clock):
    values = iter([0.0, 0.0, 5.0])

    def read():
        try:
            return next(values)
        except StopIteration:
            raise OSError("gone") from None

    meter = SpendMeter(clock=clock)
    meter.start()
    meter.measure_energy(EnergyCounters({"cpu_package:0": Counter(read)}))
    clock.now += 5
    meter.read_joules()
    clock.now += 5
    meter.read_joules()
    assert meter.spend.measured_energy_kwh == pytest.approx(5 / 3.6e6)
    assert "counters read for 5 of 10 s" in meter.notes["measured_energy_kwh"]
    assert "gone" in meter.notes["measured_energy_kwh"]


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


@given(parts=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_it_adds_up_over_resumes(parts):
    state = None
    for part in parts:
        clock = Clock()
        meter = SpendMeter(clock=clock)
        meter.start()
        clock.now += 5  # setting up again is a part of the run
        if state is not None:
            meter.load_state_dict(state)
        steps_of(2, part, meter.training)
        clock.now += part
        state = meter.state_dict()
    assert state["seconds"] == sum(parts) + 5 * len(parts)
    assert state["train_flops"] == 2 * sum(parts)
    assert json.loads(json.dumps(state)) == state


def test_work_after_the_checkpoint_counts_and_a_search_that_is_done_again_counts_twice(clock):
    meter = SpendMeter(clock=clock)
    meter.start()
    steps_of(2, 3, meter.training)
    saved = meter.state_dict()
    steps_of(2, 4, meter.training)
    meter.searched_flops = 100
    clock.now += 7
    written = meter.state_dict()

    resumed = SpendMeter(clock=clock)
    resumed.load_state_dict(with_lost_work(saved, written))
    assert resumed.spend.train_flops == 14
    assert resumed.spend.search_flops == 100
    assert resumed.spend.wall_clock_s == 7
    resumed.searched_flops = 100
    assert resumed.spend.search_flops == 200
    again = SpendMeter(clock=clock)
    again.load_state_dict(resumed.state_dict())
    assert again.spend == resumed.spend
