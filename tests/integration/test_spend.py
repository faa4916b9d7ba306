"""A run that is killed and resumed has used what an uninterrupted one uses, and what it lost."""

import json
import signal
import socket
from pathlib import Path

import pytest

from tests.integration import spend_run
from tests.integration.spend_run import LAST, NUM_EPOCHS, STEPS_PER_EPOCH
from tests.processes import start

NEVER = -1


def run(folder: Path, num_ranks: int, kill_at: int = NEVER, *, resume: bool = False) -> int:
    """The exit code of the first rank; the ranks find each other as a launcher lets them."""
    folder.mkdir(exist_ok=True)
    checkpoint = str(folder / LAST) if resume else None
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    ranks = [
        start(
            spend_run.main,
            *(folder, num_ranks, kill_at, checkpoint),
            folder=folder,
            log=folder / f"said_{rank}.log",
            environment={
                **place,
                "LOCAL_RANK": str(rank),
                "NODE_RANK": "0",
                "WORLD_SIZE": str(num_ranks),
            },
        )
        for rank in range(num_ranks)
    ]
    ended = [rank.end(seconds=300) for rank in ranks]
    assert kill_at != NEVER or all(code == 0 for code, _ in ended), ended
    return ended[0][0]


def spends(folder: Path, num_ranks: int) -> list[dict[str, float]]:
    return [json.loads((folder / f"spend_{rank}.json").read_text()) for rank in range(num_ranks)]


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_killed_three_times_at_checkpoints_it_has_used_the_same(tmp_path, num_ranks):
    run(tmp_path / "whole", num_ranks)
    for number, epoch in enumerate((1, 3, 5)):
        kill_at = epoch * STEPS_PER_EPOCH
        code = run(tmp_path / "killed", num_ranks, kill_at, resume=number > 0)
        assert code == -signal.SIGKILL
    run(tmp_path / "killed", num_ranks, resume=True)
    expected = spends(tmp_path / "whole", num_ranks)
    found = spends(tmp_path / "killed", num_ranks)
    for ours, theirs in zip(expected, found, strict=True):
        for name in ("train_flops", "eval_flops", "search_flops"):
            assert theirs[name] == ours[name] > 0
        assert theirs["wall_clock_s"] == pytest.approx(ours["wall_clock_s"], rel=0.01)
    assert found[0]["train_flops"] == found[-1]["train_flops"]
    assert found[0]["wall_clock_s"] > NUM_EPOCHS * STEPS_PER_EPOCH
    assert not list((tmp_path / "killed").glob("spend-*")), "the journal ends with the run"


@pytest.mark.slow
def test_what_a_kill_throws_away_was_used_all_the_same(tmp_path):
    run(tmp_path / "whole", 1)
    kill_at = STEPS_PER_EPOCH + 15
    assert run(tmp_path / "killed", 1, kill_at) == -signal.SIGKILL
    (journal,) = (tmp_path / "killed").glob("spend-*.json")
    written = json.loads(journal.read_text())
    run(tmp_path / "killed", 1, resume=True)
    (whole,), (killed,) = spends(tmp_path / "whole", 1), spends(tmp_path / "killed", 1)
    num_steps = NUM_EPOCHS * STEPS_PER_EPOCH
    # written every 5 s, which are 5 steps here
    num_lost = round(written["seconds"]) - STEPS_PER_EPOCH
    assert 10 <= num_lost <= 15
    assert killed["wall_clock_s"] == pytest.approx(num_steps + num_lost, abs=0.2)
    per_step = written["train_flops"] / round(written["seconds"])
    assert killed["train_flops"] == whole["train_flops"] + num_lost * per_step
