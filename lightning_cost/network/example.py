"""What one forward pass of the network takes: a sample captured from the training data."""

import inspect
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from lightning_cost.cost.forward import observing
from lightning_cost.network.find import find_network
from lightning_cost.network.loader import apart_from_fit, as_trained_on, collect_batches


def capture_example(
    trainer: pl.Trainer, pl_module: pl.LightningModule, path: str | None = None
) -> Any:
    """The inputs that reach the network for one training sample, batch of 1, on its device.

    They are taken from ``pl_module.example_input_array`` or else from the first training batch,
    in the Trainer's precision (bfloat16 for ``"bf16-true"``), sent through ``pl_module.forward``,
    and caught where they enter the network. Where ``forward`` does not take them, it is
    ``training_step`` that is called, as far as the network. Random state and network are left as
    they were.

    Returns:
        A tensor, a tuple of positional arguments or a dict of keyword arguments.

    Raises:
        ValueError: If there is no training data to take a sample from, or neither takes it.
    """
    _, network = find_network(pl_module, path)
    given, batch = pl_module.example_input_array, None
    if given is None:
        batch = tree_map(_first_sample, _first_batch(trainer))
        batch = as_trained_on(batch, trainer, pl_module)
        given = _first_part(batch)
    else:
        given = as_trained_on(tree_map(_first_sample, given), trainer, pl_module)
    captured = _inputs_of(network, pl_module, given, batch)
    return given if captured is None else captured


def capture_batches(
    trainer: pl.Trainer, pl_module: pl.LightningModule, path: str | None, num_samples: int
) -> list[Any]:
    """As :func:`capture_example`, whole training batches of ``num_samples`` or more in all.

    Raises:
        ValueError: As there.
    """
    _, network = find_network(pl_module, path)
    if trainer.train_dataloader is None:
        trainer.fit_loop.setup_data()
    inputs = []
    for batch in collect_batches(apart_from_fit(trainer.train_dataloader), num_samples):
        batch = as_trained_on(batch, trainer, pl_module)
        given = _first_part(batch)
        captured = _inputs_of(network, pl_module, given, batch)
        inputs.append(given if captured is None else captured)
    return inputs


def _first_batch(trainer: pl.Trainer) -> Any:
    if trainer.train_dataloader is None:
        trainer.fit_loop.setup_data()
    with torch.random.fork_rng(devices=[]):
        # no `or`: the truth of a loader is its length, which iterable data does not have
        loader = apart_from_fit(trainer.train_dataloader)
        batch = next(iter(() if loader is None else loader), None)
    if batch is None:
        raise ValueError(
            "the training data must hold at least one batch, got none; "
            "give the Trainer a data set that is not empty"
        )
    return batch


def _first_part(batch: Any) -> Any:
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _first_sample(value: Any) -> Any:
    return value[:1] if isinstance(value, Tensor) and value.ndim > 0 else value


def _inputs_of(network: nn.Module, pl_module: pl.LightningModule, inputs: Any, batch: Any) -> Any:
    """What ``network`` is called with when ``pl_module`` is, or ``None`` if it is not called.

    ``batch`` is the whole of what ``inputs`` are the first part of, where there is one.
    """
    captured: list[Any] = []

    def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured[:] = [_packed(module, args, kwargs)]

    called: nn.Module = pl_module
    if network is pl_module or type(pl_module).forward is pl.LightningModule.forward:
        if not isinstance(inputs, list):
            return None
        called = network
    handle = network.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        with observing(pl_module):
            _call(called, inputs)
    except TypeError as error:
        in_step = None if batch is None else _inputs_in_step(network, pl_module, batch)
        if in_step is None:
            raise ValueError(
                "the first part of a batch must be what forward of "
                f"{type(called).__name__} takes, got {_described(inputs)} ({error}); set "
                "example_input_array of the LightningModule, or name the network: network='...'"
            ) from error
        return in_step
    finally:
        handle.remove()
    return captured[0] if captured else None


def _call(called: nn.Module, inputs: Any) -> None:
    """Call a module with what a batch holds for it.

    A list that it does not take stands for several arguments: loaders make lists of the tuples in
    a sample.
    """
    if isinstance(inputs, Mapping):
        called(**inputs)
    elif isinstance(inputs, tuple):
        called(*inputs)
    else:
        try:
            called(inputs)
        except TypeError:
            if not isinstance(inputs, list):
                raise
            called(*inputs)


class _ReachedError(Exception):
    """Ends a training step where the network is called; the inputs are its argument."""


def _inputs_in_step(network: nn.Module, pl_module: pl.LightningModule, batch: Any) -> Any:
    """What ``network`` is first called with in a training step, or ``None`` if that is not known.

    Under manual optimisation it is not asked: the step may have changed something by then.
    """
    if not pl_module.automatic_optimization:
        return None

    def reached(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _ReachedError(_packed(module, args, kwargs))

    parameters = inspect.signature(pl_module.training_step).parameters
    handle = network.register_forward_pre_hook(reached, with_kwargs=True)
    try:
        with observing(pl_module):
            pl_module.training_step(*(batch, 0)[: len(parameters)])
    except _ReachedError as found:
        return found.args[0]
    except Exception:
        return None  # the caller tells why forward does not do
    finally:
        handle.remove()
    return None


def _described(inputs: Any) -> str:
    if isinstance(inputs, Mapping):
        return f"a dict of {', '.join(map(repr, inputs))}"
    if isinstance(inputs, Tensor):
        return f"a tensor of shape {tuple(inputs.shape)}"
    return f"a {type(inputs).__name__}"


def _packed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs:
        return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    is_plain = len(args) == 1 and not isinstance(args[0], list)
    return args[0] if is_plain else args
