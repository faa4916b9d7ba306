"""The schedule as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_linear_and_one_shot():
    linear = PruningSchedule(num_steps=4, shape="linear")
    assert [linear.fraction(step) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    one_shot = PruningSchedule(num_steps=4, shape="one_shot", warmup_epochs=2, recover_epochs=3)
    assert one_shot.num_steps == 1
    assert [one_shot.fraction(step) for step in range(2)] == [0, 1]
    assert (one_shot.last_step_epoch, one_shot.end_epoch) == (2, 5)


def test_steps_within_an_epoch():
    schedule = PruningSchedule(warmup_epochs=2, num_steps=4, epochs_per_step=0.5, recover_epochs=1)
    assert [schedule.steps_due(2 + tenth / 10) for tenth in (-1, 0, 4, 5, 9, 10, 15)] == [
        0,
        1,
        1,
        2,
        2,
        3,
        4,
    ]
    assert schedule.last_step_epoch == 3.5
    assert schedule.end_epoch == 5  # the rest of epoch 3 is not counted
    assert [schedule.phase(epoch) for epoch in range(1, 6)] == [
        "warmup",
        "prune",
        "prune",
        "recover",
        None,
    ]


@given(updates=st.integers(1, 40), per_epoch=st.integers(1, 30), num_steps=st.integers(1, 5))
def test_updates_are_counted_exactly(updates, per_epoch, num_steps):
    schedule = PruningSchedule(warmup_epochs=1, num_steps=num_steps, updates_per_step=updates)
    schedule = schedule.in_epochs(per_epoch)
    for update in range(num_steps * updates + per_epoch):
        epoch = 1 + update // per_epoch + update % per_epoch / per_epoch
        assert schedule.steps_due(epoch) == min(update // updates + 1, num_steps)
    last_epoch = 1 + (num_steps - 1) * updates // per_epoch
    assert schedule.end_epoch - schedule.recover_epochs in (last_epoch, last_epoch + 1)


def test_updates_need_an_epoch_of_known_length():
    schedule = PruningSchedule(updates_per_step=10)
    with pytest.raises(ValueError, match="epochs_per_step must be given where the length of the"):
        _ = schedule.end_epoch
    with pytest.raises(ValueError, match="updates_per_step must be left out where an epoch has no"):
        schedule.in_epochs(float("inf"))
    assert PruningSchedule().in_epochs(float("inf")) == PruningSchedule()


@pytest.mark.parametrize(
    ("rewind", "expected"),
    [("none", [None, None, None]), ("last", [None, None, 4]), ("each", [6, 6, 4])],
)
def test_rewinding(rewind, expected):
    schedule = PruningSchedule(
        warmup_epochs=8, num_steps=3, epochs_per_step=1.5, recover_epochs=4, rewind=rewind
    )
    assert [schedule.rewound_epoch(step) for step in (1, 2, 3)] == expected
    assert schedule.rewound_epochs == set(expected)
    long = PruningSchedule(warmup_epochs=2, recover_epochs=5, rewind="last")
    assert long.rewound_epoch(long.num_steps) == 0


@pytest.mark.parametrize(("name", "value"), [("shape", "cosine"), ("rewind", "first")])
def test_unknown_words_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be one of .*, got '{value}'"):
        PruningSchedule(**{name: value})


def test_a_step_takes_time():
    with pytest.raises(ValueError, match=r"epochs_per_step must be > 0, got 0; use shape='one_s"):
        PruningSchedule(epochs_per_step=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("warmup_epochs", -1), ("num_steps", 0), ("updates_per_step", 0), ("recover_epochs", -1)],
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be >= {value + 1}, got {value}"):
        PruningSchedule(**{name: value})


def test_a_fit_that_ends_before_the_schedule_is_refused():
    for enough in (None, -1, SCHEDULE.end_epoch, SCHEDULE.end_epoch + 1):
        SCHEDULE.require_within(enough)
    with pytest.raises(ValueError, match=r"max_epochs must be >= 10, where .* ends, got 9; raise"):
        SCHEDULE.require_within(9)
