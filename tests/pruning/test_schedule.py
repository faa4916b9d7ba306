"""The schedule as a table."""

import pytest

from lightning_cost.pruning.schedule import PruningSchedule

SCHEDULE = PruningSchedule(warmup_epochs=2, num_steps=3, epochs_per_step=2, recover_epochs=4)


def test_steps_and_phases():
    epochs = range(SCHEDULE.end_epoch + 1)
    assert [SCHEDULE.steps_due(epoch) for epoch in epochs] == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3]
    phases = [SCHEDULE.phase(epoch) for epoch in epochs]
    assert phases == ["warmup"] * 2 + ["prune"] * 4 + ["recover"] * 4 + [None]


def test_fractions_rise_from_dense_to_target():
    fractions = [SCHEDULE.fraction(step) for step in range(4)]
    assert fractions == pytest.approx([0, 19 / 27, 26 / 27, 1])
    with pytest.raises(ValueError, match=r"step must lie in \[0, 3\], got 4"):
        SCHEDULE.fraction(4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("warmup_epochs", -1), ("num_steps", 0), ("epochs_per_step", 0), ("recover_epochs", -1)],
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be >= {value + 1}, got {value}"):
        PruningSchedule(**{name: value})
