"""Least squares after surgery: each layer gives again, from what is left, what it gave before.

A cut changes what every later layer sees. Without a step of training, the weights of each layer
can be chosen so that its remaining outputs come as near as possible to what they were: a linear
least-squares problem a layer, solved in the order in which the layers run, each on the outputs of
those that were solved before it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import LongTensor, Tensor, nn

from lightning_cost.cost.flop_counter import FlopCounter
from lightning_cost.cost.forward import observing
from lightning_cost.network.folding import owned_weights
from lightning_cost.pruning.batches import BatchLoss
from lightning_cost.pruning.reconstruction.patches import (
    is_product,
    outputs_at,
    patches_at,
    sampled_positions,
)
from lightning_cost.pruning.reconstruction.recalibration import averaging_batch_norms
from lightning_cost.pruning.structure.surgery import RemoveChannels

NUM_SAMPLES = 256
"""Samples that are enough to fit on: each gives many outputs."""
NUM_ROWS = 4096
"""Output positions of a layer that its weights are fitted on, where it has as many."""
LARGEST_FAN_IN = 4096
"""Layers with more inputs an output keep their weights: solving takes the cube of it."""
RIDGE = 1e-3
"""Weight of staying near the old weights, in mean squares of the inputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sampled:
    positions: LongTensor
    outputs: Tensor


class Reconstruction:
    """What the layers of a network give on one batch, to be given again after a cut.

    Convolutions without groups and linear layers are fitted; others keep their weights, and so do
    those that run several times in one forward pass, share their weight with another layer, or
    have more than ``LARGEST_FAN_IN`` inputs an output.

    Args:
        network: As it is before the cut; left as it was found.
        batch: Data to fit on; ``NUM_SAMPLES`` will do.
        forward: Sends the batch through a network; its result is not used.
        seed: Of the output positions that are compared.

    Attributes:
        flops: Of looking at the network.

    Reference:
        He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", 2017,
        section 3.2, there for the layer that follows a cut; here for all layers in turn.
    """

    def __init__(
        self, network: nn.Module, batch: Any, forward: BatchLoss, *, seed: int = 0
    ) -> None:
        self._batch, self._forward = batch, forward
        self._before: dict[str, _Sampled] = {}
        repeated: set[str] = set()

        def record(name: str, layer: nn.Module, args: Any, output: Tensor) -> None:
            if name in self._before:
                repeated.add(name)
                return
            positions = sampled_positions(layer, output, NUM_ROWS, seed)
            outputs = outputs_at(layer, output, positions).float()
            self._before[name] = _Sampled(positions=positions, outputs=outputs)

        with observing(network), _hooked(network, record), torch.no_grad(), FlopCounter() as work:
            forward(network, batch)
        self.flops: int = work.total
        for name in repeated:
            del self._before[name]

    @torch.no_grad()
    def fit(self, network: nn.Module, change: RemoveChannels) -> int:
        """Fit the weights of ``network``, which is what ``change`` has made of the first one.

        The weights, and the statistics of batch norms, are replaced in place.

        Returns:
            FLOPs of the forward pass and the fits.
        """
        solving = 0

        def solve(name: str, layer: nn.Module, args: Any) -> None:
            nonlocal solving
            before, weight = self._before.get(name), layer._parameters.get("weight")
            # code that runs a layer with other weights puts plain tensors in their place
            if before is None or not isinstance(weight, nn.Parameter):
                return
            fan_in = weight[0].numel()
            if fan_in > LARGEST_FAN_IN:
                return
            outputs = before.outputs
            kept = change.kept.get(name, {}).get("out")
            if kept is not None:
                outputs = outputs[:, torch.tensor(kept, device=outputs.device)]
            _fit_layer(layer, patches_at(layer, args[0], before.positions), outputs)
            solving += _solving_flops(fan_in, outputs.shape[1])

        hooked = _hooked(network, solve, is_before=True)
        with averaging_batch_norms(network), hooked, FlopCounter() as work:
            self._forward(network, self._batch)
        return work.total + solving


def largest_fit_flops(network: nn.Module) -> int:
    """At most what fitting all layers of ``network`` takes, forward passes not among it."""
    weights = [layer.get_parameter("weight") for layer in network.modules() if is_product(layer)]
    sizes = [(weight[0].numel(), len(weight)) for weight in weights]
    return sum(
        2 * NUM_ROWS * fan_in * (fan_in + 2 * num_outputs) + _solving_flops(fan_in, num_outputs)
        for fan_in, num_outputs in sizes
        if fan_in <= LARGEST_FAN_IN
    )


def _solving_flops(fan_in: int, num_outputs: int) -> int:
    """Of factorising a matrix and of two triangular systems for each output."""
    return 2 * fan_in**3 // 3 + 2 * fan_in**2 * num_outputs


def _fit_layer(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    """Ridge regression of what is missing from ``outputs`` [N, out] on ``inputs`` [N, fan_in]."""
    weight = layer.get_parameter("weight")
    old = weight.flatten(1).float()
    inputs = inputs.float()
    missing = outputs - nn.functional.linear(inputs, old)
    if isinstance(layer.bias, Tensor):
        missing -= layer.bias
    gram = (inputs.T @ inputs).double()
    diagonal = gram.diagonal()
    if not bool(torch.isfinite(gram).all()) or not bool(diagonal.sum() > 0):
        return
    diagonal += RIDGE * diagonal.mean()
    change = torch.linalg.solve_ex(gram, (inputs.T @ missing).double()).result
    if bool(torch.isfinite(change).all()):
        weight.copy_((old + change.T.float()).reshape(weight.shape))


@contextmanager
def _hooked(network: nn.Module, hook: Any, *, is_before: bool = False) -> Iterator[None]:
    """``hook(name, layer, args[, output])`` at each layer that can be fitted, in order."""

    def named(name: str) -> Any:
        return lambda layer, *rest: hook(name, layer, *rest)

    owned = owned_weights(network)
    handles = [
        layer.register_forward_pre_hook(named(name))
        if is_before
        else layer.register_forward_hook(named(name))
        for name, layer in network.named_modules()
        if is_product(layer) and id(layer._parameters.get("weight")) in owned
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
