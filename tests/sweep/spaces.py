"""Spaces for the tests of a sweep."""

from hydra.core.override_parser.overrides_parser import OverridesParser

from lightning_cost.sweep.space import Space


def space_of(*words):
    return Space.of(OverridesParser.create().parse_overrides(list(words)))
