"""Finding the network inside a LightningModule."""

import pytorch_lightning as pl
from torch import nn

from lightning_cost.network.original import original_of

WHOLE_MODULE = "self"
_USUAL_NAMES = ("network", "model", "net", "backbone")


def find_network(pl_module: pl.LightningModule, path: str | None = None) -> tuple[str, nn.Module]:
    """The network that is deployed, and its path inside ``pl_module``.

    Without ``path`` it is the only child with parameters, or else the only child with one of the
    usual names (network, model, net, backbone). ``torch.compile``'s wrapper is looked through.

    Args:
        pl_module: The module that is trained.
        path: Dotted attribute path, or ``"self"`` for the LightningModule as a whole.

    Returns:
        The path, ``""`` for the whole module, and the network.

    Raises:
        ValueError: If the path leads nowhere, or if several children could be the network; names
            the candidates.
    """
    candidates = _candidates(pl_module)
    if path is None:
        path = _only_candidate(candidates)
    elif path == WHOLE_MODULE:
        path = ""
    try:
        network = pl_module.get_submodule(path)
    except AttributeError as error:
        raise ValueError(
            f"network must be the path of a submodule of {type(pl_module).__name__}, "
            f"got {path!r}; candidates: {_listed(candidates)}"
        ) from error
    original = original_of(network)
    if original is not network:
        return f"{path}._orig_mod".lstrip("."), original
    return path, network


def is_compiled(module: nn.Module) -> bool:
    """Whether a part of ``module`` runs through ``torch.compile``."""
    return getattr(module, "_compiler_ctx", None) is not None or any(
        hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None
        for part in module.modules()
    )


def _candidates(pl_module: pl.LightningModule) -> list[str]:
    return [
        name
        for name, child in pl_module.named_children()
        if next(child.parameters(), None) is not None
    ]


def _only_candidate(candidates: list[str]) -> str:
    usual = [name for name in candidates if name in _USUAL_NAMES]
    if len(candidates) == 1:
        return candidates[0]
    if len(usual) == 1:
        return usual[0]
    raise ValueError(
        "network must be named where a LightningModule has no single child with parameters, "
        f"got candidates {_listed(candidates)}; pass network='NAME', "
        f"or network={WHOLE_MODULE!r} for the whole module"
    )


def _listed(candidates: list[str]) -> str:
    return ", ".join(repr(name) for name in [*candidates, WHOLE_MODULE])
