"""The modules that a network was built of, without what runs them faster."""

import torch
from torch import nn
from torch.nn.parameter import is_lazy


def original_of(network: nn.Module) -> nn.Module:
    """``network`` itself, or what ``torch.compile`` wrapped.

    >>> layer = nn.Linear(1, 1)
    >>> original_of(torch.compile(layer, backend="eager")) is original_of(layer) is layer
    True
    """
    wrapped = getattr(network, "_orig_mod", None)
    return wrapped if isinstance(wrapped, nn.Module) else network


def require_workable(network: nn.Module) -> None:
    """Refuse a network of which a part cannot be looked into, nor changed.

    Raises:
        ValueError: If a part of it is TorchScript, or has no weights yet; names it.
    """
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if is_lazy(tensor):
            raise ValueError(
                f"network must know the sizes of its weights, got a lazy one at {name!r}; run it "
                "once on a batch before anything else"
            )
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            place = f"at {name!r}" if name else "as a whole"
            raise ValueError(
                f"network must be made of modules in Python, got TorchScript {place}; give it as "
                "it was before torch.jit.script or torch.jit.trace, and export the result"
            )
