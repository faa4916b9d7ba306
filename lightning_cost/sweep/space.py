"""What a sweep varies: Hydra's override syntax as Optuna's distributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import (
    IntervalSweep,
    Override,
    RangeSweep,
    Transformer,
)
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

LOG = "log"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One entry of the configuration that is varied.

    Args:
        key: Where it stands, such as ``"model.width"``, or the name of a configuration group.
        prefix: What stands before the key in an override: ``""``, ``"+"`` or ``"++"``.
        distribution: What its values are drawn from.
        written: As the user wrote it.
        words: How each value that is not a number is written in an override.
    """

    key: str
    distribution: BaseDistribution
    written: str
    prefix: str = ""
    words: Mapping[Any, str] = field(default_factory=dict)

    def override(self, value: Any) -> str:
        """The override that sets ``value``."""
        word = self.words.get(value) if isinstance(value, str) else None
        return f"{self.prefix}{self.key}={_word(value) if word is None else word}"

    @property
    def example(self) -> Any:
        """Some value of it."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices[0]
        assert isinstance(self.distribution, (IntDistribution, FloatDistribution))
        return self.distribution.low


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """The parameters of a sweep, and the overrides that all of its runs share.

    Args:
        parameters: By key, in the order in which they were written.
        fixed: Overrides that set one value.
    """

    parameters: Mapping[str, Parameter]
    fixed: tuple[str, ...] = ()

    @classmethod
    def of(cls, overrides: Sequence[Override]) -> "Space":
        """The space that ``overrides`` describe; the last word on an entry counts.

        Raises:
            ValueError: If nothing is varied, or a range or an interval is empty or cannot be
                searched on a logarithmic scale.
        """
        parameters: dict[str, Parameter] = {}
        fixed: dict[str, str] = {}
        for override in overrides:
            key = override.get_key_element().lstrip("+~")
            parameters.pop(key, None)
            fixed.pop(key, None)
            if override.is_sweep_override():
                parameters[key] = parameter(override)
            else:
                fixed[key] = str(override.input_line)
        if not parameters:
            raise ValueError(
                "a sweep must vary something, got no entry with several values; write for example "
                "'model.width=choice(8,16,24)' or 'trainer.learning_rate=interval(0.01,0.1)'"
            )
        return cls(parameters=parameters, fixed=tuple(fixed.values()))

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """By key."""
        return {key: entry.distribution for key, entry in self.parameters.items()}

    @property
    def size(self) -> int | None:
        """How many configurations there are; ``None`` where a parameter is continuous."""
        return size_of(self.distributions)

    def overrides(self, settings: Mapping[str, Any]) -> list[str]:
        """What a run with ``settings`` is started with."""
        chosen = [self.parameters[key].override(value) for key, value in settings.items()]
        return [*self.fixed, *chosen]


def values_of(distribution: BaseDistribution) -> Sequence[Any] | None:
    """Every value of a parameter; ``None`` where it is continuous.

    >>> list(values_of(IntDistribution(2, 8, step=3)))
    [2, 5, 8]
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    return None


def size_of(distributions: Mapping[str, BaseDistribution]) -> int | None:
    """How many combinations there are; ``None`` where a parameter is continuous."""
    size = 1
    for distribution in distributions.values():
        values = values_of(distribution)
        if values is None:
            return None
        size *= len(values)
    return size


def parameter(override: Override) -> Parameter:
    """The parameter that an override with several values describes.

    Raises:
        ValueError: If it is empty, or cannot be searched on a logarithmic scale.

    >>> from hydra.core.override_parser.overrides_parser import OverridesParser
    >>> written = "x=tag(log, interval(1e-3, 1e-1))"
    >>> parameter(OverridesParser.create().parse_override(written)).distribution
    FloatDistribution(high=0.1, log=True, low=0.001, step=None)
    """
    key = override.get_key_element()
    name = key.lstrip("+")
    written = str(override.input_line).partition("=")[2]
    value = override.value()
    words: dict[Any, str] = {}
    distribution: BaseDistribution
    try:
        if isinstance(value, IntervalSweep):
            distribution = _interval(value)
        elif isinstance(value, RangeSweep):
            distribution = _range(value)
        else:
            choices: list[Any] = list(override.sweep_iterator(Transformer.encode))
            written_choices = list(override.sweep_string_iterator())
            words = {
                choice: word
                for choice, word in zip(choices, written_choices, strict=True)
                if isinstance(choice, str)
            }
            distribution = CategoricalDistribution([*dict.fromkeys(choices)])
    except ValueError as error:
        raise ValueError(
            f"{name} must have values to choose from, got {written!r}: {error}; write for example "
            "choice(8,16), range(8,64,8), interval(0.01,0.1) or tag(log, interval(0.001,0.1))"
        ) from error
    return Parameter(
        key=name,
        prefix=key[: len(key) - len(name)],
        distribution=distribution,
        written=written,
        words=words,
    )


def _interval(sweep: IntervalSweep) -> BaseDistribution:
    assert sweep.start is not None
    assert sweep.end is not None
    is_log = LOG in sweep.tags
    if isinstance(sweep.start, int) and isinstance(sweep.end, int):
        return IntDistribution(sweep.start, sweep.end, log=is_log)
    return FloatDistribution(float(sweep.start), float(sweep.end), log=is_log)


def _range(sweep: RangeSweep) -> BaseDistribution:
    """Hydra's range leaves its stop out; a logarithmic one is given by its values' ends."""
    values = list(sweep.range())
    if not values:
        raise ValueError("the range is empty")
    low, high = min(values), max(values)
    step = abs(sweep.step)
    if all(isinstance(value, int) for value in (low, high, step)):
        is_log = LOG in sweep.tags
        if is_log and step != 1:
            raise ValueError("a range on a logarithmic scale has no step")
        return IntDistribution(int(low), int(high), log=is_log, step=int(step))
    if LOG in sweep.tags:
        raise ValueError("a range of fractions has a step, and no logarithmic scale")
    return FloatDistribution(float(low), float(high), step=float(step))


def _word(value: Any) -> str:
    """A number, a truth value or nothing, as overrides have them."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)
