"""Structural changes in the middle of a fit, and the checkpoints that remember them."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from lightning_cost.cost.plain_data import ANOTHER_CHECKPOINT, entries, read_as_written
from lightning_cost.network.averaging import averaged_copies
from lightning_cost.network.find import is_compiled
from lightning_cost.network.lineage import (
    CHECKPOINT_KEY,
    Change,
    apply_change,
    lineage_from_list,
    lineage_of,
    lineage_to_list,
    replay,
)
from lightning_cost.network.optimizer import swap_parameters
from lightning_cost.network.parameter_order import ordered_groups, restore_order

_T = TypeVar("_T")


def require_changeable(trainer: pl.Trainer) -> None:
    """Refuse, before training, what a change of shapes in the middle of a fit would corrupt.

    Raises:
        ValueError: If the strategy shards parameters.
    """
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise ValueError(
            "strategy must keep whole parameters on every device while channels are removed, got "
            f"{type(trainer.strategy).__name__}; compress with strategy='ddp' or on one device, "
            "then go on from the checkpoint with the strategy of your choice"
        )


def apply_during_fit(trainer: pl.Trainer, network: nn.Module, change: Change) -> None:
    """Apply ``change`` to ``network``, and let all that holds its parameters follow, on every rank.

    These are its averaged copies, the optimizers, the strategy and compiled code. An interrupt
    waits until the change is complete, so that no checkpoint sees half of it.
    """
    with uninterrupted():
        copies = averaged_copies(trainer, network)
        ordered = ordered_groups(trainer.optimizers, trainer.lightning_module)
        swaps = [swap for each in (network, *copies) for swap in apply_change(each, change)]
        for optimizer in trainer.optimizers:
            swap_parameters(optimizer, swaps)
        restore_order(ordered, trainer.lightning_module)
        follow_parameters(trainer)


def follow_parameters(trainer: pl.Trainer) -> None:
    """Let strategy and compiled code know that the LightningModule has other parameters."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and strategy.lightning_module is not None:
        strategy.model = strategy.lightning_module
        strategy.configure_ddp()
    if is_compiled(trainer.lightning_module):
        # else it would be compiled for shapes that vary, and after a few changes not at all
        torch.compiler.reset()


def on_rank_zero(trainer: pl.Trainer, function: Callable[[], _T]) -> _T:
    """What ``function`` returns on rank 0, on every rank; an error there is raised on every rank.

    Measurements and searches differ between ranks; so one rank makes the choice for all.

    Raises:
        ValueError: If ``function`` raises one.
    """
    outcome: tuple[_T | None, str | None] = (None, None)
    if trainer.is_global_zero:
        try:
            outcome = (function(), None)
        except ValueError as error:
            if trainer.world_size == 1:
                raise
            outcome = (None, str(error))
    result, message = trainer.strategy.broadcast(outcome)
    if message is not None:
        raise ValueError(message)
    return cast(_T, result)


def install_replay(pl_module: pl.LightningModule, path: str) -> None:
    """Make checkpoints of ``pl_module`` carry its network's lineage, and replay it on loading.

    Lightning calls the module's ``on_load_checkpoint`` before it loads weights, and the callbacks'
    ``load_state_dict`` only afterwards; that is why the hook sits on the module. Call it from
    ``Callback.setup``; further calls for the same module do nothing.
    """
    pl_module._lightning_cost_went_on = False  # type: ignore[assignment]
    if getattr(pl_module, "_lightning_cost_replays", False):
        return
    network = pl_module.get_submodule(path)
    pl_module._lightning_cost_replays = True  # type: ignore[assignment]
    pl_module.on_save_checkpoint = partial(  # type: ignore[method-assign]
        _save, network, path, pl_module.on_save_checkpoint
    )
    pl_module.on_load_checkpoint = partial(  # type: ignore[method-assign]
        _load, pl_module, path, pl_module.on_load_checkpoint
    )


def goes_on(pl_module: pl.LightningModule) -> bool:
    """Whether the fit whose callbacks were set up last goes on from a checkpoint."""
    return bool(getattr(pl_module, "_lightning_cost_went_on", False))


def check_shapes(network: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Raise where ``state_dict`` was not written for this architecture.

    Raises:
        ValueError: Names the first entry that is missing, unexpected or of another shape.
    """
    own = network.state_dict()
    for name in [*own, *(name for name in state_dict if name not in own)]:
        have, want = _shape_in(own, name), _shape_in(state_dict, name)
        if have != want:
            raise ValueError(
                "the checkpoint must be of the same architecture as the network, got "
                f"{name!r} with {want} in the checkpoint and {have} in the network; "
                "build the network that the checkpoint was trained with"
            )


def _shape_in(state: Mapping[str, Any], name: str) -> object:
    if name not in state:
        return "nothing of that name"
    value = state[name]
    return tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def network_state(state_dict: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The part of a LightningModule's ``state_dict`` that belongs to the submodule ``path``."""
    prefix = f"{path}." if path else ""
    return {
        name.removeprefix(prefix): value
        for name, value in state_dict.items()
        if name.startswith(prefix)
    }


def _save(network: nn.Module, path: str, then: Any, checkpoint: dict[str, Any]) -> None:
    checkpoint[CHECKPOINT_KEY] = {
        "network": path,
        "changes": lineage_to_list(lineage_of(network)),
    }
    then(checkpoint)


def _load(pl_module: pl.LightningModule, path: str, then: Any, checkpoint: dict[str, Any]) -> None:
    network = pl_module.get_submodule(path)
    with read_as_written("the checkpoint's lineage", ANOTHER_CHECKPOINT):
        changes = entries(checkpoint.get(CHECKPOINT_KEY, {"changes": []}), "lineage")["changes"]
    copies = averaged_copies(pl_module.trainer, network) if has_trainer(pl_module) else []
    for each in (network, *copies):
        replay(each, lineage_from_list(changes))
    check_shapes(network, network_state(checkpoint["state_dict"], path))
    pl_module._lightning_cost_went_on = True  # type: ignore[assignment]
    then(checkpoint)


def has_trainer(pl_module: pl.LightningModule) -> bool:
    """Whether ``pl_module`` belongs to a Trainer now."""
    try:
        return pl_module.trainer is not None
    except RuntimeError:  # its way to say no
        return False


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back ctrl-C until the block is done; blocks may be nested.

    Callbacks put their own note of a change into the same block: a checkpoint that an interrupt
    leaves must not know of the one without the other.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[tuple[Any, ...]] = []
    previous = signal.signal(signal.SIGINT, lambda *call: waiting.append(call))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if waiting and callable(previous):
        previous(*waiting[0])
