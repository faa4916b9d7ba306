"""Handing each operator that runs to its rule.

An operator without a rule makes the channels that reach it stay.
"""

from collections.abc import Sequence
from typing import Any

from lightning_cost.pruning.structure.feature_maps import FeatureMaps
from lightning_cost.pruning.structure.operators import (  # noqa: F401  (their rules)
    norms,
    products,
    reductions,
    shapes,
)
from lightning_cost.pruning.structure.operators.elementwise import is_pointwise, pointwise
from lightning_cost.pruning.structure.operators.rule import RULES, Operation, Rule, rule


def follow(maps: FeatureMaps, func: Any, args: Sequence[Any], kwargs: Any, result: Any) -> None:
    """Write down what ``func`` did to labels."""
    packet = getattr(func, "_overloadpacket", func)
    name = str(getattr(packet, "__name__", packet))
    schema = getattr(func, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema else map(str, range(99))
    inputs = {**dict(zip(names, args, strict=False)), **kwargs}
    operation = Operation(name, inputs, result)
    maps.note_used(operation.tensors)
    applied = _rule_for(func, operation)
    if applied is None:
        if any(maps.of(tensor) for tensor in operation.tensors):
            _unknown(maps, operation, operation.name)
        return
    try:
        applied(maps, operation)
    except Exception as error:  # used as the rule does not foresee: its channels stay, and it says
        _unknown(maps, operation, f"{operation.name}, {type(error).__name__}: {error}")


def _rule_for(func: Any, operation: Operation) -> Rule | None:
    name = operation.name
    known = RULES.get(name) or RULES.get(name.rstrip("_"))
    if known is not None:
        return known
    return pointwise if is_pointwise(func, name) else None


def _unknown(maps: FeatureMaps, operation: Operation, what: str) -> None:
    for tensor in operation.tensors:
        maps.pin(maps.of(tensor), what)
    for tensor in operation.results:
        maps.set(tensor, ())


_IGNORED = ("arange", "scalar_tensor", "_assert_async", "_assert_tensor_metadata", "is_same_size")


@rule(*_IGNORED)
def _ignored(maps: FeatureMaps, op: Operation) -> None:
    """No channel runs through these."""
