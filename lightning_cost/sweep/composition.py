"""A run's configuration from the values of a trial, composed by Hydra once."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_cost.sweep.space import Space

Compose: TypeAlias = Callable[[Sequence[str]], DictConfig]
"""The configuration that overrides make."""


class Composition:
    """Configurations of one space.

    Hydra composes anew only where another option of a configuration group is chosen; plain values
    are set on a copy of what it composed before.

    Args:
        space: Of the sweep.
        compose: Asks Hydra.
        is_group: Whether a key is that of a configuration group.
    """

    def __init__(self, space: Space, compose: Compose, is_group: Callable[[str], bool]) -> None:
        self._space = space
        self._compose = compose
        self._groups = tuple(key for key in space.parameters if is_group(key))
        self._composed: dict[tuple[Any, ...], DictConfig] = {}
        self._parser = OverridesParser.create()

    def __call__(self, settings: Mapping[str, Any]) -> DictConfig:
        """The configuration of a run with ``settings``, without Hydra's own part.

        Raises:
            HydraException: If a key is not in the configuration, or a value does not fit it.
        """
        chosen = tuple(settings[key] for key in self._groups)
        if chosen not in self._composed:
            composed = self._compose(self._space.overrides(settings))
            with open_dict(composed):
                composed.pop("hydra", None)
            self._composed[chosen] = composed
        config = copy.deepcopy(self._composed[chosen])
        for key, value in settings.items():
            if key not in self._groups:
                OmegaConf.update(config, key, self._plain(key, value), force_add=False)
        return config

    def without_effect_on(self, parts: Sequence[str]) -> frozenset[str]:
        """The parameters that no part of the configuration called one of ``parts`` depends on."""
        (composed,) = list(self._composed.values())[:1]
        texts = [
            OmegaConf.to_yaml(composed[name])
            for name in parts
            if OmegaConf.is_config(composed[name])
        ]
        tops = {key: key.partition(".")[0] for key in self._space.parameters}
        return frozenset(
            key
            for key, top in tops.items()
            if key not in self._groups
            and top not in parts
            and not any(f"${{{top}" in text for text in texts)
        )

    def _plain(self, key: str, value: Any) -> Any:
        """What Hydra would make of the value of an override."""
        if not isinstance(value, str):
            return value
        return self._parser.parse_override(self._space.parameters[key].override(value)).value()
