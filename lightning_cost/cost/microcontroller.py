"""Whether a network fits a device that keeps weights in flash and activations in SRAM."""

from dataclasses import dataclass

from torch import nn

from lightning_cost.cost.forward import Example
from lightning_cost.cost.memory import peak_memory_bytes
from lightning_cost.cost.size import loaded_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryFit:
    """What a network needs of a device's memories, and what there is.

    Args:
        flash_bytes: Bytes of the weights as they are stored.
        sram_bytes: Bytes of activations alive at once, inputs included.
        flash_available: Bytes of flash for weights.
        sram_available: Bytes of SRAM for activations.
    """

    flash_bytes: int
    sram_bytes: int
    flash_available: float
    sram_available: float

    @property
    def flash_headroom(self) -> float:
        """1 − need / available; negative if the weights do not fit."""
        return 1 - self.flash_bytes / self.flash_available

    @property
    def sram_headroom(self) -> float:
        """1 − need / available; negative if the activations do not fit."""
        return 1 - self.sram_bytes / self.sram_available

    @property
    def fits(self) -> bool:
        """Whether both fit."""
        return self.flash_headroom >= 0 and self.sram_headroom >= 0


def memory_fit(
    network: nn.Module, example: Example, *, flash_bytes: float, sram_bytes: float
) -> MemoryFit:
    """Whether ``network``, in the form that it is deployed in, fits flash and SRAM.

    The runtime's code and work space come on top: give what is left of the device without them.

    Args:
        network: As deployed (batch norm folded, quantised); see ``deployed_copy``.
        example: What one forward pass of one sample takes.
        flash_bytes: Flash that is free for weights.
        sram_bytes: SRAM that is free for activations.

    >>> import torch
    >>> fit = memory_fit(nn.Linear(2, 8), torch.zeros(1, 2), flash_bytes=192, sram_bytes=32)
    >>> fit.flash_headroom, fit.sram_headroom, fit.fits
    (0.5, -0.25, False)

    Raises:
        ValueError: If there is no memory, or the network does not take the example.
    """
    for name, value in (("flash_bytes", flash_bytes), ("sram_bytes", sram_bytes)):
        if not value > 0:
            raise ValueError(f"{name} must be > 0, got {value}; give what the device has, in bytes")
    return MemoryFit(
        flash_bytes=loaded_bytes(network),
        sram_bytes=peak_memory_bytes(network, example),
        flash_available=flash_bytes,
        sram_available=sram_bytes,
    )
