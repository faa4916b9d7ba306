import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change, lineage_of, lineage_to_list
from lightning_cost.pruning.structure.groups import channel_groups
from lightning_cost.pruning.structure.surgery import removal
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.convert import stored_layers
from lightning_cost.quantization.packing.container import read_container, write_container
from lightning_cost.quantization.packing.packed import (
    load_packed,
    packed_size_bytes,
    save_packed,
)
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.quantization.rules import QuantizationRules
from lightning_cost.zoo.resnet import resnet20
from tests.quantization.networks import NETWORKS, prepared, trained
from tests.quantization.packing.test_codecs import VALUES
from tests.reference.plans import plans
from tests.reference.random_networks import images, networks, randomised


def fill(network, values, seed=0):
    """Give every stored weight of ``network`` random integers out of ``values``."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.tensor(sorted(values), dtype=torch.int8)
    for weight, _ in stored_layers(network).values():
        index = torch.randint(len(levels), weight.values.shape, generator=generator)
        weight.values.copy_(levels[index])
    return network


def converted(network, x, exclude=()):
    apply_change(
        network, plan_quantization(network, x, rules=QuantizationRules(exclude=list(exclude)))
    )
    calibrate(network, [x])
    return deployed_copy(network, x)


def is_same(found, expected):
    return found.numpy().tobytes() == expected.numpy().tobytes()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_loaded_computes_what_was_saved_to_the_last_bit(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("packed") / "network"
    fresh, x = data.draw(networks()), images()
    network = randomised(copy.deepcopy(fresh), seed=7)
    if data.draw(st.booleans()):
        grouping = channel_groups(network, x)
        apply_change(network, removal(grouping, data.draw(plans(grouping))))
    exclude = data.draw(st.sampled_from([(), ("0",), (str(len(network) - 1),)]))
    saved = converted(network, x, exclude)
    fill(saved, VALUES[data.draw(st.sampled_from(list(VALUES)))], seed=data.draw(st.integers(0, 9)))
    expected, state = saved(x), copy.deepcopy(saved.state_dict())
    save_packed(saved, path)
    loaded = load_packed(fresh, path)
    assert is_same(loaded(x), expected)
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    _, body = read_container(path)
    assert len(body) == packed_size_bytes(saved) == packed_size_bytes(loaded)
    assert lineage_to_list(lineage_of(loaded)) == lineage_to_list(lineage_of(saved))


@pytest.mark.parametrize("name", NETWORKS)
def test_prepared_network_is_converted_first(name, tmp_path):
    network, x = prepared(name)
    expected = deployed_copy(network, x)(x)
    save_packed(network, tmp_path / "network")
    loaded = load_packed(trained(name, seed=3)[0], tmp_path / "network")
    assert is_same(loaded(x), expected)
    assert network.training
    assert is_same(deployed_copy(loaded, x)(x), expected)


@pytest.mark.parametrize("name", VALUES)
def test_file_is_as_large_as_the_formula_says(name, tmp_path):
    network = converted(resnet20(in_channels=1), torch.randn(2, 1, 8, 8))
    fill(network, VALUES[name])
    found = save_packed(network, tmp_path / "network").stat().st_size
    formula = packed_size_bytes(network)
    assert formula <= found <= (1.01 if name not in ("int2", "int3") else 1.02) * formula


def test_formula_by_hand():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 5, 1))
    saved = converted(network.eval(), torch.randn(2, 2, 6, 6))
    fill(saved, VALUES["power_of_two"])
    first, last = (pair for pair in stored_layers(saved).values())
    last[0].scale.copy_(torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25]))  # its bias keeps other scales
    for (_, bias), largest in ((first, 1000), (last, -128)):
        bias.values.zero_()[0] = largest
    grids = 2 * 5
    weights = (3 * 18 + 1) // 2 + (5 * 3 + 1) // 2
    biases = (3 * 11 + 7) // 8 + 5
    scales = 4 * 3 + 1 * 5 + 4 * 5
    assert packed_size_bytes(saved) == grids + weights + biases + scales


def test_batch_norm_and_ties_in_floating_point(tmp_path):
    def build():
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 3),
            nn.Flatten(),
            nn.BatchNorm1d(64),
            nn.Linear(64, 64),
            nn.Linear(64, 64),
        )
        network[6].weight = network[5].weight
        network.register_buffer("empty", torch.zeros(0, 3, dtype=torch.bfloat16))
        return network

    torch.manual_seed(0)
    network, x = randomised(build()).eval(), torch.randn(3, 1, 8, 8)
    saved = converted(network, x, exclude=["0"])
    assert isinstance(saved[1], nn.Identity)
    assert isinstance(saved[4], nn.BatchNorm1d)
    save_packed(saved, tmp_path / "network")
    fresh = load_packed(build(), tmp_path / "network")
    assert is_same(fresh(x), saved(x))
    assert fresh[6].weight is fresh[5].weight
    floats = 36 + 4 + 4 * 64 + 64 * 64 + 2 * 64
    assert packed_size_bytes(saved) == 4 * floats + 4 * 36 + 4 * 4 + 2 * 5 + bias_bytes(saved)


def bias_bytes(network):
    (_, bias), *_ = stored_layers(network).values()
    return -(-4 * max(2, 1 + int(bias.values.abs().max()).bit_length()) // 8)


def test_network_that_is_not_quantised(tmp_path):
    network, x = trained("residual")
    saved = deployed_copy(network, x)
    save_packed(saved, tmp_path / "network")
    assert is_same(load_packed(trained("residual", 1)[0], tmp_path / "network")(x), saved(x))


def test_lineage_of_a_part(tmp_path):
    network, x = prepared("residual")
    saved = nn.Sequential(deployed_copy(network, x), nn.Softmax(1))
    save_packed(saved, tmp_path / "network")
    fresh = nn.Sequential(trained("residual", 1)[0], nn.Softmax(1))
    assert is_same(load_packed(fresh, tmp_path / "network")(x), saved(x))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_file_leaves_the_network_as_it_was(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("packed") / "network"
    save_packed(prepared("functional")[0], path)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        content = content[:position]
    path.write_bytes(content)
    fresh, _ = trained("functional", seed=1)
    before = copy.deepcopy(fresh.state_dict())
    with pytest.raises(ValueError, match="path must be a whole packed file, got"):
        load_packed(fresh, path)
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    assert fresh.training


def narrower(name):
    network, _ = trained(name)
    network.last = nn.Linear(4, 2, bias=False)
    return network


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: trained("residual")[0], "got another one: .* nothing of that name at 'first'"),
        (
            lambda: narrower("functional"),
            r"got a weight of \[2, 4\] in place of \[3, 4\] at 'last'",
        ),
        (lambda: extra("functional"), "got 'extra.weight', which was not packed"),
    ],
)
def test_another_architecture(build, message, tmp_path):
    save_packed(prepared("functional")[0], tmp_path / "network")
    with pytest.raises(ValueError, match=f"must be of the architecture that was packed, {message}"):
        load_packed(build(), tmp_path / "network")


def extra(name):
    network, _ = trained(name)
    network.extra = nn.LayerNorm(2)
    return network


def test_floating_point_of_another_shape(tmp_path):
    save_packed(nn.Linear(3, 2), tmp_path / "network")
    for other, message in (
        (nn.Linear(2, 2), r"got \[2, 2\] in place of \[2, 3\] at 'weight'"),
        (nn.Sequential(nn.Linear(3, 2)), "got nothing at 'weight'"),
    ):
        with pytest.raises(ValueError, match=message):
            load_packed(other, tmp_path / "network")


def change(path, edit):
    header, body = read_container(path)
    body = edit(header, body) or body
    write_container(path, header, body)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda header, body: header.pop("grids") and None, "KeyError: 'grids'"),
        (lambda header, body: header["layers"][0].__setitem__(1, "int9"), "KeyError: 'int9'"),
        (lambda header, body: body[:-1], r"\d+ bytes where \d+ are left"),
        (lambda header, body: body + b"!", "1 bytes are left over"),
        (lambda header, body: header["layers"][0].__setitem__(5, 99), "IndexError"),
    ],
)
def test_file_that_makes_no_sense(edit, message, tmp_path):
    save_packed(prepared("functional")[0], tmp_path / "network")
    change(tmp_path / "network", edit)
    with pytest.raises(ValueError, match=f"which makes no sense .*{message}.*pack the network"):
        load_packed(trained("functional")[0], tmp_path / "network")


def test_uncalibrated_network(tmp_path):
    network, x = trained("functional")
    apply_change(network, plan_quantization(network, x))
    with pytest.raises(ValueError, match="network must be calibrated before it is converted"):
        save_packed(network, tmp_path / "network")
    assert not (tmp_path / "network").exists()


def test_tensors_without_a_form(tmp_path):
    class Stateful(nn.Linear):
        def get_extra_state(self):
            return {"anything": 1}

    with pytest.raises(ValueError, match="got dict at '_extra_state'; leave it out"):
        save_packed(Stateful(2, 2), tmp_path / "network")
    network = nn.Linear(2, 2)
    network.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"got torch\.complex64 at 'phase'"):
        save_packed(network, tmp_path / "network")


def test_batch_norms_without_statistics_are_not_taken_for_folded_ones(tmp_path):
    def build():
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(6, track_running_stats=False)
        return nn.Sequential(nn.Conv2d(2, 6, 3), norm, nn.ReLU(), nn.Conv2d(6, 3, 1)).eval()

    x = images()
    network = converted(randomised(build()), x)
    loaded = load_packed(build(), save_packed(network, tmp_path / "network"))
    assert is_same(loaded(x), network(x))


class Mixed(nn.Module):
    """Layers with and without quantised weights, and a buffer that its state does not hold."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.norm, self.last = nn.LayerNorm(4), nn.Linear(4, 3)
        self.register_buffer("offset", torch.linspace(0, 1, 4), persistent=False)

    def forward(self, x):
        return self.last(self.norm(self.stem(x).mean(1) + self.offset))


@pytest.mark.parametrize("built", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)
def test_what_a_layer_computes_in_is_the_files(dtype, built, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(5, 2, 6, 6, dtype=dtype)
    network = converted(Mixed().to(dtype).eval(), x)
    expected = network(x)
    save_packed(network, tmp_path / "network")
    loaded = load_packed(Mixed().to(built), tmp_path / "network")
    assert expected.dtype is dtype
    assert torch.equal(loaded(x), expected)


def test_file_without_dtypes_goes_by_the_network(tmp_path):
    x = torch.randn(5, 2, 6, 6, dtype=torch.bfloat16)
    network = converted(Mixed().bfloat16().eval(), x)
    save_packed(network, tmp_path / "network")
    change(tmp_path / "network", lambda header, body: header.pop("dtypes") and None)
    loaded = load_packed(Mixed().bfloat16(), tmp_path / "network")
    assert torch.equal(loaded(x), network(x))
