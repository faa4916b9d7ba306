"""Every scheme by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from lightning_cost.quantization.schemes.flightnn import FLightNN
from lightning_cost.quantization.schemes.powers import APoT, PowerOfTwo
from lightning_cost.quantization.schemes.scheme import Scheme
from lightning_cost.quantization.schemes.uniform import Int8, LowBit

SCHEMES: dict[str, type[Scheme]] = {
    each.name: each for each in (Int8, LowBit, PowerOfTwo, FLightNN, APoT)
}
"""Every kind of scheme by its name."""

_SHORT: dict[str, dict[str, Any]] = {
    **{f"int{bits}": {"name": LowBit.name, "bits": bits} for bits in range(2, 8)},
    "power_of_two_2": {"name": PowerOfTwo.name, "terms": 2},
}


def get_scheme(scheme: Scheme | str | Mapping[str, Any]) -> Scheme:
    """The scheme of a name, or of a mapping with a name and settings; a scheme as it is.

    ``"int2"`` to ``"int7"`` and ``"power_of_two_2"`` are names too.

    >>> get_scheme("int8"), get_scheme("int4")
    (Int8(reduced_range=False), LowBit(bits=4))
    >>> get_scheme({"name": "flightnn", "mean_terms": 1.5})
    FLightNN(mean_terms=1.5, reduced_range=False, max_bytes=None)

    Raises:
        TypeError: If it is no scheme, name or mapping.
        ValueError: If there is no scheme of that name, or if it does not have such a setting.
    """
    if isinstance(scheme, Scheme):
        return scheme
    if not isinstance(scheme, (str, Mapping)):
        raise TypeError(
            f"scheme must be a name, or a mapping of a name and settings, got {scheme!r}; write "
            "for example int8"
        )
    return scheme_from_dict({"name": scheme} if isinstance(scheme, str) else scheme)


def get_schemes(given: Scheme | str | Mapping[str, Any] | Sequence[Any]) -> tuple[Scheme, ...]:
    """Each of several schemes as :func:`get_scheme` finds it; one alone is the only one.

    >>> get_schemes(["int8", "int4"])
    (Int8(reduced_range=False), LowBit(bits=4))

    Raises:
        ValueError: As :func:`get_scheme`; if there is none, or one twice.
    """
    if isinstance(given, (Scheme, str, Mapping)):
        return (get_scheme(given),)
    if not isinstance(given, Sequence):
        raise TypeError(
            f"schemes must be one or a list of them, got {given!r}; write each by its name"
        )
    schemes = tuple(get_scheme(each) for each in given)
    if not schemes or any(scheme in schemes[:place] for place, scheme in enumerate(schemes)):
        raise ValueError(
            f"schemes must be one or more, each once, got {list(given)}; write each by its name"
        )
    return schemes


def label_of(scheme: Scheme) -> str:
    """The shortest name of a scheme, for people.

    >>> label_of(get_scheme("int4")), label_of(get_scheme({"name": "flightnn", "mean_terms": 1.5}))
    ('int4', 'flightnn (mean_terms=1.5)')
    """
    for name in (*SCHEMES, *_SHORT):
        if get_scheme(name) == scheme and name != LowBit.name:
            return name
    usual = type(scheme)()
    settings = {
        field.name: getattr(scheme, field.name)
        for field in fields(scheme)
        if getattr(scheme, field.name) != getattr(usual, field.name)
    }
    told = ", ".join(f"{name}={value}" for name, value in settings.items())
    return f"{scheme.name} ({told})" if told else scheme.name


def scheme_from_dict(data: Mapping[str, Any]) -> Scheme:
    """The inverse of :meth:`Scheme.to_dict`.

    Raises:
        ValueError: If there is no scheme of that name, or if it does not have such a setting.
    """
    name = data.get("name")
    short, settings = _SHORT.get(str(name), {"name": name}), _without_name(data)
    for key, fixed in short.items():
        if settings.setdefault(key, fixed) != fixed:
            raise ValueError(
                f"{key} must be {fixed!r} in a scheme {name!r}, got {settings[key]!r}; leave it "
                f"out, or write name: {short['name']}"
            )
    kind = SCHEMES.get(str(settings.pop("name")))
    if kind is None:
        known = ", ".join(repr(known) for known in (*SCHEMES, *_SHORT))
        raise ValueError(f"scheme must be one of {known}, got {name!r}; choose one of these names")
    try:
        return kind(**settings)
    except TypeError:
        known = ", ".join(field.name for field in fields(kind)) or "none"
        raise ValueError(
            f"a scheme {kind.name!r} must have settings of these names: {known}, got "
            f"{sorted(map(str, settings))}; leave the others out"
        ) from None


def _without_name(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "name"}
