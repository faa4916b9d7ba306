"""Exact counted costs of width assignments, without building the networks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lightning_cost.cost.attribution import Attribution
from lightning_cost.cost.duplicate import duplicated
from lightning_cost.cost.flop_counter import FlopCounter, Operation
from lightning_cost.cost.forward import (
    Example,
    map_tensors,
    observing,
    run_forward,
    with_batch_size,
)
from lightning_cost.cost.liveness import Step
from lightning_cost.cost.memory import recorded_steps
from lightning_cost.cost.resource import Resource
from lightning_cost.cost.size import count_params, named_stored, named_weights, stored_bytes
from lightning_cost.network.deploy import deployed_copy
from lightning_cost.pruning.pricing.axis_sizes import AxisSizes
from lightning_cost.pruning.pricing.memory import (
    MemoryPricer,
    UnpriceableError,
    with_memory_probes,
)
from lightning_cost.pruning.pricing.products import Products, total_of
from lightning_cost.pruning.structure.grouping import Grouping
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.structure.surgery import operated, removal

Floats: TypeAlias = npt.NDArray[np.float64]
Preview: TypeAlias = Callable[[nn.Module], nn.Module]
"""Gives a network the structure that it will be deployed in; may change it."""

PRICED = (Resource.macs, Resource.params, Resource.size_bytes)
_CHUNK = 8192
_NUM_PROBES_OF_PRODUCTS = 7


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WidthPricer:
    """Prices any number of channels per group in every counted resource.

    Every counted cost of a layer is a constant, proportional to its output channels, to its input
    channels, or to both. Which of these each tensor and each layer's MACs are is read off a few
    deployed networks of different widths. Work that is in no layer, such as attention scores, is
    proportional to any two such numbers of channels, operator by operator.

    Args:
        names: The groups, in the order of the columns of ``widths``.
        sizes: Axis sizes of the layers as functions of the widths.
        constants: Cost of what does not depend on the widths, by resource.
        coefficients: Cost per output channel, per input channel and per pair of them, of each
            layer, [3, num_layers], by resource.
        functions: Sizes that work in no layer is a product of: slopes and, last, the constant of
            each, [num_functions, num_groups + 1].
        products: Coefficient and two functions of such work, by resource.
        memory: Peak memory; ``None`` if it does not follow from the widths.
        unpriced: Why a counted resource is not priced.
    """

    names: tuple[str, ...]
    sizes: AxisSizes
    constants: Mapping[Resource, float]
    coefficients: Mapping[Resource, Floats]
    functions: Floats
    products: Mapping[Resource, Sequence[tuple[float, int, int]]]
    memory: MemoryPricer | None = None
    unpriced: Mapping[Resource, str] = field(default_factory=dict)

    @classmethod
    def from_network(
        cls,
        network: nn.Module,
        example: Example,
        grouping: Grouping,
        preview: Preview | None = None,
    ) -> "WidthPricer":
        """A pricer for what ``network`` costs when deployed.

        Args:
            network: The dense network; left as it is.
            example: What one forward pass takes.
            grouping: Its channel groups.
            preview: Brings a copy of a network to the structure that will be deployed (quantised,
                say) before it is counted.

        Raises:
            ValueError: If a cost depends on the widths in another way; names the layer.
        """
        sizes = AxisSizes.from_grouping(grouping)
        assignments = with_memory_probes(sizes.telling_widths(), sizes)
        counted: list[_Counts] = []
        recorded: list[list[Step]] = []

        def look(rows: npt.NDArray[np.int64]) -> None:
            for widths in rows.tolist():
                built = _built(network, grouping, widths, preview, example)
                fitting = _on_device_of(built, example)
                counted.append(_count(built, fitting, sizes.modules))
                recorded.append(recorded_steps(built, fitting))

        look(assignments)
        if any(_varies(counted, resource, "") for resource in PRICED):
            more = _more_widths(sizes, _NUM_PROBES_OF_PRODUCTS - len(assignments))
            look(more)
            assignments = np.concatenate([assignments, more])
        outs, ins = sizes.at(assignments)
        pairs = Products(sizes, assignments)
        constants: dict[Resource, float] = {}
        coefficients: dict[Resource, Floats] = {}
        products: dict[Resource, list[tuple[float, int, int]]] = {}
        for resource in PRICED:
            table = np.zeros((3, len(sizes.modules)))
            constant = 0.0
            products[resource] = []
            for place, name in enumerate(("", *sizes.modules)):
                for part, values in _parts(counted, resource, name):
                    if (values == values[0]).all():
                        constant += float(values[0])
                        continue
                    axes = (outs[:, place - 1], ins[:, place - 1])
                    own = _form(values, *axes) if name else None
                    if own is not None:
                        table[own[0], place - 1] += own[1]
                        continue
                    found = pairs.matching(values)
                    if found is None:
                        raise _unpriceable(resource, part)
                    products[resource].append(found)
            constants[resource], coefficients[resource] = constant, table
        memory, unpriced = None, {}
        try:
            memory = MemoryPricer.from_steps(recorded, sizes, assignments)
        except UnpriceableError as error:
            unpriced[Resource.peak_memory_bytes] = str(error)
        return cls(
            names=tuple(grouping.num_channels),
            sizes=sizes,
            constants=constants,
            coefficients=coefficients,
            functions=pairs.functions,
            products=products,
            memory=memory,
            unpriced=unpriced,
        )

    def price(self, widths: npt.NDArray[np.int64]) -> dict[Resource, Floats]:
        """Costs [N] by resource of widths [N, num_groups], exact integers as floats."""
        chunks = [
            self._price(widths[start : start + _CHUNK])
            for start in range(0, max(len(widths), 1), _CHUNK)
        ]
        return {
            resource: np.concatenate([chunk[resource] for chunk in chunks])
            for resource in chunks[0]
        }

    def price_plan(self, plan: Plan) -> dict[Resource, float]:
        """Costs of one plan."""
        costs = self.price(self.widths_of(plan))
        return {resource: float(values[0]) for resource, values in costs.items()}

    def widths_of(self, plan: Plan) -> npt.NDArray[np.int64]:
        """The widths [1, num_groups] of a plan."""
        widths = [plan.widths[name] for name in self.names]
        return np.array(widths, dtype=np.int64).reshape(1, len(self.names))

    @property
    def resources(self) -> frozenset[Resource]:
        """What is priced."""
        with_memory = () if self.memory is None else (Resource.peak_memory_bytes,)
        return frozenset((*self.coefficients, Resource.flops, *with_memory))

    def _price(self, widths: npt.NDArray[np.int64]) -> dict[Resource, Floats]:
        outs, ins = self.sizes.at(widths)
        terms = (outs, ins, outs * ins)
        costs: dict[Resource, Floats] = {}
        for resource, table in self.coefficients.items():
            total = np.full(len(widths), self.constants[resource])
            for term, per_layer in zip(terms, table, strict=True):
                total += term @ per_layer
            total += total_of(self.products[resource], self.functions, widths)
            costs[resource] = total
        costs[Resource.flops] = 2 * costs[Resource.macs]
        # packed integers of several layers share no byte, but the whole is a number of bytes
        costs[Resource.size_bytes] = np.ceil(costs[Resource.size_bytes])
        if self.memory is not None:
            costs[Resource.peak_memory_bytes] = self.memory.price(widths)
        return costs


_Counts: TypeAlias = dict[tuple[Resource, str], dict[str, float]]


def _built(
    network: nn.Module,
    grouping: Grouping,
    widths: Sequence[int],
    preview: Preview | None,
    example: Example,
) -> nn.Module:
    """The network of these widths as it is deployed."""
    kept = {
        group.name: tuple(range(width))
        for group, width in zip(grouping.groups, widths, strict=True)
    }
    plan = Plan(kept=kept, num_channels=grouping.num_channels)
    built = operated(network, removal(grouping, plan))
    if preview is not None:
        built = preview(duplicated(built))
    return deployed_copy(built, example)


def _on_device_of(network: nn.Module, example: Example) -> Example:
    weight = next(network.parameters(), next(network.buffers(), None))

    def moved(tensor: Tensor) -> Tensor:
        return tensor if weight is None else tensor.to(weight.device)

    return map_tensors(moved, example)


def _count(network: nn.Module, example: Example, modules: Sequence[str]) -> _Counts:
    """Costs of the parts of a deployed network, by resource and layer; the rest under ``""``."""
    counts: _Counts = {(resource, name): {} for resource in PRICED for name in ("", *modules)}
    owners = set(modules)
    _count_operators(network, example, owners, counts)
    totals = {Resource.params: count_params(network), Resource.size_bytes: stored_bytes(network)}
    # what is in none of the layers may depend on their channels too: quantising opens attention
    for name, parameter in named_weights(network):
        counts[Resource.params, _owner(name, owners)][name] = parameter.numel()
    for stored in named_stored(network):
        counts[Resource.size_bytes, _owner(stored.name, owners)][stored.name] = stored.num_bytes
    for resource, total in totals.items():
        attributed = sum(sum(counts[resource, name].values()) for name in ("", *modules))
        counts[resource, ""]["everything else"] = total - attributed
    return counts


def _count_operators(
    network: nn.Module, example: Example, owners: set[str], counts: _Counts
) -> None:
    """MACs of each layer, and of each operator that runs in none of them, by its place."""
    attribution = Attribution(network)
    outside: list[int] = []

    def observe(operation: Operation) -> None:
        names = attribution.modules_of(operation)
        if operation.flops is None:
            return
        layers = owners & names
        if not layers:
            place = max(names, key=len, default="") or type(network).__name__
            # not by its name: which one multiplies batches of matrices may follow from their sizes
            part = f"operator {len(outside)} in {place}"
            counts[Resource.macs, ""][part] = operation.flops // 2
            outside.append(operation.flops)
            return
        own = counts[Resource.macs, max(layers, key=len)]
        own["macs"] = own.get("macs", 0.0) + operation.flops // 2

    is_recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    whole = _recurrent_layers_in_parts() if is_recurrent else nullcontext()
    sample = with_batch_size(example, 1)
    with observing(network), attribution.following(), FlopCounter(observe), whole:
        run_forward(network, sample)


@contextmanager
def _recurrent_layers_in_parts() -> Iterator[None]:
    """Recurrent layers run as the products they consist of, each of which is of two sizes."""
    is_enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(is_enabled)


def _varies(counted: Sequence[_Counts], resource: Resource, name: str) -> bool:
    return any((values != values[0]).any() for _, values in _parts(counted, resource, name))


def _parts(
    counted: Sequence[_Counts], resource: Resource, name: str
) -> Iterator[tuple[str, Floats]]:
    """What a layer's cost consists of, each at all widths."""
    for part in sorted(set().union(*(count[resource, name] for count in counted))):
        yield part, np.array([count[resource, name].get(part, 0.0) for count in counted])


def _more_widths(sizes: AxisSizes, num_rows: int) -> npt.NDArray[np.int64]:
    generator = np.random.default_rng(2)
    lowest = np.maximum(1, sizes.totals // 2)
    shape = (max(0, num_rows), len(sizes.totals))
    return generator.integers(lowest, sizes.totals, shape, endpoint=True)


def _owner(tensor: str, modules: set[str]) -> str:
    """The innermost of ``modules`` that a tensor belongs to."""
    path = tensor
    while path and path not in modules:
        path = path.rpartition(".")[0]
    return path


def _form(values: Floats, outs: Floats, ins: Floats) -> tuple[int, float] | None:
    """Whether values are proportional to ``outs`` (0), ``ins`` (1) or their product (2)."""
    for form, size in enumerate((outs, ins, outs * ins)):
        if (size > 0).all() and (values / size == values[0] / size[0]).all():
            return form, float(values[0] / size[0])
    return None


def _unpriceable(resource: Resource, part: str) -> ValueError:
    return ValueError(
        f"{resource} of each part must follow from the channels of two layers, got {part!r} where "
        "it does not; exclude the layers before it from pruning"
    )
