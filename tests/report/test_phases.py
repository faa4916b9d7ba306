from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.report.phases import phases_of


def rows_of(names):
    return [
        {
            "epoch": epoch,
            "seconds": 10.0 * (epoch + 1),
            "phase": name,
            "cost": {"macs": epoch},
            "metrics": {"acc": epoch / 10},
        }
        for epoch, name in enumerate(names)
    ]


def test_runs_of_one_phase_become_one_entry():
    phases = phases_of(rows_of(["warm-up", "warm-up", None, "prune"]), {"macs": "dense"}, "acc")
    assert phases[0] == {
        "name": "warm-up",
        "start_epoch": 0,
        "end_epoch": 1,
        "seconds": 20.0,
        "cost_before": {"macs": "dense"},
        "cost_after": {"macs": 1},
        "metric": 0.1,
    }
    assert [phase["name"] for phase in phases] == ["warm-up", "train", "prune"]
    assert phases[2]["cost_before"] == {"macs": 2}
    assert phases[2]["seconds"] == 10.0


def test_a_metric_or_a_time_that_is_not_known_stays_unknown():
    row = {"epoch": 0, "seconds": None, "phase": None, "cost": {}, "metrics": {}}
    (phase,) = phases_of([row], {}, "acc")
    assert phase["seconds"] is None
    assert phase["metric"] is None


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=30))
def test_phases_cover_the_history_once_and_in_order(names):
    rows = rows_of(names)
    phases = phases_of(rows, {}, None)
    covered = [e for p in phases for e in range(p["start_epoch"], p["end_epoch"] + 1)]
    assert covered == list(range(len(names)))
    assert all(one["name"] != other["name"] for one, other in pairwise(phases))
    assert sum(phase["seconds"] for phase in phases) == 10.0 * len(names)
