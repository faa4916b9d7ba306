import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.budget.forecast import MARGIN, NUM_EPOCH_ENDS, NUM_STEPS, Forecast


def after(*totals, name="flops"):
    forecast = Forecast()
    for total in totals:
        forecast.step_ended({name: total})
    return forecast


def test_nobody_knows_before_the_second_step():
    assert after().next_step() == {}
    assert after(7).next_step() == {}
    assert after().ending(3) == {}


@given(steps=st.lists(st.integers(1, 100), min_size=1, max_size=2 * NUM_STEPS))
def test_the_next_step_is_as_large_as_the_largest_of_the_last(steps):
    totals = [sum(steps[:number]) for number in range(len(steps) + 1)]
    assert after(*totals).next_step() == {"flops": max(steps[-NUM_STEPS:])}


def test_time_has_a_margin():
    assert after(0, 2, name="wall_clock_s").next_step() == {"wall_clock_s": 2 * MARGIN}


def test_a_validation_is_guessed_until_there_was_one():
    forecast = after(0, 10)
    assert forecast.next_step(num_validation_batches=4) == {"flops": 10 + 20}
    forecast.validated({"flops": 10 + 70})
    forecast.epoch_ended({"flops": 10 + 70 + 3})
    assert forecast.next_step(num_validation_batches=4) == {"flops": 10 + 73}
    assert forecast.next_step(num_validation_batches=4, is_last_batch=True) == {"flops": 10 + 76}
    assert forecast.next_step(validates_first=True) == {"flops": 10 + 143}
    assert forecast.next_step(validates_first=True, is_last_batch=True) == {"flops": 10 + 146}


def test_a_validation_within_an_epoch_is_no_step():
    forecast = after(0, 10)
    forecast.validated({"flops": 10 + 70})
    forecast.step_ended({"flops": 10 + 70 + 11})
    assert forecast.next_step(num_validation_batches=4) == {"flops": 11 + 70}


def test_the_last_validation_is_known_however_many_epochs_ended_since():
    forecast = after(0, 10)
    forecast.validated({"flops": 10 + 70})
    for _ in range(NUM_EPOCH_ENDS + 1):
        forecast.epoch_ended({"flops": 10 + 70})
    assert forecast.ending(4) == {"flops": 70}


def test_what_is_no_step_is_left_out():
    forecast = after(0, 10)
    forecast.interrupted({"flops": 5000})
    forecast.step_ended({"flops": 5012})
    assert forecast.next_step() == {"flops": 12}


def test_it_goes_on_after_a_resume():
    forecast = after(0, 10, 25)
    forecast.validated({"flops": 30})
    forecast.epoch_ended({"flops": 32})
    other = Forecast()
    other.load_state_dict(json.loads(json.dumps(forecast.state_dict())))
    assert other.next_step() == forecast.next_step()
    assert other.next_step() == pytest.approx({"flops": 22})


def test_a_state_whose_ends_of_epochs_held_validations_says_the_same():
    forecast = Forecast()
    forecast.load_state_dict({"steps": [{"flops": 10}], "epoch_ends": [{"flops": 7}]})
    assert forecast.next_step(num_validation_batches=4) == {"flops": 17}
    forecast.interrupted({"flops": 0})
    forecast.validated({"flops": 7})
    assert forecast.ending(4) == {"flops": 7}
