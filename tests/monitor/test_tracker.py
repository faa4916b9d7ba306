import json

from torch import nn

from lightning_cost.cost.measurement import Measurement, cost_to_dict
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.tracker import CostTracker, setting_of, structure_of


def cost(value):
    return {Resource.macs: Measurement.exact(Resource.macs, value)}


def never():
    raise AssertionError


def test_it_measures_when_the_structure_changed_and_only_then():
    tracker = CostTracker()
    assert tracker.refresh(nn.Linear(2, 2), lambda: cost(4))
    assert not tracker.refresh(nn.Linear(2, 2), never)
    assert tracker.refresh(nn.Linear(2, 1), lambda: cost(2))
    assert tracker.dense == cost(4)
    assert tracker.cost == cost(2)


def test_a_network_that_was_changed_before_has_no_dense_cost():
    network = nn.Linear(2, 2)
    network._lightning_cost_lineage = ("a change",)
    tracker = CostTracker()
    tracker.refresh(network, lambda: cost(4))
    assert tracker.dense is None


def test_state_is_plain_data_and_round_trips():
    tracker = CostTracker()
    tracker.refresh(nn.Linear(2, 2), lambda: cost(4))
    tracker.add_row(epoch=0, step=3, seconds=1.0, phase=None, metrics={"loss": 0.5})
    other = CostTracker()
    other.load_state_dict(json.loads(json.dumps(tracker.state_dict())))
    assert (other.dense, other.cost, other.history) == (cost(4), cost(4), tracker.history)
    assert not other.refresh(nn.Linear(2, 2), never)


def test_a_row_takes_the_same_place_in_a_checkpoint_after_any_number_of_epochs():
    tracker = CostTracker()
    costs = [cost(4), cost(2), cost(4)]
    sizes = []
    for epoch in range(30):
        tracker.cost = costs[epoch // 10]
        before = len(json.dumps(tracker.state_dict()))
        tracker.add_row(epoch=epoch, step=7, seconds=1.0, phase="x", metrics={"loss": 0.5})
        sizes.append(len(json.dumps(tracker.state_dict())) - before)
    with_new_cost = [sizes[epoch] for epoch in (0, 10, 20)]
    others = [size for epoch, size in enumerate(sizes) if epoch % 10]
    assert max(others) < 120 < min(with_new_cost)
    other = CostTracker()
    other.load_state_dict(tracker.state_dict())
    other.add_row(epoch=30, step=7, seconds=1.0, phase="x", metrics={})
    assert other.history[:30] == tracker.history
    assert [row["cost"] for row in other.history[::10]] == [*map(cost_to_dict, [*costs, cost(4)])]


def test_metrics_that_a_trainer_has_forgotten_are_those_of_the_row_before():
    tracker = CostTracker()
    for epoch, metrics in enumerate([{"a": 1.0, "b": 2.0}, {"b": 3.0}, {"c": 4.0}]):
        tracker.add_row(epoch=epoch, step=1, seconds=1.0, phase=None, metrics=metrics)
    assert tracker.history[-1]["metrics"] == {"a": 1.0, "b": 3.0, "c": 4.0}
    assert tracker.history[0]["metrics"] == {"a": 1.0, "b": 2.0}


def test_a_repeated_epoch_replaces_its_row():
    tracker = CostTracker()
    for step in (1, 2):
        tracker.add_row(epoch=0, step=step, seconds=1.0, phase=None, metrics={})
    assert [row["step"] for row in tracker.history] == [2]


def test_structure_depends_on_shapes_and_types_not_on_values():
    assert structure_of(nn.Linear(2, 2)) == structure_of(nn.Linear(2, 2))
    assert structure_of(nn.Linear(2, 2)) != structure_of(nn.Linear(2, 2).double())


def test_another_device_or_setting_is_measured_anew_and_the_dense_cost_stays():
    tracker = CostTracker()
    settings = [None, Hardware.load("nvidia_t4"), Hardware.local("eager", batch_size=2)]
    for number, hardware in enumerate(settings):
        assert tracker.refresh(
            nn.Linear(2, 2), lambda number=number: cost(number), setting=setting_of(hardware)
        )
        assert not tracker.refresh(nn.Linear(2, 2), never, setting=setting_of(hardware))
    assert tracker.dense == cost(0)
