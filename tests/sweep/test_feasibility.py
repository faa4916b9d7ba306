"""Prices beforehand against those of the networks themselves."""

import contextlib
import json

import pytest
import torch
from hydra import compose, initialize_config_dir

from lightning_cost.cli import register_schemas
from lightning_cost.hardware.catalogue import conf_dir
from lightning_cost.hardware.device import Hardware
from lightning_cost.job import build, build_data, build_network, to_run_config
from lightning_cost.monitor.measure import measure
from lightning_cost.recipe.plan import PlanConfig, plan_run
from lightning_cost.sweep.composition import Composition
from lightning_cost.sweep.feasibility import STRUCTURAL, Feasibility, Verdict
from lightning_cost.sweep.sweeper import judge_of
from lightning_cost.zoo.resnet import resnet8
from tests.sweep.spaces import space_of

FIXED = ["model=resnet8", "hardware=raspberry_pi_4", "budget=none"]
SPACE = ["model.width=range(4,65)", "trainer.learning_rate=interval(0.01,0.1)"]


@contextlib.contextmanager
def composing(*words, name="fit"):
    register_schemas()
    calls = []

    def composed(overrides):
        calls.append(overrides)
        return compose(name, list(overrides))

    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        space = space_of(*FIXED, *SPACE, *words)
        yield Composition(space, composed, lambda key: key in ("model", "compress")), calls


def feasibility(folder=None):
    return Feasibility(build_data, build_network, folder)


@pytest.mark.parametrize("width", [4, 13, 32])
def test_a_network_that_stays_as_it_is_costs_what_it_costs(width):
    kept = {"latency_ms": 0.1, "macs": 1e6, "energy_mj": 1}
    kept |= {"params": 1e4, "size_bytes": 1e5, "peak_memory_bytes": 1e5}
    limits = [f"budget.{name}={limit}" for name, limit in kept.items()]
    with composing("compress=none", *limits) as (composition, _):
        verdict = feasibility()(composition({"model.width": width, "trainer.learning_rate": 0.1}))
    network, example = resnet8(width=width, in_channels=1), torch.zeros(1, 1, 8, 8)
    cost = measure(network, example, hardware=Hardware.load("raspberry_pi_4"))
    assert verdict.predicted == {name: pytest.approx(cost[name].value) for name in kept}
    assert verdict.is_feasible == all(cost[name].value <= limit for name, limit in kept.items())


@pytest.mark.parametrize("width", [4, 16])
@pytest.mark.parametrize("compress", ["prune", "quantize", "prune_quantize"])
def test_a_compressed_network_is_judged_as_plan_does(compress, width):
    limits = ["budget.size_bytes=30%", "budget.latency_ms=0.005"]
    settings = {"model.width": width, "trainer.learning_rate": 0.1}
    with composing(f"compress={compress}", *limits) as (composition, _):
        composed = composition(settings)
        verdict = feasibility()(composed)
        plan_words = [*FIXED, f"compress={compress}", *limits, f"model.width={width}"]
        config = to_run_config(compose("plan", plan_words))
    assert isinstance(config, PlanConfig)
    plan = plan_run(config, *build(config))
    assert verdict.predicted == {
        str(name): pytest.approx(plan.smallest[name].value) for name in plan.limits
    }
    assert verdict.is_feasible == (not plan.obstacles)


def test_plain_values_give_what_hydra_composes():
    words = ["compress=none,prune", "budget.macs=50%,1e6", "seed=choice(1,2)"]
    settings = {
        "model.width": 9,
        "trainer.learning_rate": 0.05,
        "compress": "prune",
        "budget.macs": "50%",
        "seed": 2,
    }
    with composing(*words) as (composition, calls):
        for _ in range(3):
            found = composition(settings)
        expected = compose("fit", [*FIXED, *(f"{key}={value}" for key, value in settings.items())])
        composition({**settings, "seed": 1})
        assert len(calls) == 1
        composition({**settings, "compress": "none"})
        assert len(calls) == 2
    # the time of day is in the name of the run's directory
    found.run_dir = expected.run_dir = ""
    assert found == expected


def test_only_structures_are_priced():
    with composing("compress=none", "budget.macs=1e6", "seed=range(0,9)") as (composition, _):
        settings = {"model.width": 8, "trainer.learning_rate": 0.1, "seed": 1}
        composition(settings)
        # the data's splits follow from the seed
        assert composition.without_effect_on(STRUCTURAL) == {"trainer.learning_rate"}
        built = []

        def counted(config, data):
            built.append(config.model["width"])
            return build_network(config, data)

        judge = judge_of(composition, Feasibility(build_data, counted))
        for width in (8, 16, 8):
            for rate in (0.02, 0.03):
                judge({**settings, "model.width": width, "trainer.learning_rate": rate})
    assert built == [8, 16]


def test_prices_are_kept_for_the_next_start(tmp_path):
    def never(*_):
        raise AssertionError("nothing is built anew")

    with composing("compress=none", "budget.macs=1e6") as (composition, _):
        composed = composition({"model.width": 8, "trainer.learning_rate": 0.1})
        first = feasibility(tmp_path)(composed)
        assert Feasibility(never, never, tmp_path)(composed) == first
        prices = tmp_path / "prices.jsonl"
        kept = prices.read_text()
        # as a start leaves it that was killed while it wrote
        key = json.loads(kept)["key"]
        lines = [kept[: len(kept) // 2], json.dumps({"key": key, "predicted": {}, "limits": 4})]
        prices.write_text("\n".join([*lines, ""]))
        assert feasibility(tmp_path)(composed) == first
        assert Feasibility(never, never, tmp_path)(composed) == first


def test_a_measured_latency_is_measured():
    pytest.importorskip("onnxruntime")
    words = ["hardware=local", "runtime=onnxruntime", "compress=none", "budget.latency_ms=1e-6"]
    with composing(*words) as (composition, _):
        verdict = feasibility()(composition({"model.width": 4, "trainer.learning_rate": 0.1}))
    assert verdict.predicted["latency_ms"] > 1e-6
    assert not verdict.is_feasible


def test_an_excess_is_in_shares_of_the_limit():
    verdict = Verdict(predicted={"macs": 5.0, "params": 1.0}, limits={"macs": 4.0, "params": 2.0})
    assert verdict.constraints == {"macs": 0.25, "params": -0.5}
    assert verdict.violations == {"macs": 0.25}
    assert verdict.excess == 0.25
