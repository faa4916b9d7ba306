import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_cost.network.whole_file import remove_drafts, sync_files, whole_file

KILLED = """
import os, signal
from lightning_cost.network.whole_file import whole_file
with whole_file("file") as file:
    file.write(b"half of the ne")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write_and_fail(path):
    with whole_file(path) as file:
        file.write(b"half of the ne")
        raise RuntimeError("the disk is full")


def test_an_error_leaves_the_old_file_alone(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="full"):
        write_and_fail(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_kill_leaves_the_old_file_and_a_draft_that_is_removed(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / ".of.others").touch()
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False, timeout=100
    )
    assert done.returncode == -9
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 3
    remove_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", ".of.others"}


def test_it_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    order = []
    replace, sync = Path.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("sync"), sync(number)))
    monkeypatch.setattr(Path, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    with whole_file(tmp_path / "file") as file:
        file.write(b"new")
    assert order == ["sync", "replace", "sync"]
    sync_files(tmp_path)
    assert order[3:] == ["sync", "sync"], "the file and its folder"
