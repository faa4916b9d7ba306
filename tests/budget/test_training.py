import pytest
from omegaconf import OmegaConf

from lightning_cost.budget.training import TrainingBudget
from lightning_cost.monitor.spend import Spend

SPEND = Spend(train_flops=600.0, search_flops=200.0, wall_clock_s=90.0, usd=3.0)


def test_headroom_is_one_minus_spend_over_limit():
    budget = TrainingBudget(wall_clock_s="1 min", flops=1000, usd=4)
    assert budget.headroom(SPEND) == {
        "wall_clock_s": pytest.approx(-0.5),
        "flops": pytest.approx(0.2),
        "usd": 0.25,
    }
    assert budget.is_spent(SPEND)
    assert not TrainingBudget(flops=1000).is_spent(SPEND)


def test_a_limit_that_is_reached_exactly_is_spent():
    assert TrainingBudget(flops=800).is_spent(SPEND)


@pytest.mark.parametrize(
    ("name", "needed"),
    [("energy_kwh", "power_w"), ("co2_kg", "power_w")],
)
def test_an_unknown_spend_names_what_must_be_described(name, needed):
    with pytest.raises(ValueError, match=f"{needed} of the training machine must be known where"):
        TrainingBudget(**{name: 1}).headroom(SPEND)


def test_percentages_are_refused():
    with pytest.raises(ValueError, match="wall_clock_s must be absolute in a training budget, got"):
        TrainingBudget(wall_clock_s="50%")


@pytest.mark.parametrize("limit", [0, -1, "2 parsec", "-2h"])
def test_bad_limits_are_refused_at_construction(limit):
    with pytest.raises(ValueError, match="wall_clock_s must be"):
        TrainingBudget(wall_clock_s=limit)


def test_it_is_a_hydra_schema():
    config = OmegaConf.merge(OmegaConf.structured(TrainingBudget), {"wall_clock_s": "2h"})
    budget = OmegaConf.to_object(config)
    assert budget == TrainingBudget(wall_clock_s="2h")
    assert not budget.is_empty
    assert TrainingBudget().is_empty
