"""The profile of a configured network: a real one on digits, its bundle, and what is refused."""

from functools import cache
from pathlib import Path

import pytest
import torch

from lightning_cost.hardware.device import Hardware
from lightning_cost.hardware.tables.latency_table import LatencyTable
from lightning_cost.hardware.tables.profiling import FamilyTimer, ProfileSettings
from lightning_cost.pruning.pricing.family import PrunedFamily
from lightning_cost.recipe import profile as recipe
from lightning_cost.recipe.config import CompressSettings
from lightning_cost.recipe.profile import ProfileConfig, import_results, profile_run, table_text
from lightning_cost.runtime import standalone
from lightning_cost.zoo.data import ImageData
from lightning_cost.zoo.resnet import resnet8
from tests.reference.latency_tables import network as profiled
from tests.reference.latency_tables import table as table_of

DATA = ImageData("digits", search_ratio=0.1, val_ratio=0.1)
MODEL = {"_target_": "lightning_cost.zoo.resnet.resnet8", "width": 4, "in_channels": None}


@cache
def exported(name):
    """Families take seconds to export; the tests that follow share them."""
    torch.manual_seed(0)
    network = resnet8(width=4, in_channels=1)
    example = torch.zeros(1, 1, 8, 8)
    return PrunedFamily(network, example, recipe.channel_groups(network, example), name=name)


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(FamilyTimer.reference_ms, "__defaults__", (0.02,))
    monkeypatch.setattr(
        recipe, "PrunedFamily", lambda network, example, grouping, *, name, preview: exported(name)
    )


def config(**settings):
    options = {
        "model": MODEL,
        "hardware": Hardware.local(),
        "compress": CompressSettings(quantize=None),
        "runtime": "onnxruntime",
        "measuring": ProfileSettings(num_networks=22, seconds=0.02),
    }
    found = ProfileConfig(**(options | settings))
    found.trainer.progress_bar = False
    return found


def run(**settings):
    if "results" in settings:
        return import_results(config(**settings))
    return profile_run(config(**settings), resnet8(width=4, in_channels=1), DATA)


def refused(match, **settings):
    with pytest.raises(ValueError, match=match):
        run(**settings)


def test_a_profile_and_the_same_again(monkeypatch):
    lines = run().splitlines()
    table = LatencyTable.load("latency_table.json")
    (network,) = table.networks
    assert network.name == "resnet8 width=4 on 1x8x8 float32"
    assert len(network.samples) == 22
    assert lines[-1] == "latency_table.json"
    assert lines[0].startswith("onnxruntime ")
    assert sum(line.startswith("stages.") for line in lines) == 8
    assert lines[-2].startswith("predictions are off by ")
    assert "22 networks held out" in lines[-2]

    def measured(*args, **kwargs):
        raise AssertionError("nothing is left to measure")

    monkeypatch.setattr(FamilyTimer, "compare", measured)
    assert run(runtime="auto").splitlines() == lines  # a table that was begun names its runtime
    refused("got num_threads 1 where 2 is wanted", hardware=Hardware.local(num_threads=2))
    refused("runtime 'onnxruntime' where 'openvino' is wanted", runtime="openvino")


def test_a_bundle_and_its_results():
    measuring = ProfileSettings(num_networks=2, seconds=0.01)
    lines = run(bundle="there", measuring=measuring).splitlines()
    assert lines == ["on the device: python measure.py; then profile results=there", "there"]
    assert not Path("latency_table.json").exists()
    refused(r"results.json must lie in 'there', got none; run measure.py", results="there")
    assert standalone.main(["there"]) == 0
    lines = run(results="there", table="theirs.json").splitlines()
    assert lines[-1] == "theirs.json"
    assert lines[-2].startswith("no predictions yet: the latency table must hold 20 networks")
    assert len(LatencyTable.load("theirs.json").networks[0].samples) == 2
    refused(r"table must be a new file .* 'theirs.json'", results="there", table="theirs.json")


def test_what_is_wrong_is_said_before_anything_is_exported(monkeypatch):
    monkeypatch.delattr(recipe, "PrunedFamily")
    Path("broken.json").write_text('{"format": "lightning-cost latency table", "version": 1')
    refused("'broken.json' must be a whole latency table", table="broken.json")
    refused(r"one of onnxruntime, openvino, .* got 'eager'; measure whole", runtime="eager")
    excluded = CompressSettings(quantize=None)
    excluded.channels.exclude = ["stem", "stages"]
    refused("network must have channels that can vary, got none", compress=excluded)


def test_a_bundle_needs_a_runtime():
    refused("runtime must be one of .* got auto; set runtime=", runtime="auto", bundle="there")
    assert not Path("there").exists()


def test_bundle_and_results_at_once_are_refused():
    with pytest.raises(
        ValueError, match="bundle and results must not be given at once, got 'a' an"
    ):
        ProfileConfig(bundle="a", results="b")


def test_names_tell_apart_what_is_measured():
    excluded = CompressSettings(quantize="int8")
    excluded.channels.exclude = ["stem"]
    found = recipe._name_of(config(compress=excluded), (3, 32, 32))
    assert found == "resnet8 width=4 on 3x32x32 int8 without stem"


def test_the_text_of_a_table():
    lines = table_text(table_of(profiled(60)), "here.json").splitlines()
    assert lines[0] == "openvino 1.2.3, float32, 1 thread(s), batch 1, Some CPU"
    assert lines[2].startswith("net: 60 networks of ")
    assert lines[4].split()[0] == "wide"
    assert "8 → 16" in lines[4]  # the stairs that its law has
    assert lines[-2].startswith("predictions are off by")


def test_the_text_of_a_table_without_measurements():
    assert table_text(table_of(profiled(0)), "x").splitlines()[-2] == "net: no networks yet"


def test_a_time_limit_that_is_over_at_once_leaves_a_table_to_go_on_with():
    path = run(measuring=ProfileSettings(num_networks=2, time_limit_s=1e-9)).splitlines()[-1]
    assert not any(network.samples for network in LatencyTable.load(path).networks)
