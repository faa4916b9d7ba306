import copy
import json
from functools import cache

import pytest
import torch

from lightning_cost.budget.model import ModelBudget
from lightning_cost.budget.training import TrainingBudget
from lightning_cost.cost.macs import count_macs
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.training_flops import count_training_flops
from lightning_cost.hardware.device import Hardware
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.reconstruction.least_squares import NUM_SAMPLES, largest_fit_flops
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.recipe import training_machine
from lightning_cost.recipe.config import CompressSettings
from lightning_cost.recipe.plan import PlanConfig, plan_run, plan_transformer
from lightning_cost.recipe.plan_table import plan_line, plan_text, sweep_text
from lightning_cost.recipe.run_plan import RunPlan, Share
from lightning_cost.recipe.training_machine import Estimate
from lightning_cost.recipe.transformer import Transformer
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.resnet import resnet8

NETWORK = resnet8(width=4, in_channels=1).eval()
DATA = ImageData("digits", search_ratio=0.1, val_ratio=0.1)
STEP = count_training_flops(NETWORK, torch.zeros(1, 1, 8, 8))
FORWARD = count_macs(NETWORK, torch.zeros(1, 1, 8, 8)).flops
FITTED_ON, FIT = NUM_SAMPLES, largest_fit_flops(NETWORK)


def config(**settings):
    compress = CompressSettings(
        schedule=PruningSchedule(warmup_epochs=2, num_steps=2, recover_epochs=3),
        search=EvolutionSearch(num_candidates=5, calibration_samples=64, search_samples=32),
        quantize_epochs=1,
        **settings.pop("compress", {}),
    )
    defaults = {
        "budget": ModelBudget(macs="50%"),
        "hardware": Hardware.load("cortex_m4"),
        "train_on": "nvidia_t4",
    }
    return PlanConfig(compress=compress, **(defaults | settings))


def plan(**settings):
    return plan_run(config(**settings), NETWORK, DATA)


@cache
def plan_by_default():
    return plan()


def test_the_compute_of_each_part_has_a_closed_form():
    sizes = DATA.split_sizes
    shares = plan_by_default().shares
    found = {share.name: (share.flops, share.num_epochs) for share in shares}
    assert found == {
        "warmup": (STEP * sizes["train"] * 2, 2),
        "prune and recover": ((STEP + FORWARD) * sizes["train"] * 4, 4),
        "quantize": ((STEP + FORWARD) * sizes["train"] * 1, 1),
        "validation": (FORWARD * sizes["val"] * 7, 7),
        # judged at half of the MACs; 5 candidates and the network at 2 steps are fitted
        "search": (FORWARD * ((64 + 32) * 5 * 0.5 + FITTED_ON * (1 + 7)) + FIT * 7, None),
    }
    assert [share.name for share in shares if not share.is_at_most] == ["warmup"]


def test_gradients_and_training_before_judging_are_part_of_the_search(tmp_path):
    changed = config()
    changed.compress.search.saliencies = ["l2", "taylor"]
    changed.compress.search.tune_steps = 2
    changed.compress.search.reconstruct = False
    changed.data = {"batch_size": 32}
    found = {share.name: share for share in plan_run(changed, NETWORK, DATA).shares}["search"]
    # without layers fitted again, judged at three quarters and at half of the MACs
    assert found.flops == FORWARD * ((64 + 32 + 3 * 32 * 2) * 5 * 1.25 + 3 * 64)
    assert found.assumptions.endswith("and trained for 2 steps")
    changed.ranking = str(GlobalRanking(scores={"a": (1.0,)}).save(tmp_path / "ranking.json"))
    assert not [
        share for share in plan_run(changed, NETWORK, DATA).shares if share.name == "search"
    ]


@pytest.mark.parametrize(
    ("budget", "quantize", "expected"),
    [
        ({"macs": "50%", "size_bytes": "10%"}, "int8", 0.5),
        ({"size_bytes": "20%"}, None, 1.0),
        ({"latency_ms": "60%"}, None, 0.6),
        # in int8 the dense network takes less itself, how much less is measured in the run
        ({"latency_ms": "60%"}, "int8", 1.0),
    ],
)
def test_the_search_is_priced_at_the_most_that_it_may_judge(budget, quantize, expected):
    settings = config(budget=ModelBudget(**budget), hardware=Hardware.load("raspberry_pi_4"))
    settings.compress.quantize = quantize
    found = plan_run(settings, NETWORK, DATA).shares[-1]
    assert found.name == "search"
    fitted = FORWARD * FITTED_ON * (1 + 7) + FIT * 7
    judged = (found.flops - fitted) / (FORWARD * (64 + 32) * 5)
    assert judged == pytest.approx(expected, abs=0.01)


