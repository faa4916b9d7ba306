import pytest

from lightning_cost.pruning.guard import MetricGuard


@pytest.mark.parametrize(
    ("mode", "now", "is_broken"),
    [
        ("max", 0.90, False),
        ("max", 0.74, True),
        ("max", 0.75, False),
        ("min", 1.25, False),
        ("min", 1.26, True),
        ("min", 0.1, False),
        ("max", float("nan"), True),
        ("min", float("nan"), True),
    ],
)
def test_a_drop_is_in_the_metrics_own_unit(mode, now, is_broken):
    guard = MetricGuard(metric="m", max_drop=0.25, mode=mode)
    assert guard.is_broken(1.0, now) is is_broken


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_drop": -0.1}, r"max_drop must be >= 0, got -0.1; it is how much worse"),
        ({"on_drop": "cry"}, r"on_drop must be one of stop, roll_back, go_on, got 'cry'"),
        ({"mode": "up"}, r"mode must be one of max, min, got 'up'"),
    ],
)
def test_what_cannot_be(given, message):
    with pytest.raises(ValueError, match=message):
        MetricGuard(**({"metric": "m", "max_drop": 0.1} | given))


def test_there_must_be_something_to_compare_with():
    guard = MetricGuard(metric="m", max_drop=0.1)
    guard.require_warmup(1)
    with pytest.raises(ValueError, match="warmup_epochs must be >= 1 where a guard compares"):
        guard.require_warmup(0)
