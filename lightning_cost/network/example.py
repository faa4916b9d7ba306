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
    and caught where they enter the network. Random state and network are left as they were.

    Returns:
        A tensor, a tuple of positional arguments or a dict of keyword arguments.

    Raises:
        ValueError: If there is no training data to take a sample from.
    """
    _, network = find_network(pl_module, path)
    inputs = pl_module.example_input_array
    if inputs is None:
        inputs = _first_inputs(trainer)
    inputs = as_trained_on(tree_map(_first_sample, inputs), trainer, pl_module)
    captured = _inputs_of(network, pl_module, inputs)
    return inputs if captured is None else captured


def capture_batches(
    trainer: pl.Trainer, pl_module: pl.LightningModule, path: str | None, num_samples: int
) -> list[Any]:
    """As :func:`capture_example`, whole training batches of ``num_samples`` or more in all.

    Raises:
        ValueError: If there is no training data.
    """
    _, network = find_network(pl_module, path)
    if trainer.train_dataloader is None:
        trainer.fit_loop.setup_data()
    inputs = []
    for batch in collect_batches(apart_from_fit(trainer.train_dataloader), num_samples):
        given = batch[0] if isinstance(batch, (tuple, list)) else batch
        given = as_trained_on(given, trainer, pl_module)
        captured = _inputs_of(network, pl_module, given)
        inputs.append(given if captured is None else captured)
    return inputs


def _first_inputs(trainer: pl.Trainer) -> Any:
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
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _first_sample(value: Any) -> Any:
    return value[:1] if isinstance(value, Tensor) and value.ndim > 0 else value


def _inputs_of(network: nn.Module, pl_module: pl.LightningModule, inputs: Any) -> Any:
    """What ``network`` is called with when ``pl_module`` is, or ``None`` if it is not called.

    A list that the network does not take stands for several arguments: loaders make lists of the
    tuples in a sample.
    """
    captured: list[Any] = []

    def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured.append(_packed(module, args, kwargs))

    is_list = isinstance(inputs, list)
    called: nn.Module = pl_module
    if network is pl_module or type(pl_module).forward is pl.LightningModule.forward:
        if not is_list:
            return None
        called = network
    handle = network.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        with observing(pl_module):
            if isinstance(inputs, Mapping):
                called(**inputs)
            elif isinstance(inputs, tuple):
                called(*inputs)
            else:
                try:
                    called(inputs)
                except TypeError:
                    if not is_list:
                        raise
                    captured.clear()
                    called(*inputs)
    finally:
        handle.remove()
    return captured[0] if captured else None


def _packed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs:
        return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    is_plain = len(args) == 1 and not isinstance(args[0], list)
    return args[0] if is_plain else args
