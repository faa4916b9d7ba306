import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.resource import Resource
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.mixed.bits import BitOptions, ChosenBits
from lightning_cost.quantization.mixed.choice import Option
from lightning_cost.quantization.mixed.chooser import BitChooser
from lightning_cost.quantization.packing.packed import packed_size_bytes
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.quantization.schemes.registry import get_schemes
from lightning_cost.quantization.schemes.uniform import LowBit
from tests.quantization.networks import Block

ENERGY = Resource.energy_mj
CHOICES = ["int8", "int6", "int4", "power_of_two", {"name": "flightnn", "mean_terms": 1.3}]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        Block(1, 6), Block(6, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    ).eval()


def images(size=2):
    return torch.randn(size, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def hardware(**changes):
    device = Hardware.load("raspberry_pi_4")
    for name, value in {"energy_model": "eyeriss", **changes}.items():
        setattr(device, name, value)
    return device


def chooser(choices=CHOICES, rules=None, budget=None, device=None):
    budget = budget or ModelBudget(size_bytes="1 kB")
    rules = rules or QuantizationRules()
    return BitChooser(get_schemes(choices), rules, budget=budget, hardware=device)


def options_of(choosing, net):
    return choosing.options(net, images(1), lambda each: each(images(16)), reduced_range=False)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_priced_is_measured_for_any_choice(data):
    """Size exactly, energy on hardware that multiplies; what terms FLightNN spares comes off."""
    net, device = network(), hardware()
    budget = ModelBudget(size_bytes="1 kB", energy_mj=1.0)
    choosing = chooser(CHOICES[:4], budget=budget, device=device)
    options = options_of(choosing, net)
    drawn = {
        name: data.draw(st.sampled_from(list(given))) for name, given in options.options.items()
    }
    choosing.chosen = ChosenBits(
        schemes={name: option.scheme for name, option in drawn.items()},
        options=options.options,
        costs={},
        limits={},
    )
    prepared = copy.deepcopy(net)
    apply_change(prepared, choosing.plan(prepared, images(1), reduced_range=False))
    calibrate(prepared, [images()])
    cost = measure(prepared, images(1), hardware=device, resources=choosing.resources)
    for resource in choosing.resources:
        expected = options.rest[resource] + sum(option.costs[resource] for option in drawn.values())
        if resource is Resource.size_bytes:
            assert 0 <= cost[resource].value - expected < 1  # a whole number of bytes
        else:
            assert cost[resource].value == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_packed_file_takes_no_more_than_was_chosen(share):
    net, choosing = network(), chooser()
    options = options_of(choosing, net)
    low, *_, high = options.spread(Resource.size_bytes, 5)
    span = [each.costs[Resource.size_bytes] for each in (low, high)]
    limit = span[0] + share * (span[1] - span[0])
    choosing.chosen = options.within({Resource.size_bytes: limit})
    prepared = copy.deepcopy(net)
    apply_change(prepared, choosing.plan(prepared, images(1), reduced_range=False))
    calibrate(prepared, [images()])
    counted = measure(prepared, images(1), resources=["size_bytes"])[Resource.size_bytes].value
    assert counted <= limit + 1
    # two bits a filter where filters differ in their powers of two
    num_filters = sum(len(each) for _, each in prepared.named_parameters() if each.dim() > 1)
    assert packed_size_bytes(prepared) <= counted + num_filters / 4 + 5 * 20


def test_spread_goes_from_the_fewest_bits_to_the_least_harm():
    spread = options_of(chooser(), network()).spread(Resource.size_bytes, 5)
    sizes = [each.costs[Resource.size_bytes] for each in spread]
    harms = [each.harm for each in spread]
    assert sizes == sorted(sizes)
    assert harms == sorted(harms, reverse=True)
    assert len(spread) >= 3


@given(st.integers(2, 9), st.integers(0, 999))
def test_spread_reaches_the_cheapest_whatever_the_costs(num_layers, seed):
    drawn = np.random.default_rng(seed)

    def layer():
        size, harm = drawn.uniform(1e-5, 1e-3), drawn.uniform()
        return [
            Option(scheme=LowBit(bits=bits), harm=harm / bits, costs={ENERGY: size * bits})
            for bits in (3, 5, 7)
        ]

    options = {str(index): layer() for index in range(num_layers)}
    found = BitOptions(options=options, rest={ENERGY: drawn.uniform(0, 0.01)}).spread(ENERGY, 4)
    assert {scheme.bits for scheme in found[0].schemes.values()} == {3}


def test_layers_are_chosen_for_by_name_whatever_the_name():
    layers = [("a", Block(1, 6)), ("b[0]*?", Block(6, 8)), ("flat", nn.Flatten())]
    net = nn.Sequential(OrderedDict([*layers, ("last", nn.Linear(8 * 36, 3))])).eval()
    choosing = chooser(["int8", "int4"])
    limits = {Resource.size_bytes: 8000.0}
    choosing.chosen = choosing.choose(net, images(1), [images(16)], limits, reduced_range=False)
    assert any(name.startswith("b[0]*?.") for name in choosing.chosen.schemes)
    change = choosing.plan(net, images(1), reduced_range=False)
    for name, scheme in choosing.chosen.schemes.items():
        assert change.schemes[name] == scheme


def test_plain_data_and_back():
    chosen = options_of(chooser(), network()).spread(Resource.size_bytes, 3)[1]
    assert ChosenBits.from_dict(chosen.to_dict()) == chosen


def test_ends_and_overrides_are_not_up_to_the_choice():
    rules = QuantizationRules(overrides={"1.conv1": "int5"})
    options = options_of(chooser(["int6", "int4"], rules), network()).options
    names = {name: [option.scheme.weight_bits for option in each] for name, each in options.items()}
    assert names["1.conv1"] == [5]
    assert names["0.conv1"] == [8]  # the first
    assert names["4"] == [8]  # the last
    assert names["1.conv2"] == [6, 4]


def test_products_that_overflow_keep_seven_bits():
    net = network()
    options = chooser(["int8", "int4"]).options(
        net, images(1), lambda each: each(images(16)), reduced_range=True
    )
    assert {option.scheme.weight_bits for each in options.options.values() for option in each} == {
        7,
        4,
    }


@pytest.mark.parametrize(
    ("budget", "device"),
    [
        (None, None),
        (ModelBudget(macs="50%"), None),
        (ModelBudget(latency_ms=1.0), Hardware.local()),
        (ModelBudget(energy_mj=1.0), hardware(energy_model=None, power_w=5.0)),
    ],
)
def test_a_budget_that_bits_have_no_part_in_is_refused(budget, device):
    with pytest.raises(ValueError, match="budget must limit what bits have a part in"):
        BitChooser(
            get_schemes(["int8", "int4"]), QuantizationRules(), budget=budget, hardware=device
        )


def test_a_choice_with_a_budget_of_its_own_is_refused():
    choices = get_schemes(["int8", {"name": "flightnn", "max_bytes": 5000}])
    with pytest.raises(ValueError, match=r"max_bytes must be left out .* give mean_terms"):
        BitChooser(
            choices, QuantizationRules(), budget=ModelBudget(size_bytes=20_000), hardware=None
        )


def test_one_choice_is_none():
    with pytest.raises(ValueError, match="must be two or more, got 1"):
        chooser(["int8"])
    with pytest.raises(ValueError, match="one or more, each once"):
        get_schemes(["int8", "int8"])


def test_a_share_of_what_bits_have_no_part_in_is_left_to_others():
    net, shares = network(), ModelBudget(macs="70%", size_bytes="40%")
    dense = measure(net, images(1), resources=["size_bytes"])
    limits = chooser(budget=shares).find_limits(net, images(1), dense, is_alone=False)
    expected = 0.4 * dense[Resource.size_bytes].value
    assert limits == {Resource.size_bytes: pytest.approx(expected)}
