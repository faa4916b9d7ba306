import os
import re

import pytest
import torch
from pytorch_lightning.utilities import rank_zero_only

from lightning_cost.recipe.run_dir import (
    CONFIG_NAME,
    DENSE_NAME,
    FINAL_NAME,
    LAST_NAME,
    PREVIOUS_NAME,
    checkpoint_to_resume,
    create_run_dir,
    empty_untrained,
    is_first_rank,
    new_logs_name,
)


def test_a_new_directory_is_made_with_its_parents(tmp_path):
    run_dir = create_run_dir(tmp_path / "runs" / "first")
    assert run_dir.is_dir()
    assert list(run_dir.iterdir()) == []


def test_an_empty_directory_will_do(tmp_path):
    assert create_run_dir(tmp_path) == tmp_path


@pytest.mark.parametrize("taken", ["file", "directory"])
def test_what_exists_is_not_written_to(tmp_path, taken):
    path = tmp_path / "run"
    if taken == "directory":
        path.mkdir()
        (path / "precious").touch()
    else:
        path.touch()
    with pytest.raises(ValueError, match=r"run_dir must be new or empty, got '.*', which exists"):
        create_run_dir(path)


def test_a_directory_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"run_dir must be writable, got .*; choose another with"):
        create_run_dir(tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"run_dir must be writable, got .*Permission denied"):
        create_run_dir(tmp_path / "run")


def checkpoint(path, content=0):
    torch.save({"content": torch.full((1000,), content)}, path)


@pytest.mark.parametrize(
    ("names", "latest"),
    [
        ([LAST_NAME], LAST_NAME),
        ([LAST_NAME, PREVIOUS_NAME], LAST_NAME),
        ([PREVIOUS_NAME], PREVIOUS_NAME),
        ([FINAL_NAME, LAST_NAME, PREVIOUS_NAME], FINAL_NAME),
    ],
)
def test_the_latest_checkpoint_is_resumed(tmp_path, names, latest):
    for name in names:
        checkpoint(tmp_path / name)
    assert checkpoint_to_resume(tmp_path) == tmp_path / latest


def test_a_run_that_did_not_begin_to_train_has_none(tmp_path):
    assert checkpoint_to_resume(tmp_path) is None


def test_a_finished_run_is_not_resumed(tmp_path):
    checkpoint(tmp_path / FINAL_NAME)
    (tmp_path / "report.json").touch()
    assert checkpoint_to_resume(tmp_path) == tmp_path / FINAL_NAME, "its page is missing"
    (tmp_path / "report.html").touch()
    with pytest.raises(ValueError, match=r"got '.*' with a finished run; its report is '.*html'"):
        checkpoint_to_resume(tmp_path)


def cut_off(content):
    return content[: len(content) // 2]


def zeros_at_the_end(content):
    return content[:-2048] + bytes(2048)


def one_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut_off, zeros_at_the_end, one_bit, lambda _: b""])
def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(tmp_path, damage, caplog):
    for name in (LAST_NAME, PREVIOUS_NAME):
        checkpoint(tmp_path / name)
    last = tmp_path / LAST_NAME
    last.write_bytes(damage(last.read_bytes()))
    assert checkpoint_to_resume(tmp_path) == tmp_path / PREVIOUS_NAME
    (said,) = caplog.messages
    assert re.match(r"last.ckpt is .*: going on from previous.ckpt, the one before it", said)
    assert not last.exists(), "it must not become the one before the next"
    assert (tmp_path / f"{LAST_NAME}.damaged").exists()


def test_nothing_but_damaged_checkpoints(tmp_path):
    (tmp_path / LAST_NAME).write_bytes(b"half a chec")
    with pytest.raises(
        ValueError, match=r"whole checkpoint, got .* with last.ckpt: cut off .*start the run again"
    ):
        checkpoint_to_resume(tmp_path)


def test_each_part_of_a_run_logs_to_a_place_of_its_own(tmp_path):
    names = []
    for _ in range(3):
        names.append(new_logs_name(tmp_path))
        (tmp_path / names[-1]).mkdir()
    assert names == ["logs", "logs_2", "logs_3"]


def test_further_ranks_take_the_directory_of_the_first(tmp_path, monkeypatch):
    first = create_run_dir(tmp_path / "12-00-00")
    (first / "config.yaml").touch()
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert not is_first_rank()
    assert create_run_dir(tmp_path / "12-00-01") == first
    assert not (tmp_path / "12-00-01").exists()


def test_a_refused_run_leaves_its_directory_free(tmp_path):
    run_dir = create_run_dir(tmp_path / "run")
    for name in (CONFIG_NAME, DENSE_NAME, LAST_NAME, "spend-0.json", "search-0.jsonl"):
        (run_dir / name).touch()
    (run_dir / "logs").mkdir()
    empty_untrained(run_dir)
    assert create_run_dir(run_dir) == run_dir


def test_what_a_run_leaves_that_is_killed_at_once_is_no_obstacle(tmp_path):
    for name in (".writable", ".config.yaml.1234"):
        (tmp_path / name).touch()
    assert list(create_run_dir(tmp_path).iterdir()) == []
