"""Preparing a network for training with quantisation: batch norm folded, fake quantisers on."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from lightning_cost.cost.forward import Example
from lightning_cost.network.attention import open_attention
from lightning_cost.network.dataflow import trace_dataflow
from lightning_cost.network.filters import FilterLayout
from lightning_cost.network.folding import fold_batch_norms, pairs_in
from lightning_cost.network.lineage import Change, ParameterSwap
from lightning_cost.quantization.convert import convert_in_place
from lightning_cost.quantization.fake_quantizers import (
    ActivationFakeQuantizer,
    BiasFakeQuantizer,
    WeightFakeQuantizer,
    activation_fake_quantizers,
)
from lightning_cost.quantization.placement import LAYERS, TABLES, attentions, place
from lightning_cost.quantization.schemes import Scheme, get_scheme, scheme_from_dict

INPUT = "input_fake_quantizer"
OUTPUT = "output_fake_quantizer"


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareQuantization(Change):
    """Fold batch norms and attach fake quantisers; modules stay what they are.

    Args:
        scheme: The grid of the weights.
        attentions: Attention modules that are replaced by ones that call linear layers, and whether
            each is always self-attention.
        folded: Names of each layer and of the batch norm that is folded into it.
        sources: For each layer with a quantised weight, the module that quantises its input: the
            layer itself on the way in, or the one that wrote the input on its way out.
        tables: Embeddings with a quantised weight.
        outputs: Further modules with a quantised output.
        left_float: Modules with weights that stay in floating point, and why.
    """

    kind: ClassVar[str] = "prepare_quantization"
    scheme: Scheme
    folded: tuple[tuple[str, str], ...]
    sources: Mapping[str, str]
    tables: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attentions: Mapping[str, bool] = field(default_factory=dict)
    left_float: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights(self) -> tuple[str, ...]:
        """The layers with a quantised weight."""
        return (*self.sources, *self.tables)

    @override
    def apply(self, network: nn.Module) -> list[ParameterSwap]:
        self._check(network)
        device = next(network.parameters()).device
        swaps = [
            swap
            for name, is_self in self.attentions.items()
            for swap in open_attention(network, name, is_self=is_self)
        ]
        swaps += fold_batch_norms(network, self.folded)
        for layer, source in self.sources.items():
            if layer == source:
                _attach(network.get_submodule(layer), INPUT, device)
        writers = [source for layer, source in self.sources.items() if source != layer]
        for writer in dict.fromkeys([*writers, *self.outputs]):
            _attach(network.get_submodule(writer), OUTPUT, device)
        for layer, source in self.sources.items():
            place = INPUT if layer == source else OUTPUT
            quantizer = getattr(network.get_submodule(source), place)
            self._quantize_parameters(network.get_submodule(layer), quantizer)
        for table in self.tables:
            self._quantize_weight(network.get_submodule(table))
        return swaps

    def deploy(self, network: nn.Module) -> None:
        """Convert what :meth:`apply` prepared, in place; see ``quantization.convert``."""
        convert_in_place(network, self.sources, self.tables)

    @override
    def to_dict(self) -> dict[str, Any]:
        return {
            "scheme": self.scheme.to_dict(),
            "folded": [list(pair) for pair in self.folded],
            "sources": dict(self.sources),
            "tables": list(self.tables),
            "outputs": list(self.outputs),
            "attentions": dict(self.attentions),
            "left_float": dict(self.left_float),
        }

    @classmethod
    @override
    def from_dict(cls, data: Mapping[str, Any]) -> "PrepareQuantization":
        return cls(
            scheme=scheme_from_dict(data["scheme"]),
            folded=tuple((layer, norm) for layer, norm in data["folded"]),
            sources=dict(data["sources"]),
            tables=tuple(data.get("tables", ())),
            outputs=tuple(data["outputs"]),
            attentions=dict(data.get("attentions", {})),
            left_float=dict(data["left_float"]),
        )

    def _quantize_parameters(self, layer: nn.Module, source: ActivationFakeQuantizer) -> None:
        self._quantize_weight(layer)
        if layer.bias is not None:
            weight = layer.get_submodule("parametrizations.weight")
            bias_quantizer = BiasFakeQuantizer(weight, source).train(layer.training)
            parametrize.register_parametrization(layer, "bias", bias_quantizer)

    def _quantize_weight(self, layer: nn.Module) -> None:
        quantizer = WeightFakeQuantizer(self.scheme, FilterLayout.of(layer))
        parametrize.register_parametrization(layer, "weight", quantizer.train(layer.training))

    def _check(self, network: nn.Module) -> None:
        if is_prepared(network):
            raise ValueError(
                "network must not be prepared for quantisation twice, got one with fake "
                "quantisers; prepare a fresh network"
            )
        modules = dict(network.named_modules())
        kinds: dict[str, Any] = dict.fromkeys((*self.sources.values(), *self.outputs), nn.Module)
        kinds |= dict.fromkeys(self.sources, LAYERS) | dict.fromkeys(self.tables, TABLES)
        kinds |= dict.fromkeys(self.attentions, nn.MultiheadAttention)
        for name, kind in kinds.items():
            if any(name.startswith(f"{attention}.") for attention in self.attentions):
                continue  # a layer that is there once the attention is open
            if not isinstance(modules.get(name), kind):
                found = type(modules[name]).__name__ if name in modules else "nothing of that name"
                raise ValueError(
                    "network must be the one that quantisation was planned for, got "
                    f"{found} at {name!r}; plan it for this network"
                )


def plan_quantization(
    network: nn.Module,
    example: Example,
    scheme: Scheme | str = "int8",
    *,
    exclude: Sequence[str] = (),
) -> PrepareQuantization:
    """Plan the preparation of ``network`` from one forward pass; it is left as it was found.

    Args:
        network: In floating point, on any device.
        example: What one forward pass takes.
        scheme: The grid of the weights, or its name.
        exclude: Modules that stay in floating point, all within them included.

    Raises:
        ValueError: If a name is unknown, if nothing is left to quantise, or if the network is
            prepared already.

    >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(),
    ...                         nn.Linear(8, 2))
    >>> change = plan_quantization(network, torch.zeros(1, 1, 4, 4))
    >>> change.folded, change.sources
    ((('0', '1'),), {'0': '0', '4': '3'})
    """
    if is_prepared(network):
        raise ValueError(
            "network must not be prepared for quantisation twice, got one with fake quantisers; "
            "plan for a fresh network"
        )
    dataflow = trace_dataflow(network, example)
    opened = attentions(network, dataflow, exclude)
    if opened:
        network = copy.deepcopy(network)
        for name, is_self in opened.items():
            open_attention(network, name, is_self=is_self)
        dataflow = trace_dataflow(network, example)
    pairs = pairs_in(dataflow, network)
    placement = place(network, dataflow, dict(pairs), exclude)
    if not placement.sources and not placement.tables:
        listed = "; ".join(f"{name}: {why}" for name, why in placement.left_float.items())
        raise ValueError(
            "network must have a convolution or linear layer to quantise, got none "
            f"({listed or 'no weights'}); exclude less, or do not quantise it"
        )
    return PrepareQuantization(
        scheme=get_scheme(scheme),
        folded=tuple(pair for pair in pairs if pair[0] in placement.sources),
        sources=placement.sources,
        tables=placement.tables,
        outputs=placement.outputs,
        attentions=opened,
        left_float=placement.left_float,
    )


def is_prepared(network: nn.Module) -> bool:
    """Whether ``network`` holds fake quantisers."""
    return bool(activation_fake_quantizers(network))


def _attach(module: nn.Module, name: str, device: torch.device) -> None:
    module.add_module(name, ActivationFakeQuantizer().to(device).train(module.training))
    if name == INPUT:
        module.register_forward_pre_hook(_quantize_input, with_kwargs=True)
    else:
        module.register_forward_hook(_quantize_output)


def _quantize_input(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The first tensor among the arguments is what meets the weight."""
    quantizer = getattr(module, INPUT)
    for index, value in enumerate(args):
        if isinstance(value, Tensor):
            return (*args[:index], quantizer(value), *args[index + 1 :]), kwargs
    for name, value in kwargs.items():
        if isinstance(value, Tensor):
            return args, {**kwargs, name: quantizer(value)}
    return args, kwargs


def _quantize_output(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    quantized: Tensor = getattr(module, OUTPUT)(output)
    return quantized
