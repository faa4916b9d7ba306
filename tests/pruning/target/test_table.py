"""The latency table of a target: whether it suits, and what it says of widths."""

import warnings

import pytest
import torch

from lightning_cost.hardware.device import Hardware
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.target.table import read_table, steps_of
from lightning_cost.runtime.standalone import fingerprint
from lightning_cost.zoo.resnet import resnet8
from tests.reference.latency_tables import network, table


def saved(tmp_path, **settings):
    return str(table(network(40), **settings).save(tmp_path / "table.json"))


def here():
    return {"device": fingerprint("openvino")}


def test_without_a_table_there_is_none():
    assert read_table(None) is None
    assert read_table(Hardware.local("openvino")) is None


def test_a_table_of_this_machine_is_taken_as_it_is(tmp_path):
    path = saved(tmp_path, **here())
    for runtime in ("openvino", "auto"):
        assert len(read_table(Hardware(runtime=runtime, latency_table=path)).networks) == 1


def test_a_table_of_another_machine_only_proposes(tmp_path):
    with pytest.warns(UserWarning, match=r"cpu 'Some CPU' instead of .*; it proposes"):
        assert read_table(Hardware(runtime="openvino", latency_table=saved(tmp_path))) is not None


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"runtime": "onnxruntime"}, "runtime 'openvino' where 'onnxruntime' is wanted"),
        ({"num_threads": 2}, "num_threads 1 where 2"),
        ({"batch_size": 8}, "batch_size 1 where 8"),
    ],
)
def test_a_table_of_another_setting_is_refused(tmp_path, given, match):
    path = saved(tmp_path, **here())
    hardware = Hardware(**({"runtime": "openvino"} | given), latency_table=path)
    with pytest.raises(ValueError, match=match):
        read_table(hardware)


def test_a_table_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="profile this device first"):
        read_table(Hardware(latency_table="none.json"))


def test_a_described_device_has_no_table():
    with pytest.raises(ValueError, match=r"latency_table must be of this machine, got 'a\.json'"):
        Hardware(
            **{"name": "board", "is_local": False, "latency_table": "a.json"},
            peak_gmacs_fp32=1,
            bandwidth_gb_s=1,
            source="us",
            date="2026",
        )


def test_channels_follow_the_steps_of_the_device_unless_groups_are_narrow():
    measured = table(network(60))  # most of its time is in a layer of steps of 16
    wide = channel_groups(resnet8(width=32), torch.zeros(1, 3, 8, 8))
    narrow = channel_groups(resnet8(width=4), torch.zeros(1, 3, 8, 8))
    assert isinstance(wide, Grouping)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert steps_of(measured, wide) == 16
        assert steps_of(measured, narrow) == 4
