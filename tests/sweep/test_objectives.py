import pytest

from lightning_cost.sweep.objectives import Objective, objectives_of, require_reported
from lightning_cost.sweep.settings import SweepSettings

REPORT = {"final": {"metrics": {"val/accuracy": None}, "cost": {"latency_ms": {"value": 2.0}}}}


def test_directions_follow_from_names():
    found = objectives_of(["val/accuracy", "val/loss", "latency_ms"])
    assert [each.direction for each in found] == ["maximize", "minimize", "minimize"]


def test_directions_may_be_given():
    (found,) = objectives_of({"val/score": "minimize"})
    assert found == Objective(name="val/score", direction="minimize")


def test_a_cost_is_read_from_the_report():
    assert Objective(name="latency_ms", direction="minimize").of(REPORT) == 2.0


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="val/accuracy of the run is not a finite number"):
        Objective(name="val/accuracy", direction="maximize").of(REPORT)


def test_what_the_report_lacks():
    with pytest.raises(ValueError, match="objectives must be in the runs' reports, got 'macs'"):
        Objective(name="macs", direction="minimize").of(REPORT)
    with pytest.raises(ValueError, match="got 'latency'; there are val/accuracy, macs"):
        require_reported(objectives_of(["latency"]), ["val/accuracy"])


@pytest.mark.parametrize("written", [[], ["macs", "macs"]])
def test_none_or_one_twice(written):
    with pytest.raises(ValueError, match="objectives must name one or several numbers, each once"):
        objectives_of(written)


def test_an_unknown_direction():
    with pytest.raises(ValueError, match="objectives must be minimized or maximized, got a: up"):
        objectives_of({"a": "up"})


@pytest.mark.parametrize("name", ["num_trials", "num_jobs", "max_infeasible"])
def test_counts_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
        SweepSettings(**{name: 0})


@pytest.mark.parametrize("objectives", [["macs"], ["val/accuracy", "macs"]])
def test_only_one_metric_can_be_watched(objectives):
    with pytest.raises(ValueError, match="pruner must be none unless one metric alone"):
        SweepSettings(objectives=objectives, pruner="median")
