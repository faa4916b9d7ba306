import pytest

from lightning_cost.hardware.device import Hardware
from lightning_cost.pruning.guard import MetricGuard
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.recipe.config import CompressSettings, RunConfig

SCHEDULE = PruningSchedule(warmup_epochs=3, num_steps=2, epochs_per_step=2, recover_epochs=4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 3 of warm-up, 2 from the first step to the second, 4 of recovery
        ({"quantize": None}, 9),
        ({"quantize_epochs": 5}, 14),
        ({"prune": False, "quantize_epochs": 5}, 8),
    ],
)
def test_the_length_of_a_run(settings, expected):
    assert CompressSettings(schedule=SCHEDULE, **settings).num_epochs == expected


def test_a_guard_only_where_a_drop_is_given():
    assert CompressSettings().guard is None
    guard = CompressSettings(max_drop=0.02, on_drop="stop").guard
    assert guard == MetricGuard(metric="val/accuracy", max_drop=0.02, on_drop="stop")
    with pytest.raises(ValueError, match="on_drop must be one of stop, roll_back, go_on, got 'x'"):
        CompressSettings(max_drop=0.02, on_drop="x")


@pytest.mark.parametrize("given", [{"rewind": "last"}, {"updates_per_step": 5}])
def test_a_schedule_that_does_not_go_with_the_learning_rate(given):
    with pytest.raises(ValueError, match="schedule must leave updates_per_step and rewind alone"):
        CompressSettings(schedule=PruningSchedule(**given))


def test_a_network_that_stays_as_it_is_trains_for_the_warm_up():
    schedule = PruningSchedule(warmup_epochs=3, num_steps=2, recover_epochs=4)
    assert CompressSettings(prune=False, quantize=None, schedule=schedule).num_epochs == 3


def test_no_epoch_to_quantise_in():
    with pytest.raises(ValueError, match="quantize_epochs must be >= 0, got -1; 0 calibrates"):
        CompressSettings(quantize_epochs=-1)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"runtime": "openvino"}, "runtime must be left out, as 'cortex_m4' is described"),
        ({"runtime": "abacus"}, "got 'abacus'"),
        ({"precision": "bfloat16"}, "hardware.precision must be float32, .* got 'bfloat16'"),
    ],
)
def test_a_described_device_is_estimated_without_runtime_and_in_float32(changes, pattern):
    config = RunConfig(hardware=Hardware.load("cortex_m4"), runtime=changes.get("runtime"))
    config.hardware.precision = changes.get("precision", "float32")
    with pytest.raises(ValueError, match=pattern):
        config.settle_hardware()


def test_the_runs_runtime_is_the_hardwares():
    for runtime, expected in (("openvino", "openvino"), (None, "auto")):
        config = RunConfig(hardware=Hardware.local(), runtime=runtime)
        config.settle_hardware()
        assert config.hardware.runtime == expected
    described = RunConfig(hardware=Hardware.load("cortex_m4"), runtime="auto")
    described.settle_hardware()
