"""The modules that a network was built of, without what runs them faster."""

import torch
from torch import nn


def original_of(network: nn.Module) -> nn.Module:
    """``network`` itself, or what ``torch.compile`` wrapped.

    >>> layer = nn.Linear(1, 1)
    >>> original_of(torch.compile(layer, backend="eager")) is original_of(layer) is layer
    True
    """
    wrapped = getattr(network, "_orig_mod", None)
    return wrapped if isinstance(wrapped, nn.Module) else network


def require_python(network: nn.Module) -> None:
    """Refuse a network of which a part cannot be looked into, nor changed.

    Raises:
        ValueError: If a part of it is TorchScript; names it.
    """
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            place = f"at {name!r}" if name else "as a whole"
            raise ValueError(
                f"network must be made of modules in Python, got TorchScript {place}; give it as "
                "it was before torch.jit.script or torch.jit.trace, and export the result"
            )
