"""Section ``inputs``: hostile and broken input of every kind, accepted rightly or refused."""

import time
import warnings
from collections import Counter
from collections.abc import Iterator

import torch

from tests.gauntlet.hostile import (
    callback_states,
    documents,
    overrides,
    run_files,
    studies,
    weights,
)
from tests.gauntlet.hostile.trial import Subject, attempt
from tests.gauntlet.row import Row
from tests.gauntlet.scale import Scale

SUBJECTS: tuple[Subject, ...] = (
    *documents.SUBJECTS,
    *studies.SUBJECTS,
    *run_files.SUBJECTS,
    *weights.SUBJECTS,
    *callback_states.SUBJECTS,
    *overrides.SUBJECTS,
)


def run(scale: Scale) -> Iterator[Row]:
    """One row for each kind of input."""
    torch.set_num_threads(1)
    for subject in SUBJECTS:
        started, counts, notes = time.perf_counter(), Counter[str](), list[str]()
        for number in range(max(1, int(scale.choose(20, 2000) * subject.weight))):
            folder = scale.folder / subject.name.replace(" ", "_") / str(number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trial = attempt(subject, 1_000_003 * scale.seed + number, folder)
            counts[trial.outcome] += 1
            notes += [trial.note] if trial.note else []
        yield Row(
            section="inputs",
            case=subject.name,
            tried=counts.total(),
            seconds=time.perf_counter() - started,
            note="; ".join(notes[:1]),
            **counts,
        )
