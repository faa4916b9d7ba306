"""When the network is judged, over whole schedules."""

import pytest

from lightning_cost.pruning.guard import MetricGuard
from lightning_cost.pruning.progress import Progress
from lightning_cost.pruning.schedule import PruningSchedule


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
        ({"num_steps": 2, "recover_epochs": 0}, [2]),
    ],
)
def test_judged_when_the_training_after_a_step_is_over(given, expected):
    assert judged_epochs(
        PruningSchedule(**({"warmup_epochs": 2, "recover_epochs": 3} | given))
    ) == (expected)


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
    progress = Progress(num_steps_done=2, place=1, remarks=["one"], learning_rates={3: {"a": 1}})
    again = Progress.from_dict(progress.to_dict() | {"plans": []})
    assert again == progress
