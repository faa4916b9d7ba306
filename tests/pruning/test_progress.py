"""When the network is judged, over whole schedules, and what a checkpoint knows."""

import json

import pytest
import torch
from torch import nn

from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.guard import MetricGuard
from lightning_cost.pruning.planning import Planned
from lightning_cost.pruning.progress import Progress
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.plan import Plan


def judged_epochs(schedule, *, is_halted=False):
    """The epochs at whose end the network is judged, if each step is made when it is due."""
    progress, epochs = Progress(is_halted=is_halted), []
    for epoch in range(schedule.end_epoch + 2):
        for tenth in range(10):
            for number in progress.steps_to_make(schedule, epoch + tenth / 10):
                progress.num_steps_done = progress.place = number
        progress.num_epochs_done = epoch + 1
        if progress.is_judged_now(schedule):
            epochs.append(epoch)
    return epochs


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"num_steps": 3}, [2, 3, 6]),
        ({"num_steps": 2, "epochs_per_step": 3}, [4, 7]),
        ({"num_steps": 1}, [4]),
        ({"num_steps": 4, "epochs_per_step": 0.5}, [2, 6]),
        ({"num_steps": 2, "recover_epochs": 0}, [2, 3]),
    ],
)
def test_judged_when_the_training_after_a_step_is_over(given, expected):
    assert judged_epochs(
        PruningSchedule(**({"warmup_epochs": 2, "recover_epochs": 3} | given))
    ) == (expected)


def test_where_nothing_was_validated_it_is_judged_later():
    schedule = PruningSchedule(warmup_epochs=1, num_steps=1, recover_epochs=1)
    progress = Progress(num_steps_done=1, place=1, num_epochs_done=3)
    assert not progress.is_judged_now(schedule)
    progress.is_awaited = True
    assert progress.is_judged_now(schedule)


def test_a_metric_is_of_the_network_that_was_validated():
    progress = Progress()
    progress.note_metric(0.9)
    progress.num_steps_done = 1
    progress.note_metric(0.8)
    assert (progress.dense_metric, progress.metric) == (0.9, 0.8)


def test_once_halted_there_are_no_steps_and_no_verdicts():
    schedule = PruningSchedule(warmup_epochs=1, recover_epochs=1)
    assert judged_epochs(schedule, is_halted=True) == []
    progress = Progress(num_steps_done=1, place=1, num_epochs_done=2)
    assert progress.phase(schedule) == "prune"
    progress.is_halted = True
    assert progress.phase(schedule) == "recover"


def test_a_verdict_names_metric_step_and_limit():
    guard = MetricGuard(metric="acc", max_drop=0.05)
    progress = Progress(place=2, dense_metric=0.9)
    assert progress.verdict(guard, 0.86) is None
    assert progress.verdict(guard, 0.8) == (
        "acc went from 0.9 to 0.8 by pruning step 2, which is more than 0.05"
    )


def test_plain_data():
    progress = Progress(num_epochs_done=2, remarks=["one"], learning_rates={3: {"a": 1}})
    again = Progress.from_dict(progress.to_dict() | {"plans": []})
    assert again == progress
    newer = ("search_memory", "metric", "is_awaited")
    without = {name: value for name, value in progress.to_dict().items() if name not in newer}
    assert Progress.from_dict(without) == progress, "older checkpoints have none"


def test_steps_that_were_not_planned_cannot_be_done():
    with pytest.raises(ValueError, match="num_steps_done must be <= 0, which are planned, got 2"):
        Progress.from_dict(Progress(num_steps_done=2).to_dict())


def test_the_plan_in_force_follows_the_steps():
    network = nn.Sequential(nn.Linear(2, 6), nn.Linear(6, 2))
    grouping = channel_groups(network, torch.zeros(1, 2))
    plans = [
        Plan(kept={"0": tuple(range(kept))}, num_channels=grouping.num_channels) for kept in (4, 2)
    ]
    planned = Planned(
        ranking=GlobalRanking(scores={"0": tuple(map(float, range(6)))}),
        grouping=grouping,
        plans=tuple(plans),
    )
    progress = Progress(
        planned=planned,
        dense_cost=measure(network, torch.zeros(1, 2)),
        search_flops=3.0,
        num_steps_done=2,
    )
    found = []
    for place in range(3):
        progress.place = place
        again = Progress.from_dict(progress.to_dict())
        assert again == progress
        json.dumps(progress.to_dict())
        found.append((again.plan, again.widths))
    assert found == [(None, {}), (plans[0], {"0": (6, 4)}), (plans[1], {"0": (6, 2)})]
