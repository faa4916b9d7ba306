"""The network as it is deployed, which is what every cost is the cost of."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.forward import Example, map_tensors
from lightning_cost.network.folding import fold_batch_norms, foldable_pairs
from lightning_cost.network.lineage import lineage_of
from lightning_cost.network.original import original_of, require_workable


@runtime_checkable
class Deployable(Protocol):
    """A structural change whose network trains in one form and is deployed in another."""

    def deploy(self, network: nn.Module) -> None:
        """Bring ``network``, which this change was applied to, in place to its deployed form.

        A network that has it already stays as it is.
        """


def deployed_copy(network: nn.Module, example: Example) -> nn.Module:
    """A copy of ``network`` as a device runs it: on the CPU, in evaluation mode, without gradients.

    What the changes in its lineage prepared is converted (fake quantisers become quantise and
    dequantise operators), and every batch norm that can be is folded. The deployed form of a
    deployed network is the same again. A network on the ``meta`` device stays there; what
    ``torch.compile`` wrapped is taken out.

    Args:
        network: Trained, dense or compressed; left as it is.
        example: What one forward pass takes, on any device.

    Raises:
        ValueError: If a part of the network is TorchScript.

    >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    >>> deployed_copy(network, torch.zeros(1, 1, 4, 4))[1]
    Identity()
    """
    with torch.inference_mode(False):
        network = original_of(network)
        require_workable(network)
        deployed = duplicated(network)
    deploy(deployed, example)
    return deployed


def deploy(deployed: nn.Module, example: Example) -> None:
    """Bring a network in place to the form that :func:`deployed_copy` makes of a copy.

    Args:
        deployed: What becomes the deployed network.
        example: What one forward pass takes, on any device.
    """
    with torch.inference_mode(False):
        is_meta = any(weight.is_meta for weight in deployed.parameters())
        device = "meta" if is_meta else "cpu"
        deployed.to(device).eval().requires_grad_(False)
        for parameter in deployed.parameters():
            parameter.grad = None
        # exporters write another memory format out as gathers, which OpenVINO gets wrong in int8
        for tensor in () if is_meta else (*deployed.parameters(), *deployed.buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
        for module in list(deployed.modules()):
            for change in lineage_of(module):
                if isinstance(change, Deployable):
                    change.deploy(module)

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device).contiguous()

        sample = map_tensors(moved, example)
        fold_batch_norms(deployed, foldable_pairs(deployed, sample))