def test_without_pruning_everything_is_known():
    found = plan(compress={"prune": False}, budget=ModelBudget(size_bytes="50%"))
    assert [share.name for share in found.shares] == ["warmup", "quantize", "validation"]
    assert not any(share.is_at_most for share in found.shares)
    assert found.obstacles == found.doubts == []


def test_the_spend_is_that_of_the_training_machine():
    found = plan(utilisation=0.5, num_devices=2)
    seconds = found.flops / (2 * 8.1e12 * 0.5)
    assert found.spend["wall_clock_s"].value == pytest.approx(seconds)
    assert found.spend["energy_kwh"].value == pytest.approx(2 * 0.07 * seconds / 3600)
    assert found.spend["usd"].value == pytest.approx(2 * 0.526 * seconds / 3600)


def test_the_dense_network_stands_beside_its_budget():
    found = plan(budget=ModelBudget(macs="90%", latency_ms="2 s"))
    assert found.dense[Resource.macs].value == FORWARD / 2
    assert found.limits == {Resource.macs: 0.45 * FORWARD, Resource.latency_ms: 2000.0}
    assert found.smallest[Resource.macs].value < 0.45 * FORWARD
    assert found.smallest[Resource.latency_ms].model == "roofline"
    assert found.obstacles == found.undecided == []


def test_limits_out_of_reach_are_obstacles():
    found = plan(budget=ModelBudget(macs=10, size_bytes="99%"), training=TrainingBudget(flops=1))
    assert found.obstacles[0].startswith("macs <= 10 MACs (at least ")
    assert found.obstacles[1].startswith("flops of the run <= 1 FLOPs (at least ")
    assert len(found.obstacles) == 2


def test_pruning_alone_cannot_shrink_what_only_quantising_could():
    kept = plan(compress={"prune": False}, budget=ModelBudget(size_bytes="40%"))
    assert kept.obstacles == []
    assert kept.smallest[Resource.size_bytes].value < 0.4 * kept.dense[Resource.size_bytes].value
    broken = plan(compress={"prune": False}, budget=ModelBudget(macs="50%"))
    assert len(broken.obstacles) == 1


def test_what_only_a_measurement_here_tells_is_undecided(monkeypatch):
    local = Hardware.local(runtime="eager")
    found = plan(hardware=local, budget=ModelBudget(macs="50%", latency_ms="1 ms"))
    assert found.undecided == ["latency_ms"]
    assert str(found.dense[Resource.latency_ms].method) == "measured"
    assert Resource.latency_ms not in plan(hardware=local).dense


def test_a_microcontroller_that_is_too_small_is_remarked():
    assert plan_by_default().remarks == ()
    small = Hardware.load("cortex_m4")
    small.flash_bytes = 1000.0
    found = plan(hardware=small)
    (remark,) = found.remarks
    assert remark.startswith("lack of flash: ")
    assert "the dense network on the device: lack of flash" in plan_text(found)


def test_the_network_is_left_as_it_was_found():
    before = copy.deepcopy(NETWORK.state_dict())
    NETWORK.train()
    plan()
    assert NETWORK.training
    NETWORK.eval()
    assert all(torch.equal(value, before[name]) for name, value in NETWORK.state_dict().items())


class NoData(ImageData):
    def setup(self, stage=None):
        raise FileNotFoundError("no such file")


