"""What is refused as a description, through the device that it describes."""

import pytest

from lightning_cost.hardware.device import Hardware

TOY = {
    "name": "toy",
    "is_local": False,
    "peak_gmacs_fp32": 1.0,
    "bandwidth_gb_s": 1e9,
    "source": "test",
    "date": "2025",
}


@pytest.mark.parametrize("name", ["peak_gmacs_fp32", "bandwidth_gb_s", "source", "date"])
def test_a_description_must_be_complete(name):
    with pytest.raises(ValueError, match=f"{name} must be given for hardware that is not local"):
        Hardware(**(TOY | {name: None}))


@pytest.mark.parametrize("name", ["num_threads", "batch_size", "power_w", "bandwidth_gb_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_figures_must_be_positive(name, value):
    wanted = f"{name} of hardware 'toy' must be (> 0|a whole number), got {value}"
    with pytest.raises(ValueError, match=wanted):
        Hardware(**(TOY | {name: value}))


@pytest.mark.parametrize("utilisation", [0, 1.5, float("nan")])
def test_utilisation_is_a_share(utilisation):
    with pytest.raises(ValueError, match=r"utilisation must be a share in \(0, 1\], got"):
        Hardware(**TOY, utilisation=utilisation)


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind of hardware 'toy' must be one of local, server"):
        Hardware(**TOY, kind="abacus")


@pytest.mark.parametrize("entry", [{"power_w": "guess"}, {"colour": "derived"}])
def test_provenance_is_of_a_figure_and_of_a_known_sort(entry):
    with pytest.raises(ValueError, match="provenance of hardware 'toy' must say of a figure"):
        Hardware(**TOY, provenance=entry)


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, got 'int8'"):
        Hardware.local(precision="int8")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("num_threads", True, "a whole number"),
        ("batch_size", 1.5, "a whole number"),
        ("power_w", "5 W", "a number"),
        ("bandwidth_gb_s", [5.9], "a number"),
        ("utilisation", True, "a number"),
        ("is_owned", "no", "true or false"),
        ("region", 7, "a text"),
        ("provenance", 0.5, "names and values"),
    ],
)
def test_values_of_another_type_are_named(name, value, wanted):
    with pytest.raises(ValueError, match=f"{name} of hardware 'local' must be {wanted}, got"):
        Hardware(**{name: value})


def test_a_latency_table_is_of_this_machine():
    with pytest.raises(ValueError, match="latency_table must be of this machine, got 'a' for"):
        Hardware(**TOY, latency_table="a")
