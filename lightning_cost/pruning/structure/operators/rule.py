"""Rules by operator: what an operator does to the labels of channels.

Every rule gets the operator's arguments by name and its result, and writes down which labels go
together, which stay, and the labels of the result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from lightning_cost.cost.forward import tensors_of
from lightning_cost.pruning.structure.feature_maps import FeatureMaps


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator that ran.

    Args:
        name: Without namespace and overload: ``"add"``.
        inputs: Its arguments by name.
        result: What it returned.
    """

    name: str
    inputs: Mapping[str, Any]
    result: Any

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among its arguments."""
        return tensors_of(list(self.inputs.values()))

    @property
    def results(self) -> list[Tensor]:
        """The tensors that it returned."""
        return tensors_of(self.result)

    @property
    def first(self) -> Tensor:
        """Its first argument."""
        tensor: Tensor = next(iter(self.inputs.values()))
        return tensor


Rule: TypeAlias = Callable[[FeatureMaps, Operation], None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """The decorated function is the rule of the operators ``names``."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register
