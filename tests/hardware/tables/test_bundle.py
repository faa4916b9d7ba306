"""A bundle from export, through a program that has neither this package nor PyTorch, to a table."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from lightning_cost.hardware.tables.bundle import PROGRAM_NAME, export_bundle, import_bundle
from lightning_cost.hardware.tables.profiling import ProfileSettings
from lightning_cost.hardware.tables.width_design import width_design
from tests.reference.width_family import HandFamily

FAMILY = HandFamily()
SETTINGS = ProfileSettings(num_networks=4, seconds=0.01)
# the program as on a device that has numpy and a runtime alone
ISOLATED = """
import runpy, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lightning_cost", "torch", "pytorch_lightning", "onnx"):
            raise ModuleNotFoundError(f"blocked: {name}")

sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def exported(folder, **options):
    settings = options.pop("settings", SETTINGS)
    return export_bundle(FAMILY, folder, runtime="onnxruntime", settings=settings, **options)


def measure(folder, *words):
    command = [sys.executable, "-I", "-c", ISOLATED, str(folder / PROGRAM_NAME), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A bundle that ran, interrupted by its time limit and once in the middle."""
    folder = exported(tmp_path_factory.mktemp("bundle") / "new")
    limited = measure(folder, "--time-limit-s", "-1")
    assert limited.returncode == 1
    assert "time limit reached after 0 models; run again to go on" in limited.stderr
    first = measure(folder)
    assert first.returncode == 0, first.stderr
    results = json.loads((folder / "results.json").read_text())
    kept = results["measured"]["network_000.onnx"]
    results["measured"] = {"network_000.onnx": kept}  # as if it had been killed after the first
    (folder / "results.json").write_text(json.dumps(results))
    again = measure(folder)
    assert again.returncode == 0, again.stderr
    assert "1 of 4" not in again.stderr
    assert again.stdout.splitlines()[-1] == str(folder / "results.json")
    resumed = json.loads((folder / "results.json").read_text())
    assert resumed["measured"]["network_000.onnx"] == kept
    return folder


@pytest.fixture
def folder(measured, tmp_path):
    return shutil.copytree(measured, tmp_path / "copy")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(folder, match):
    with pytest.raises(ValueError, match=match):
        import_bundle(folder)


def test_the_results_make_a_table(measured, tmp_path):
    table = import_bundle(measured)
    (network,) = table.networks
    assert (network.name, network.layers) == ("hand", FAMILY.graph.layers)
    assert (table.runtime, table.num_threads, table.batch_size) == ("onnxruntime", 1, 1)
    assert table.device["cpu"]
    observed = network.observations()
    outs, ins = FAMILY.channels_at(width_design(FAMILY.totals, 4, np.random.default_rng(0)))
    assert (observed.outs == outs).all()
    assert (observed.ins == ins).all()
    assert (observed.latency_ms > 0).all()
    assert (observed.layer_ms.sum(axis=1) > 0).all()
    assert type(table).load(table.save(tmp_path / "table.json")) == table


def test_a_part_of_the_results_makes_a_smaller_table(folder):
    edit(folder / "results.json", lambda found: found["measured"].pop("network_002.onnx"))
    assert len(import_bundle(folder).networks[0].samples) == 3


def test_a_model_that_was_changed_is_refused_on_the_device(folder):
    (folder / "results.json").unlink()
    path = folder / "network_001.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    found = measure(folder)
    assert found.returncode != 0
    assert (
        "network_001.onnx must be as it was exported, got another; export it again" in found.stderr
    )
    assert list(json.loads((folder / "results.json").read_text())["measured"]) == [
        "network_000.onnx"
    ]


def test_inputs_that_were_changed_are_refused_on_the_device(folder):
    (folder / "results.json").unlink()
    path = folder / "inputs.npz"
    path.write_bytes(path.read_bytes() + b"\x00")
    found = measure(folder)
    assert found.returncode != 0
    assert "inputs.npz must be as it was exported, got another" in found.stderr


def test_results_of_another_device_are_not_gone_on_with(folder):
    edit(folder / "results.json", lambda found: found["device"].update(cpu="another"))
    found = measure(folder)
    assert found.returncode != 0
    assert "results.json must be of this device and this bundle, got others'" in found.stderr


def test_results_of_another_bundle_are_refused(folder, tmp_path):
    settings = ProfileSettings(num_networks=4, seconds=0.02)
    other = exported(tmp_path / "other", settings=settings)
    shutil.copy(folder / "results.json", other)
    refused(other, "must be of the bundle there, as it was exported, got others; run measure.py")


def test_an_edited_manifest_is_refused(folder):
    edit(folder / "manifest.json", lambda found: found["settings"].update(num_threads=2))
    refused(folder, "must be of the bundle there, as it was exported, got others")


@pytest.mark.parametrize("name", ["results.json", "manifest.json"])
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()
    refused(folder, f"{name} must lie in .* got none; ")


@pytest.mark.parametrize("name", ["results.json", "manifest.json"])
def test_a_truncated_file_is_refused(folder, name):
    path = folder / name
    path.write_text(path.read_text()[:200])
    refused(folder, f"{name} must be whole, got text that ends or breaks at character")


def test_a_file_of_another_kind_is_refused(folder):
    (folder / "results.json").write_text("[]")
    refused(folder, "results.json must hold names and values, got others; run measure.py")


def test_results_without_a_measurement_are_refused(folder):
    edit(folder / "results.json", lambda found: found.update(measured={}))
    refused(folder, "must hold a measurement, got none; run measure.py on the device")


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("device"),
        lambda found: found.pop("measured"),
        lambda found: found["measured"]["network_000.onnx"].pop("ratio"),
        lambda found: found["measured"].update({"network_000.onnx": 3}),
    ],
)
def test_results_with_missing_entries_are_refused(folder, change):
    edit(folder / "results.json", change)
    refused(folder, "results.json must hold what measure.py writes, got entries that are missing")


@pytest.mark.parametrize("key", ["ratio", "reference_ms"])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_results_that_no_measurement_gives_are_refused(folder, key, value):
    def change(found):
        for entry in found["measured"].values():
            entry[key] = value

    edit(folder / "results.json", change)
    refused(folder, r"results.json must (hold .* got (sample 0|reference_ms)|be whole, got NaN)")


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match=r"folder must be new or empty, got .*; choose another"):
        exported(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


def test_a_runtime_that_tells_no_operators_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="runtime must be one of onnxruntime, openvino, which tell"
    ):
        export_bundle(FAMILY, tmp_path / "x", runtime="eager")
    assert not (tmp_path / "x").exists()
