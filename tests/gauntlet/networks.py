"""Section ``networks``: each awkward network through measure, prune, quantise, export, resume."""

from collections.abc import Iterator

import torch

from tests.gauntlet.row import Row
from tests.gauntlet.scale import Scale
from tests.gauntlet.strange.corpus import CORPUS, SHORT
from tests.gauntlet.strange.walk import Walk


def run(scale: Scale) -> Iterator[Row]:
    """One row for each network; in the short form a part of them, without a fit."""
    torch.set_num_threads(1)
    for name in scale.choose(SHORT, tuple(CORPUS)):
        folder = scale.folder / name
        folder.mkdir()
        outcome = Walk(name, CORPUS[name], folder).run(with_fit=not scale.is_short)
        wrong = {**outcome.broken, **outcome.failed, **outcome.unexpected}
        yield Row(
            section="networks",
            case=name,
            tried=1,
            seconds=outcome.seconds,
            note="; ".join(f"{stage}: {said}" for stage, said in wrong.items()),
            **{outcome.word: 1},
        )
