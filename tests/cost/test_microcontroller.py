import pytest
import torch
from torch import nn

from lightning_cost.cost.memory import peak_memory_bytes
from lightning_cost.cost.microcontroller import memory_fit
from lightning_cost.cost.size import size_bytes
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.quantization.callback import QuantizationAwareTraining
from lightning_cost.zoo.resnet import resnet8

IMAGES = torch.zeros(1, 1, 28, 28)


@pytest.mark.parametrize(
    ("flash", "sram", "fits"), [(64, 40, True), (63, 40, False), (64, 39, False)]
)
def test_weights_go_to_flash_and_activations_to_sram(flash, sram, fits):
    fit = memory_fit(nn.Linear(3, 4), torch.zeros(1, 3), flash_bytes=flash, sram_bytes=sram - 12)
    assert (fit.flash_bytes, fit.sram_bytes) == (64, 28)
    assert fit.fits is fits
    assert fit.flash_headroom == 1 - 64 / flash
    assert fit.sram_headroom == 1 - 28 / (sram - 12)


def test_quantising_quarters_both():
    plain = deployed_copy(resnet8(in_channels=1), IMAGES)
    quantise = QuantizationAwareTraining("int8")
    small = deployed_copy(quantise.preview(resnet8(in_channels=1), IMAGES), IMAGES)
    before = memory_fit(plain, IMAGES, flash_bytes=1e6, sram_bytes=3e5)
    after = memory_fit(small, IMAGES, flash_bytes=1e6, sram_bytes=3e5)
    assert (before.flash_bytes, before.sram_bytes) == (
        size_bytes(plain),
        peak_memory_bytes(plain, IMAGES),
    )
    assert after.flash_bytes < 0.3 * before.flash_bytes
    assert after.sram_bytes < 0.35 * before.sram_bytes


@pytest.mark.parametrize(("flash", "sram"), [(0, 1), (1, float("nan"))])
def test_a_device_without_memory_is_refused(flash, sram):
    with pytest.raises(ValueError, match=r"_bytes must be > 0, got (0|nan); give what the device"):
        memory_fit(nn.Linear(3, 4), torch.zeros(1, 3), flash_bytes=flash, sram_bytes=sram)
