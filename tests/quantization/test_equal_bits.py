import pytest
import torch

from lightning_cost.network.deploy import deployed_copy
from lightning_cost.quantization.equal_bits import with_integers
from lightning_cost.quantization.packing.packed import packed_size_bytes
from lightning_cost.quantization.schemes.registry import get_scheme
from tests.quantization.networks import prepared


@pytest.mark.parametrize(
    ("scheme", "integers"),
    [("power_of_two", "int4"), ("apot", "int4"), ("power_of_two_2", "int8")],
)
def test_computes_what_integers_of_these_bits_do(scheme, integers):
    network, x = prepared("residual", scheme=scheme)
    before = deployed_copy(network, x[:1])(x)
    replaced = with_integers(network)
    expected, _ = prepared("residual", scheme=integers)
    ranges = {name: value for name, value in network.state_dict().items() if "_value" in name}
    expected.load_state_dict(ranges, strict=False)
    assert torch.equal(deployed_copy(replaced, x[:1])(x), deployed_copy(expected, x[:1])(x))
    assert packed_size_bytes(replaced) == packed_size_bytes(expected)
    assert torch.equal(deployed_copy(network, x[:1])(x), before)


def test_mean_terms_become_the_nearest_bits():
    network, _ = prepared("residual", overrides={"*": {"name": "flightnn", "mean_terms": 1.3}})
    bits = {
        module.rounding.scheme.weight_bits
        for module in with_integers(network).modules()
        if hasattr(module, "rounding")
    }
    own = {
        module.rounding.weight_bits for module in network.modules() if hasattr(module, "rounding")
    }
    assert bits == {max(2, round(each)) for each in own}


def test_nothing_to_compare_without_powers_of_two():
    network, _ = prepared("residual", scheme=get_scheme("int4"))
    assert with_integers(network) is None
