import math
import sys

import pytest

from lightning_cost.hardware import joules
from lightning_cost.hardware.joules import (
    Counter,
    EnergyCounters,
    NoCounters,
    open_counters,
    reads_energy,
)

RANGE_UJ = 262_143_328_850


class Zone:
    """One RAPL zone as files: ``name``, ``energy_uj``, ``max_energy_range_uj``."""

    def __init__(self, path, name, energy_uj=0, range_uj=RANGE_UJ):
        path.mkdir(parents=True)
        self.path = path
        (path / "name").write_text(f"{name}\n")
        (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.range_uj = range_uj
        self.set(energy_uj)

    def set(self, energy_uj):
        self.energy_uj = energy_uj % self.range_uj
        (self.path / "energy_uj").write_text(f"{self.energy_uj}\n")

    def add_j(self, joules):
        self.set(self.energy_uj + int(joules * 1e6))


class Rapl:
    """A tree like ``/sys/class/powercap/intel-rapl``, which zeus reads."""

    def __init__(self, path):
        self.path = path

    def add(self, *indices, name, **values):
        folders, below = [], "intel-rapl"
        for index in indices:
            below = f"{below}:{index}"
            folders.append(below)
        return Zone(self.path.joinpath(*folders), name, **values)


@pytest.fixture
def rapl(tmp_path, monkeypatch):
    """Real zeus, pointed at an empty tree instead of ``/sys``."""
    pytest.importorskip("zeus")
    from zeus.device import cpu
    from zeus.device.cpu import rapl as zeus_rapl

    folder = tmp_path / "intel-rapl"
    folder.mkdir()
    monkeypatch.setattr(zeus_rapl, "RAPL_DIR", str(folder))
    monkeypatch.setattr(cpu, "_cpus", None)
    zeus_rapl.rapl_is_available.cache_clear()
    yield Rapl(folder)
    zeus_rapl.rapl_is_available.cache_clear()


@pytest.fixture
def opened(rapl):
    """Opens the counters as a run does, and closes them at the end."""
    found = []

    def open_(**settings):
        found.append(open_counters(**settings))
        return found[-1]

    yield open_
    for counters in found:
        if isinstance(counters, EnergyCounters):
            counters.close()


def test_two_packages_with_memory(rapl, opened):
    zones = {
        "cpu_package:0": rapl.add(0, name="package-0", energy_uj=5_000_000),
        "dram:0": rapl.add(0, 1, name="dram", energy_uj=1),
        "cpu_package:1": rapl.add(1, name="package-1"),
        "dram:1": rapl.add(1, 0, name="dram"),
    }
    rapl.add(0, 0, name="core")  # a part of its package
    counters = opened()
    assert set(counters.domains) == set(zones)
    assert counters.read_j() == dict.fromkeys(zones, 0.0)
    for joules_, zone in enumerate(zones.values(), start=1):
        zone.add_j(joules_)
    read = counters.read_j()
    assert read == {domain: pytest.approx(index + 1) for index, domain in enumerate(zones)}


def test_a_counter_that_wraps_around_goes_on(rapl, opened):
    zone = rapl.add(0, name="package-0", energy_uj=RANGE_UJ - 2_000_000)
    counters = opened()
    before = counters.read_j()["cpu_package:0"]
    zone.add_j(5)
    assert zone.energy_uj < 4_000_000
    after = counters.read_j()["cpu_package:0"]
    assert after - before == pytest.approx(5)
    zone.add_j(RANGE_UJ / 1e6 - 1)  # once more round
    assert counters.read_j()["cpu_package:0"] - after == pytest.approx(RANGE_UJ / 1e6 - 1)


def test_a_laptops_platform_is_not_counted_beside_its_parts(rapl, opened):
    rapl.add(0, name="package-0")
    rapl.add(1, name="psys")
    assert opened().domains == ("cpu_package:0",)


def test_what_is_not_counted_is_named(rapl, opened):
    rapl.add(0, name="package-0")
    assert opened().missing["dram"] == "RAPL names no such zone on this CPU"


def test_one_reading_per_device_under_several_ranks(rapl, opened):
    zone = rapl.add(0, name="package-0")
    ranks = [opened(local_rank=rank) for rank in range(8)]
    zone.add_j(3)
    readings = [rank.read_j() for rank in ranks if isinstance(rank, EnergyCounters)]
    assert readings == [{"cpu_package:0": pytest.approx(3)}]
    assert ranks[5] == NoCounters(reason="local rank 0 reads the node's counters, this is 5")
    assert [reads_energy(rank) for rank in range(8)] == [True] + 7 * [False]


def test_no_counter_is_a_reason_and_never_zero(rapl, opened):
    rapl.path.rmdir()
    found = opened()
    assert isinstance(found, NoCounters)
    assert "cpu: ZeusCPUInitError: RAPL unvailable" in found.reason
    assert "gpu: ZeusGPUInitError" in found.reason


def test_an_empty_tree_is_a_reason(opened):
    found = opened()
    assert isinstance(found, NoCounters)
    assert "cpu: RAPL names no zone" in found.reason


def test_counters_for_root_only_are_a_reason(rapl, opened, monkeypatch):
    from zeus.device.cpu import rapl as zeus_rapl

    rapl.add(0, name="package-0")

    def refuse(path, *mode):
        if str(path).endswith("energy_uj"):
            raise PermissionError(13, "Permission denied", path)
        return open(path, *mode)

    monkeypatch.setattr(zeus_rapl, "open", refuse, raising=False)
    found = opened()
    assert isinstance(found, NoCounters)
    assert "RAPL requires root privileges" in found.reason
    assert "readable files or zeus's daemon" in found.reason


class Gpus:
    """As zeus shows GPUs; counts in millijoules."""

    def __init__(self, *energies_mj):
        self.energies_mj = list(energies_mj)

    def __len__(self):
        return len(self.energies_mj)

    def supports_get_total_energy_consumption(self, index):
        return self.energies_mj[index] is not None

    def get_total_energy_consumption(self, index):
        return self.energies_mj[index]


@pytest.fixture
def gpus(rapl, monkeypatch):
    import zeus.device

    found = Gpus(1000, None, 7000)
    monkeypatch.setattr(zeus.device, "get_gpus", lambda: found)
    return found


def test_gpus_count_and_those_that_cannot_are_named(opened, gpus):
    counters = opened()
    gpus.energies_mj = [2500, None, 7000]
    assert counters.read_j() == {"gpu:0": 1.5, "gpu:2": 0.0}
    assert counters.missing["gpu:1"].startswith("it has no energy counter")
    assert "cpu" in counters.missing


def test_only_the_runs_own_gpus_count(rapl, opened, gpus):
    assert opened(gpu_indices=[2]).domains == ("gpu:2",)
    rapl.add(0, name="package-0")
    from zeus.device import cpu

    cpu._cpus = None
    assert opened(gpu_indices=[]).domains == ("cpu_package:0",)


def test_a_gpu_whose_driver_was_reset(opened, gpus):
    counters = opened()
    gpus.energies_mj[0] = 10
    with pytest.raises(ValueError, match=r"must not go back, got 0.01 J after 1.0 J"):
        counters.read_j()


def test_without_zeus_there_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeus", None)
    monkeypatch.setitem(sys.modules, "zeus.device", None)
    found = open_counters()
    assert isinstance(found, NoCounters)
    assert "pip install 'lightning-cost[energy]'" in found.reason


def test_a_thread_reads_before_a_counter_can_wrap_around_unseen():
    range_j, value = 5000.0, 0.0
    gaps = []

    def consume_for(seconds):
        nonlocal value
        value = (value + seconds * joules.MAX_POWER_W) % range_j
        gaps.append(seconds)
        return len(gaps) == 10

    counter = Counter(lambda: value, range_j=range_j)
    counters = EnergyCounters({"cpu_package:0": counter}, wait=lambda _: True)
    assert counter.longest_gap_s == 5
    counters._wait = consume_for
    counters._keep_reading(counter.longest_gap_s / 2)
    assert counters.read_j() == {"cpu_package:0": pytest.approx(sum(gaps) * joules.MAX_POWER_W)}
    assert math.isinf(Counter(lambda: 0.0).longest_gap_s)


def test_no_counters_at_all():
    with pytest.raises(ValueError, match="counters must hold at least one, got none"):
        EnergyCounters({})
