import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.hardware.tables.latency_table import UNITS, LatencyTable
from lightning_cost.runtime.width_layer import WidthLayer
from tests.reference.latency_tables import LAYERS, network, table

TABLE = table(network(3), network(2, name="other", seed=4))


@pytest.fixture
def path(tmp_path):
    return TABLE.save(tmp_path / "table.json")


def edited(path, change, *, is_signed=True):
    """The file with its content changed, and a checksum that fits, as of a careful forger."""
    content = json.loads(path.read_text())
    change(content)
    if is_signed:
        content.pop("sha256", None)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))
    return path


def refused(path, match):
    with pytest.raises(ValueError, match=match) as caught:
        LatencyTable.load(path)
    assert str(path) in str(caught.value)
    assert "profile the device again" in str(caught.value)


def test_a_table_comes_back_as_it_was_saved(path):
    assert LatencyTable.load(path) == TABLE
    assert [each.name for each in path.parent.iterdir()] == ["table.json"]


def test_the_file_says_its_units_device_versions_and_spread(path):
    content = json.loads(path.read_text())
    assert content["units"] == UNITS
    assert content["device"]["cpu"] == "Some CPU"
    assert content["device"]["runtime_version"] == "1.2.3"
    assert content["networks"][0]["samples"][0]["spread"] == 0.001
    assert (content["format"], content["version"]) == ("lightning-cost latency table", 1)


def test_saving_again_changes_nothing(path):
    before = path.read_text()
    LatencyTable.load(path).save(path)
    assert path.read_text() == before


@given(share=st.floats(0, 0.9999))
def test_a_file_cut_off_anywhere_is_refused(tmp_path_factory, share):
    path = TABLE.save(tmp_path_factory.mktemp("cut") / "table.json")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, r"must be a whole latency table .* got text that ends or breaks at character \d+")


def test_bytes_that_are_no_text_are_refused(path):
    path.write_bytes(b"\xff\xfe\x00\x81")
    refused(path, "got bytes that are no text")


def test_an_edited_value_is_refused(path):
    def faster(content):
        content["networks"][0]["samples"][0]["latency"] *= 0.9

    refused(edited(path, faster, is_signed=False), "differs from its checksum: edited or damaged")


def test_a_missing_checksum_is_refused(path):
    refused(edited(path, lambda content: content.pop("sha256"), is_signed=False), "its checksum")


@pytest.mark.parametrize("text", ["[]", "3", '"table"', "{}", '{"format": "another"}'])
def test_a_file_of_another_kind_is_refused(path, text):
    path.write_text(text)
    refused(path, "got a file of another kind")


def test_another_version_is_refused(path):
    refused(edited(path, lambda content: content.update(version=2)), "got version 2, not 1")


def test_missing_units_are_refused(path):
    refused(edited(path, lambda content: content.pop("units")), "got units None, not {'latency': ")


def test_other_units_are_refused(path):
    refused(
        edited(path, lambda content: content["units"].update(latency="s")), "'s', .* not {'latency'"
    )


def in_sample(key, value):
    def change(content):
        content["networks"][0]["samples"][1][key] = value

    return change


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latency", -1.0),
        ("latency", 0.0),
        ("latency", float("nan")),
        ("latency", float("inf")),
        ("latency", "1 ms"),
        ("latency", None),
        ("spread", -0.1),
        ("layers", [0.1, -0.1, 0.1]),
        ("layers", [0.1, float("nan"), 0.1]),
        ("layers", [0.1, 0.1]),
        ("layers", 0.1),
        ("operators", [1, 1]),
        ("operators", [1, 1, -1]),
        ("outs", [8, 8]),
        ("outs", [8, 0, 8]),
        ("ins", [8, 8, "8"]),
    ],
)
def test_values_that_no_measurement_has_are_refused(path, key, value):
    refused(
        edited(path, in_sample(key, value)),
        "sample 1 of 'net' with missing or|which is no JSON",
    )


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "1"])
def test_a_reference_that_takes_no_time_is_refused(path, value):
    def change(content):
        content["networks"][1]["reference_ms"] = value

    refused(edited(path, change), r"got reference_ms .* of 'other', not > 0|which is no JSON")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("device"),
        lambda content: content["networks"][0].pop("layers"),
        lambda content: content["networks"][0]["samples"][0].pop("spread"),
        lambda content: content["networks"][0]["layers"][0].update(colour="red"),
        lambda content: content.update(networks=3),
        lambda content: content.update(networks=[None]),
        lambda content: content["networks"][0].update(samples=[3]),
    ],
)
def test_missing_or_unknown_entries_are_refused(path, change):
    refused(edited(path, change), "got entries that are missing or of another kind")


def test_no_file_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"table must be a file .* profile this device fir"):
        LatencyTable.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"runtime": "onnxruntime"}, "runtime 'openvino' where 'onnxruntime' is wanted"),
        ({"num_threads": 4}, "num_threads 1 where 4 is wanted"),
        ({"precision": "bfloat16"}, "precision 'float32' where 'bfloat16' is wanted"),
        ({"batch_size": 8}, "batch_size 1 where 8 is wanted"),
        ({"device": {**TABLE.device, "cpu": "Other"}}, "cpu 'Some CPU' where 'Other' is wanted"),
        (
            {"device": {**TABLE.device, "runtime_version": "2.0"}},
            "runtime_version '1.2.3' where '2.0' is wanted",
        ),
        ({"device": {}}, "machine 'x86_64' where None is wanted"),
    ],
)
def test_another_device_or_setting_is_refused(setting, named):
    with pytest.raises(ValueError, match=f"of this device, runtime and setting, got .*{named}"):
        TABLE.require_setting(replace(TABLE, **setting))


def test_the_same_setting_is_taken():
    TABLE.require_setting(replace(TABLE, networks=(), created="another day"))


def test_a_layer_that_was_not_measured_is_refused_by_name():
    missing = WidthLayer(name="up", signature="ConvT", is_depthwise=False, bytes_per_weight=4.0)
    TABLE.require_layers(LAYERS)
    with pytest.raises(
        ValueError, match=r"got none of: up \(ConvT\); add them: lightning-cost pro"
    ):
        TABLE.require_layers([*LAYERS, missing])
    with pytest.raises(ValueError, match=r"wide .*; filter .*; point"):
        table(network(0)).require_layers(LAYERS)


def test_networks_are_added_and_replaced():
    assert TABLE.network("none") is None
    longer = TABLE.with_network(network(5))
    assert [len(longer.network(name).samples) for name in ("net", "other")] == [5, 2]
    assert len(TABLE.network("net").samples) == 3
    assert len(TABLE.with_network(network(1, name="third")).networks) == 3


def test_the_samples_as_arrays():
    observed = network(4).observations()
    assert observed.outs.shape == observed.layer_ms.shape == (4, 3)
    assert observed.num_operators[0].tolist() == [1, 1, 2]
    assert network(0).observations().outs.shape == (0, 3)
