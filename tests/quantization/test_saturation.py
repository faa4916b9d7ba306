import numpy as np
import pytest
import torch

from lightning_cost.quantization.convert import QuantizeDequantize
from lightning_cost.quantization.saturation import probe_saturation, saturates
from lightning_cost.runtime.contract import DEPLOYABLE, installed_runtimes
from lightning_cost.runtime.session import Session


def pairwise_sums(codes, weights, limit):
    """Sums of products of unsigned and signed bytes, each pair of them held in 16 bits."""
    products = codes[:, None, :].astype(np.int64) * weights[None].astype(np.int64)
    pairs = products[..., 0::2] + products[..., 1::2]
    return (pairs.clip(-limit - 1, limit) if limit else pairs).sum(-1)


class IntegerMachine(Session):
    """Computes the probe in integers, as a processor with or without VNNI does."""

    def __init__(self, network, limit):
        self._network, self._limit = network, limit

    def bind(self, example):
        return lambda: self.run(example)

    def run(self, example):
        grids = [m for m in self._network.modules() if isinstance(m, QuantizeDequantize)]
        parts = []
        for name, x in (
            ("convolution", example.flatten(1)),
            ("pointwise", example[:, :, 1, 1]),
            ("linear", example[:, :, 1, 1]),
        ):
            stored = self._network.get_submodule(name).stored_weight
            grid = self._network.get_submodule(name).input_fake_quantizer
            assert grid in grids
            codes = (x / grid.scale).round().add(grid.zero_point).clamp(0, 255).numpy()
            weights = stored.values.flatten(1).numpy()
            assert abs(weights).max() == self.largest
            sums = torch.from_numpy(pairwise_sums(codes, weights, self._limit))
            y = sums * grid.scale * stored.scale
            output = self._network.get_submodule(name)._modules.get("output_fake_quantizer")
            y = y if output is None else output(y.float())
            parts.append(y / 3 if name == "convolution" else y)
        return (torch.cat(parts, 1).float().numpy(),)

    largest = 127


def machine(limit):
    return lambda network, example: IntegerMachine(network, limit)


def test_exact_products():
    assert not probe_saturation(machine(None))


def test_pairs_of_products_in_16_bits():
    assert probe_saturation(machine(2**15 - 1))


def test_the_instruction_that_it_is_about():
    # what Intel's manual gives for VPMADDUBSW
    codes, weights = np.array([[255, 255]]), np.array([[127, 127], [127, -127], [-128, -128]])
    assert pairwise_sums(codes, weights, 2**15 - 1).tolist() == [[32767, 0, -32768]]
    assert pairwise_sums(codes, np.array([[64, 64]]), 2**15 - 1).tolist() == [[32640]]


@pytest.mark.parametrize("runtime", DEPLOYABLE)
def test_this_machine(runtime):
    if runtime not in installed_runtimes():
        pytest.skip(f"{runtime} is not installed")
    with open("/proc/cpuinfo") as file:
        has_vnni = "vnni" in file.read()
    if not has_vnni:
        pytest.skip("no processor whose instructions are known not to saturate")
    assert not saturates(runtime)


def test_unknown_runtime():
    with pytest.raises(ValueError, match=r"runtime must be one of .* got 'abacus'"):
        saturates("abacus")
