"""All awkward networks by name."""

from tests.gauntlet.networks import calls, layers, weights
from tests.gauntlet.networks.case import Case

CORPUS: dict[str, Case] = {**weights.CASES, **layers.CASES, **calls.CASES}
