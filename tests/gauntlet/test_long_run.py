"""What the long run lets pass: noise and a busy machine; and what it does not."""

import json
from random import Random

import pytest

from tests.gauntlet.long_run import NUM_EPOCHS_SHORT, PHASES, judged

NUM_EPOCHS = NUM_EPOCHS_SHORT // 2
PER_EPOCH = 4 / 18 / 200
"""By which checkpoints once made each epoch longer, as a share of the first: 18 to 22 ms in 200."""


def held(path, growth=0.0, drift=0.0, phase=PHASES[1], **grown):
    """A file of a run whose epochs of ``phase`` grow, on a machine that becomes slower."""
    random, rows = Random(0), []
    for each in PHASES:
        for number in range(NUM_EPOCHS):
            machine = 1 + drift * (number > NUM_EPOCHS / 2)
            own = 1 + growth * number * (each == phase)
            row = {
                "phase": each,
                "resident_bytes": 3e8 + random.uniform(0, 1e5),
                "files": 9,
                "threads": 3,
                "cpu_s": 0.018 * own * machine * random.uniform(0.9, 1.15),
                "same_cpu_s": 0.003 * machine * random.uniform(0.9, 1.15),
            }
            for name, by in grown.items():
                row[name] += by * number * (each == phase)
            rows.append(row)
    rows[NUM_EPOCHS // 2]["cpu_s"] *= 50
    path.write_text(json.dumps(rows))
    return [name for name, is_flat, _ in judged(path) if not is_flat]


@pytest.mark.parametrize("drift", [0.0, 0.8, -0.4])
def test_a_busy_machine_is_no_growth(tmp_path, drift):
    assert held(tmp_path / "held.json", drift=drift) == []


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("drift", [0.0, 0.8, -0.4])
def test_epochs_that_grow_as_they_once_did_are_seen(tmp_path, phase, drift):
    found = held(tmp_path / "held.json", growth=PER_EPOCH, drift=drift, phase=phase)
    assert found == [f"{phase}, time of an epoch"]


@pytest.mark.parametrize(
    ("name", "grown"),
    [("memory", {"resident_bytes": 2e4}), ("files", {"files": 1}), ("threads", {"threads": 0.1})],
)
def test_what_a_process_gathers_is_seen(tmp_path, name, grown):
    found = held(tmp_path / "held.json", phase="recover", **grown)
    assert found == [f"recover, {name}"]
