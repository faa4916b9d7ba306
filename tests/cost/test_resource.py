import pytest

from lightning_cost.cost.resource import Resource


@pytest.mark.parametrize("resource", Resource)
def test_name_value_text_and_log_key_agree(resource):
    assert resource.name == resource.value == str(resource)
    assert resource.log_key == f"cost/{resource.value}"
    assert resource.unit


@pytest.mark.parametrize(
    ("name", "unit"),
    [("latency_ms", "ms"), ("energy_mj", "mJ"), ("size_bytes", "B"), ("peak_memory_bytes", "B")],
)
def test_unit_is_the_one_in_the_name(name, unit):
    assert Resource(name).unit == unit


def test_what_depends_on_the_network_alone_is_counted():
    assert {resource.value for resource in Resource if not resource.is_counted} == {
        "latency_ms",
        "energy_mj",
        "usd_per_million",
    }


def test_unknown_resource_is_refused():
    with pytest.raises(ValueError, match="'speed' is not a valid Resource"):
        Resource("speed")
