import pytest
import torch
from torch import nn

from lightning_cost.cost.measurement import Measurement, Method
from lightning_cost.hardware import local
from lightning_cost.hardware.joules import Counter, EnergyCounters, NoCounters
from lightning_cost.hardware.local import LocalCounters, local_counters, measure_local_energy
from lightning_cost.hardware.measured_energy import IdlePower, measure_energy, measure_idle


class Machine:
    """Draws ``idle_w``, and ``busy_w`` on top while it runs; its counters wrap around at 10 J."""

    def __init__(self, *, idle_w=10.0, busy_w=40.0, run_s=0.004, moves=True):
        self.now_s = 0.0
        self.joules = {"cpu_package:0": 9.9, "dram:0": 0.0}
        self.idle_w, self.busy_w, self.run_s, self.moves = idle_w, busy_w, run_s, moves
        self.counters = EnergyCounters(
            {
                name: Counter(lambda name=name: self.joules[name], range_j=10.0)
                for name in self.joules
            },
            {"gpu:0": "no counter"},
            wait=lambda _: True,
        )

    def spend(self, seconds, watts):
        self.now_s += seconds
        if self.moves:
            for name, share in (("cpu_package:0", 0.75), ("dram:0", 0.25)):
                self.joules[name] = (self.joules[name] + share * watts * seconds) % 10.0

    def run(self):
        self.spend(self.run_s, self.idle_w + self.busy_w)

    def sleep(self, seconds):
        self.spend(seconds, self.idle_w)

    def clock(self):
        return self.now_s

    def idle(self):
        return measure_idle(self.counters, seconds=0.1, clock=self.clock, sleep=self.sleep)

    def measure(self, **settings):
        return measure_energy(self.run, self.counters, clock=self.clock, **settings)


def test_joules_of_a_forward_pass_over_windows_of_a_tenth_of_a_second():
    reading = Machine().measure(num_windows=3)
    assert reading.measurement.value == pytest.approx(50 * 4)  # mJ
    assert reading.by_domain_mj == {
        "cpu_package:0": pytest.approx(150),
        "dram:0": pytest.approx(50),
    }
    assert reading.num_repetitions * 0.004 >= 0.1
    assert reading.measurement.spread == pytest.approx(0, abs=1e-6)
    assert reading.measurement.method is Method.measured


def test_idle_power_is_named_and_subtracted_where_asked():
    machine = Machine()
    idle = machine.idle()
    assert idle.total_w == pytest.approx(10)
    kept = machine.measure(idle=idle)
    assert kept.measurement.value == pytest.approx(50 * 4)
    assert kept.measurement.model.endswith("; idle power of 10 W included")
    less = machine.measure(idle=idle, subtract_idle=True)
    assert less.measurement.value == pytest.approx(40 * 4)
    assert less.is_idle_subtracted
    assert less.measurement.model == (
        "counters: cpu_package:0, dram:0; idle power of 10 W subtracted"
    )
    assert less.measurement.unsupported == (
        "gpu:0: no counter",
        "idle power of 10 W, subtracted",
    )
    assert machine.measure().measurement.model.endswith("idle power included, not measured")


def test_what_was_measured_takes_over_the_setting():
    latency = Measurement(
        value=1.0,
        unit="ms",
        method=Method.measured,
        device="cpu",
        runtime="openvino",
        num_threads=2,
        batch_size=4,
        dtype="float32",
    )
    found = Machine().measure(provenance=latency).measurement
    assert (found.device, found.runtime, found.num_threads) == ("cpu", "openvino", 2)
    assert (found.batch_size, found.dtype, found.unit) == (4, "float32", "mJ")


def test_a_counter_that_does_not_move_is_no_zero():
    with pytest.raises(ValueError, match=r"energy counter of cpu_package:0 must move .* virtual"):
        Machine(moves=False).measure()


def test_idle_must_be_known_to_be_subtracted():
    with pytest.raises(ValueError, match="idle must be given to be subtracted, got None"):
        Machine().measure(subtract_idle=True)


def test_idle_above_the_measurement():
    idle = IdlePower(watts={"cpu_package:0": 100.0}, seconds=1.0)
    with pytest.raises(ValueError, match=r"energy beyond idle power must be > 0, got -"):
        Machine().measure(idle=idle, subtract_idle=True)


def test_at_least_one_window():
    with pytest.raises(ValueError, match="num_windows must be >= 1, got 0"):
        Machine().measure(num_windows=0)


def test_a_real_network_on_a_real_runtime():
    """Only the counters are made up: a joule at each reading."""
    joules = iter(range(1_000_000))
    counters = EnergyCounters({"cpu_package:0": Counter(lambda: float(next(joules)))})
    idle = IdlePower(watts={"cpu_package:0": 1.0}, seconds=1.0)
    latency = Measurement(
        value=0.01, unit="ms", method=Method.measured, runtime="eager", num_threads=1
    )
    found = measure_local_energy(
        nn.Linear(2, 2).eval(),
        torch.zeros(1, 2),
        latency,
        LocalCounters(counters=counters, idle=idle),
    )
    assert found.value > 0
    assert (found.runtime, found.method) == ("eager", Method.measured)


@pytest.fixture
def fresh():
    local_counters.cache_clear()
    yield
    local_counters.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_local_counters_are_opened_once_and_must_move(monkeypatch):
    machine = Machine()
    opened = []

    def open_():
        opened.append(machine.counters)
        return machine.counters

    monkeypatch.setattr(local, "open_counters", open_)
    monkeypatch.setattr(local, "measure_idle", lambda _: machine.idle())
    assert local_counters() is local_counters()
    assert len(opened) == 1
    assert local_counters().idle.total_w == pytest.approx(10)

    local_counters.cache_clear()
    machine.moves = False
    found = local_counters()
    assert isinstance(found, NoCounters)
    assert found.reason == "cpu_package:0, dram:0: does not move in 0.1 s"
