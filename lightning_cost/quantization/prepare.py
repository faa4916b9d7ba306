"""Preparing a network for quantisation: fake quantisers attached, batch norms ready to fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from lightning_cost.network.attention import open_attention
from lightning_cost.network.filters import FilterLayout
from lightning_cost.network.folding import check_pairs
from lightning_cost.network.lineage import Change, ParameterSwap
from lightning_cost.quantization.convert import convert_in_place
from lightning_cost.quantization.fake_quantizers import (
    ActivationFakeQuantizer,
    activation_fake_quantizers,
)
from lightning_cost.quantization.gradual import GradualRounding
from lightning_cost.quantization.norms import FoldableNorm, make_foldable
from lightning_cost.quantization.placement import LAYERS, TABLES
from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.registry import scheme_from_dict
from lightning_cost.quantization.schemes.scheme import Scheme
from lightning_cost.quantization.terms import ChosenTerms, assign_terms
from lightning_cost.quantization.weights import (
    BiasFakeQuantizer,
    FittedScale,
    LearnedScale,
    Rounding,
    WeightFakeQuantizer,
    quantized_weights,
)

INPUT = "input_fake_quantizer"
OUTPUT = "output_fake_quantizer"


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareQuantization(Change):
    """Attach fake quantisers and make batch norms foldable; modules stay what they are.

    Args:
        schemes: The grid of each quantised layer's weight.
        attentions: Attention modules that are replaced by ones that call linear layers, and whether
            each is always self-attention.
        folded: Names of each layer and of the batch norm that is folded into it.
        sources: For each layer with a quantised weight, the module that quantises its input: the
            layer itself on the way in, or the one that wrote the input on its way out.
        tables: Embeddings with a quantised weight.
        outputs: Further modules with a quantised output.
        left_float: Modules with weights that stay in floating point, and why.
        learns_scales: Whether the scales of weights are trained, instead of following the weights.
        observer: How the ranges of activations are found, one of ``OBSERVERS``.
        is_gradual: Whether weights are rounded a few at a time, the largest first.
    """

    kind: ClassVar[str] = "prepare_quantization"
    schemes: Mapping[str, Scheme]
    folded: tuple[tuple[str, str], ...]
    sources: Mapping[str, str]
    tables: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attentions: Mapping[str, bool] = field(default_factory=dict)
    left_float: Mapping[str, str] = field(default_factory=dict)
    learns_scales: bool = False
    observer: str = "moving_average"
    is_gradual: bool = False

    @property
    def weights(self) -> tuple[str, ...]:
        """The layers with a quantised weight."""
        return (*self.sources, *self.tables)

    @override
    def apply(self, network: nn.Module) -> list[ParameterSwap]:
        swaps = self._attach_all(network, fits=True)
        share_out_terms(network)
        return swaps

    @override
    def rebuild(self, network: nn.Module) -> None:
        self._attach_all(network, fits=False)

    def _attach_all(self, network: nn.Module, *, fits: bool) -> list[ParameterSwap]:
        """Do what this change is for; ``fits``: see :class:`Rounding`."""
        self._check(network)
        device = next(network.parameters()).device
        before = set(network.parameters())
        swaps = [
            swap
            for name, is_self in self.attentions.items()
            for swap in open_attention(network, name, is_self=is_self)
            if swap.old is not None
        ]
        norms = {layer: make_foldable(network.get_submodule(norm)) for layer, norm in self.folded}
        for layer, source in self.sources.items():
            if layer == source:
                self._attach(network.get_submodule(layer), INPUT, device)
        writers = [source for layer, source in self.sources.items() if source != layer]
        for writer in dict.fromkeys([*writers, *self.outputs]):
            self._attach(network.get_submodule(writer), OUTPUT, device)
        for layer, source in self.sources.items():
            place = INPUT if layer == source else OUTPUT
            quantizer = getattr(network.get_submodule(source), place)
            self._quantize_parameters(network, layer, quantizer, norms.get(layer), fits=fits)
        for table in self.tables:
            module = network.get_submodule(table)
            self._quantize_weight(module, self.schemes[table], None, fits=fits)
        weight_of = self._weight_of_new(network)
        return swaps + [
            ParameterSwap(old=None, new=parameter, beside=weight_of.get(parameter))
            for parameter in network.parameters()
            if parameter not in before
        ]

    def deploy(self, network: nn.Module) -> None:
        """Convert what :meth:`apply` prepared, in place; see ``quantization.convert``."""
        convert_in_place(network, self.sources, self.tables)

    @override
    def to_dict(self) -> dict[str, Any]:
        return {
            "schemes": {layer: scheme.to_dict() for layer, scheme in self.schemes.items()},
            "folded": [list(pair) for pair in self.folded],
            "sources": dict(self.sources),
            "tables": list(self.tables),
            "outputs": list(self.outputs),
            "attentions": dict(self.attentions),
            "left_float": dict(self.left_float),
            "learns_scales": self.learns_scales,
            "observer": self.observer,
            "is_gradual": self.is_gradual,
        }

    @classmethod
    @override
    def from_dict(cls, data: Mapping[str, Any]) -> "PrepareQuantization":
        return cls(
            schemes={layer: scheme_from_dict(each) for layer, each in data["schemes"].items()},
            folded=tuple((layer, norm) for layer, norm in data["folded"]),
            sources=dict(data["sources"]),
            tables=tuple(data["tables"]),
            outputs=tuple(data["outputs"]),
            attentions=dict(data["attentions"]),
            left_float=dict(data["left_float"]),
            learns_scales=bool(data["learns_scales"]),
            observer=data["observer"],
            is_gradual=bool(data["is_gradual"]),
        )

    def _attach(self, module: nn.Module, name: str, device: torch.device) -> None:
        quantizer = ActivationFakeQuantizer(self.observer).to(device)
        module.add_module(name, quantizer.train(module.training))
        if name == INPUT:
            module.register_forward_pre_hook(_quantize_input, with_kwargs=True)
        else:
            module.register_forward_hook(_quantize_output)

    def _weight_of_new(self, network: nn.Module) -> dict[nn.Parameter, nn.Parameter]:
        """For each parameter of a quantiser the weight that it quantises, or whose input."""
        found: dict[nn.Parameter, nn.Parameter] = {}
        for layer in self.weights:
            weight = network.get_submodule(layer).get_submodule("parametrizations.weight")
            source = self.sources.get(layer)
            held = [*weight.get_submodule("0").parameters()]
            if source is not None:
                place = INPUT if layer == source else OUTPUT
                held += network.get_submodule(source).get_submodule(place).parameters()
            assert isinstance(weight.original, nn.Parameter)
            found |= {each: weight.original for each in held if each not in found}
        beside = next(iter(found.values()), None)
        for output in self.outputs:  # read by no layer: beside any weight of this network
            for each in network.get_submodule(output).get_submodule(OUTPUT).parameters():
                assert beside is not None
                found.setdefault(each, beside)
        return found

    def _quantize_parameters(
        self,
        network: nn.Module,
        name: str,
        source: ActivationFakeQuantizer,
        norm: FoldableNorm | None,
        *,
        fits: bool,
    ) -> None:
        layer = network.get_submodule(name)
        weight = self._quantize_weight(layer, self.schemes[name], norm, fits=fits)
        if norm is not None and getattr(layer, "bias", None) is None:
            # what the folded norm adds needs a place
            del layer.bias
            zeros = torch.zeros(len(weight), device=weight.device, dtype=weight.dtype)
            layer.register_buffer("bias", zeros)
        if getattr(layer, "bias", None) is not None:
            originals = layer.get_submodule("parametrizations.weight")
            bias_quantizer = BiasFakeQuantizer(originals, source).train(layer.training)
            parametrize.register_parametrization(layer, "bias", bias_quantizer, unsafe=not fits)

    def _quantize_weight(
        self, layer: nn.Module, scheme: Scheme, norm: FoldableNorm | None, *, fits: bool
    ) -> Tensor:
        """Attach the quantiser of the weight, and return the weight [filters, ...]."""
        layout, held = FilterLayout.of(layer), layer.weight
        assert isinstance(held, Tensor)
        weight = layout.filters_first(held)
        rounding: Rounding
        if isinstance(scheme, FLightNN):
            rounding = ChosenTerms(scheme, weight, fits=fits)
        elif self.is_gradual:
            rounding = GradualRounding(scheme, weight, fits=fits)
        elif self.learns_scales:
            rounding = LearnedScale(scheme, weight, fits=fits)
        else:
            rounding = FittedScale(scheme, weight, fits=fits)
        quantizer = WeightFakeQuantizer(rounding, norm, layout).train(layer.training)
        # called safe it is computed once, to be compared with what it replaces
        parametrize.register_parametrization(layer, "weight", quantizer, unsafe=not fits)
        return weight

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
        check_pairs(network, self.folded)


def is_prepared(network: nn.Module) -> bool:
    """Whether ``network`` holds fake quantisers."""
    return bool(activation_fake_quantizers(network))


def share_out_terms(network: nn.Module, averaged: Sequence[nn.Module] = ()) -> None:
    """Decide anew, in place, how many powers of two each filter gets; see ``assign_terms``.

    Does nothing to a network without filters that have a choice.

    Args:
        network: Prepared.
        averaged: Averaged copies of it, which get the same numbers: averages of integers are none.
    """
    choosing = {
        name: (quantizer.rounding, weight)
        for name, quantizer, weight in quantized_weights(network)
        if isinstance(quantizer.rounding, ChosenTerms)
    }
    assign_terms(choosing)
    for each in averaged:
        for name, quantizer, _ in quantized_weights(each):
            if isinstance(quantizer.rounding, ChosenTerms):
                quantizer.rounding.num_terms.copy_(choosing[name][0].num_terms)


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
