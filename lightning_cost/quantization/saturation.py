"""Whether a runtime's 8-bit products overflow on this machine, found by trying."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_cost.cost.forward import Example
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.network.lineage import apply_change
from lightning_cost.quantization.calibrate import calibrate
from lightning_cost.quantization.plan import plan_quantization
from lightning_cost.runtime.contract import get_runtime
from lightning_cost.runtime.parity import check_parity
from lightning_cost.runtime.session import Session

_CHANNELS = 64
_MAX_ERROR_RATIO = 0.02


class _Probe(nn.Module):
    """A convolution and a linear layer with the largest weights, of random signs."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(_CHANNELS, _CHANNELS, 3, bias=False)
        self.pointwise = nn.Conv2d(_CHANNELS, _CHANNELS, 1, bias=False)
        self.linear = nn.Linear(_CHANNELS, _CHANNELS, bias=False)
        with torch.no_grad():
            for weight in self.parameters():
                signs = torch.randint(2, weight.shape, generator=generator) * 2 - 1
                weight.copy_(signs / 127)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """The sums [batch, 3 × channels] of ``x`` [batch, channels, 3, 3] in [0, 1]."""
        middle = x[:, :, 1:2, 1:2]
        return torch.cat(
            [
                self.convolution(x).flatten(1) / 3,
                self.pointwise(middle).flatten(1),
                self.linear(middle.flatten(1)),
            ],
            dim=1,
        )


@functools.cache
def saturates(runtime: str) -> bool:
    """Whether ``runtime`` gets large 8-bit products wrong on this machine.

    x86 processors without VNNI add pairs of products of an unsigned and a signed byte in 16 bits,
    which hold 32,767: less than two products of 255 and 127. Whether a runtime uses that
    instruction depends on its kernels, so it is run: a network of large weights and activations,
    compared with exact arithmetic. Weights within ±64 (schemes with ``reduced_range``) are safe,
    as are 4-bit weights and single powers of two.

    Args:
        runtime: One that runs files; it is asked once in a process.

    Raises:
        ValueError: If there is no such runtime, or it is not installed.
    """
    loader = get_runtime(runtime)
    return probe_saturation(lambda network, example: loader.load(network, example, num_threads=1))


def probe_saturation(load: Callable[[nn.Module, Example], Session]) -> bool:
    """As :func:`saturates`, for what ``load`` makes of a deployed network and an example."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made
        network = _Probe(generator).eval()
    # three quarters of the range and more, and the extremes
    example = 0.75 + 0.25 * torch.rand(4, _CHANNELS, 3, 3, generator=generator)
    example[0, 0], example[0, 1] = 0, 1
    apply_change(network, plan_quantization(network, example))
    calibrate(network, [example])
    deployed = deployed_copy(network, example)
    with load(deployed, example) as session:
        parity = check_parity(deployed, session, example, max_error_ratio=_MAX_ERROR_RATIO)
    return not parity.passed


def require_runtimes(names: Sequence[str]) -> tuple[str, ...]:
    """The runtimes that are to be asked, if there are such.

    Raises:
        ValueError: If ``names`` is no list of them, or one is unknown or not installed.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(
            f"runtimes must be a list of names, got {names!r}; write for example ['openvino']"
        )
    for name in names:
        get_runtime(name)
    return tuple(names)
