"""All awkward networks by name."""

from tests.gauntlet.strange import calls, layers, weights
from tests.gauntlet.strange.case import Case

CORPUS: dict[str, Case] = {**weights.CASES, **layers.CASES, **calls.CASES}
