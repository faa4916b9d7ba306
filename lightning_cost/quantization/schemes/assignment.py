"""Which layer gets which scheme."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.powers import REDUCED_LIMIT, PowerOfTwo
from lightning_cost.quantization.schemes.scheme import Scheme
from lightning_cost.quantization.schemes.uniform import Int8, LowBit


def assign_schemes(
    layers: Sequence[str], scheme: Scheme, overrides: Mapping[str, Scheme]
) -> dict[str, Scheme]:
    """The scheme of each layer.

    The first and the last layer get 8 bits where ``scheme`` has fewer: the network's input and its
    classes suffer most from few bits, and these layers are small.

    Args:
        layers: Names in the order of their calls.
        scheme: Of all layers that nothing else is said about.
        overrides: Schemes by pattern (``*``, ``?``); the last one that matches a name counts.

    Raises:
        ValueError: If a pattern matches no layer.

    >>> assign_schemes(["a", "b.0", "b.1"], Int8(), {"b.*": Int8(reduced_range=True)})["b.1"]
    Int8(reduced_range=True)
    """
    for pattern in overrides:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            known = ", ".join(repr(layer) for layer in layers)
            raise ValueError(
                f"overrides must match layers that are quantised, got {pattern!r}; "
                f"choose among {known}"
            )
    ends = {*layers[:1], *layers[-1:]} if scheme.weight_bits < 8 else set()
    assigned: dict[str, Scheme] = {}
    for layer in layers:
        matching = [each for pattern, each in overrides.items() if fnmatchcase(layer, pattern)]
        usual = Int8() if layer in ends and not isinstance(scheme, Int8) else scheme
        assigned[layer] = matching[-1] if matching else usual
    return assigned


def with_reduced_range(scheme: Scheme) -> Scheme:
    """``scheme`` with weights up to 64 where it has larger ones, or else as it is.

    >>> with_reduced_range(Int8()), with_reduced_range(LowBit(bits=4))
    (Int8(reduced_range=True), LowBit(bits=4))
    """
    if scheme.levels[-1] <= REDUCED_LIMIT:
        return scheme
    if isinstance(scheme, LowBit):
        return LowBit(bits=7)
    assert isinstance(scheme, Int8 | PowerOfTwo | FLightNN)
    return replace(scheme, reduced_range=True)