def test_data_that_is_not_here_can_be_described():
    settings = {"num_samples": 1000.0, "image_size": 8, "model": {"in_channels": 1}}
    found = plan_run(config(**settings), NETWORK, NoData())
    assert found.shares[0].flops == STEP * 1000 * 2
    with pytest.raises(ValueError, match=r"data must be on this machine, got: no such file;"):
        plan_run(config(), NETWORK, NoData())
    with pytest.raises(ValueError, match=r"model.in_channels must be given where image_size is"):
        plan_run(config(num_samples=1000.0, image_size=8), NETWORK, NoData())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"utilisation": 1.5}, r"utilisation must be a share in \(0, 1\], got 1.5"),
        ({"train_on": "abacus"}, r"hardware must be one of .*, got 'abacus'"),
        ({"region": "mars"}, r"region must be one of world, .*, got 'mars'"),
        ({"prices": "cheap"}, r"prices must be 'default' or the path of a YAML file"),
        ({"budget": ModelBudget(energy_mj=1)}, r"power_w of hardware 'cortex_m4' must be known"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        plan(**settings)


@pytest.mark.parametrize("settings", [{"num_samples": 0.0}, {"image_size": 0}])
def test_sizes_are_positive(settings):
    with pytest.raises(ValueError, match=r"must be >= 1, got 0"):
        PlanConfig(**settings)


def test_a_transformer_needs_neither_network_nor_data():
    shape = Transformer(num_layers=96, width=12288, tokens=300e9)
    found = plan_transformer(
        PlanConfig(
            transformer=shape,
            hardware=Hardware.load("nvidia_a100"),
            num_devices=1024,
            utilisation=0.4,
        )
    )
    assert found.flops == shape.flops
    days = shape.flops / (1024 * 312e12 * 0.4) / 86400
    assert found.spend["wall_clock_s"].value / 86400 == pytest.approx(days)
    assert "29.2 days" in plan_text(found)


def made(name, flops, limits, *, least=0.0, seconds=None):
    """A plan of ``flops``, of which ``least`` are certain."""
    spend = {
        key: Estimate(value=seconds if key == "wall_clock_s" else None, unit=unit, assumptions="")
        for key, unit in (
            ("wall_clock_s", "s"),
            ("energy_kwh", "kWh"),
            ("co2_kg", "kg"),
            ("usd", "USD"),
        )
    }
    shares = (
        Share(name="sure", flops=least, assumptions=""),
        Share(name="rest", flops=flops - least, assumptions="", is_at_most=True),
    )
    return RunPlan(title=name, shares=shares, spend=spend, training_limits=limits)


def test_a_limit_between_least_and_most_is_in_doubt():
    assert made("a", 100.0, {"flops": 50}, least=60.0).obstacles != []
    assert made("a", 100.0, {"flops": 80}, least=60.0).doubts == [
        "flops of the run <= 80 FLOPs (up to 100 FLOPs)"
    ]
    assert made("a", 100.0, {"flops": 100}, least=60.0).doubts == []
    assert made("a", 100.0, {"wall_clock_s": 3}, least=60.0, seconds=10.0).obstacles != []
    assert made("a", 100.0, {"usd": 3}).undecided == ["usd of the run"]


def test_a_sweep_is_one_line_a_configuration_and_their_sum():
    plans = [
        made("a", 100.0, {"flops": 50}, least=60.0, seconds=10.0),
        made("b", 200.0, {"flops": 150}, seconds=20.0),
        made("c", 300.0, {"flops": 900, "usd": 1}, seconds=30.0),
    ]
    settings = ["x=1 y=2", "x=2 y=2", "x=3 y=2"]
    lines = sweep_text(settings, plans).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["x=1", "x=2", "x=3", "total"]
    assert "no: flops of the run" in lines[2]
    assert "in doubt: flops of the run" in lines[3]
    assert "as far as known, without usd of the run" in lines[4]
    assert lines[5].split()[1:3] == ["600", "FLOPs"]
    assert lines[5].endswith("2 of 3")
    parsed = json.loads(plan_line(settings, plans))
    assert parsed["num_feasible"] == 2
    assert parsed["total"] == {
        "flops": 600.0,
        "wall_clock_s": 60.0,
        "energy_kwh": None,
        "co2_kg": None,
        "usd": None,
    }
    assert [run["configuration"] for run in parsed["runs"]] == settings


@pytest.mark.parametrize(
    ("devices", "num_threads", "expected"), [(1, None, None), (2, None, 3), (2, 1, 1), (1, 4, 4)]
)
def test_this_machines_peak_is_had_with_the_threads_of_each_process(
    monkeypatch, devices, num_threads, expected
):
    asked = []

    def measured(*, bits, num_threads):
        asked.append(num_threads)
        return 50.0

    monkeypatch.setattr(training_machine, "measured_peak_gmacs", measured)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    training_machine._measured_once.cache_clear()
    settings = config(train_on="local")
    settings.trainer.devices, settings.trainer.num_threads = devices, num_threads
    try:
        plan_run(settings, NETWORK, DATA)
    finally:
        training_machine._measured_once.cache_clear()
    assert asked == [expected]


def test_a_transformer_is_planned_on_the_machine_that_trains(monkeypatch):
    """This one with its threads; or that of ``train_hardware``, not the one it is deployed on."""
    asked = []

    def measured(*, bits, num_threads):
        asked.append(num_threads)
        return 50.0

    monkeypatch.setattr(training_machine, "measured_peak_gmacs", measured)
    training_machine._measured_once.cache_clear()
    shape = Transformer(num_layers=2, width=64, tokens=1e6)
    here = PlanConfig(transformer=shape, hardware=Hardware.load("cortex_m4"), train_on="local")
    here.trainer.num_threads = 3
    try:
        plan_transformer(here)
    finally:
        training_machine._measured_once.cache_clear()
    assert asked == [3]
    told = PlanConfig(
        transformer=shape,
        hardware=Hardware.load("nvidia_a100"),
        train_hardware=Hardware.load("nvidia_t4"),
    )
    on_it = PlanConfig(transformer=shape, hardware=Hardware.load("nvidia_t4"))
    assert plan_transformer(told).spend == plan_transformer(on_it).spend
