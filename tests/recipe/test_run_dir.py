import os

import pytest
from pytorch_lightning.utilities import rank_zero_only

from lightning_cost.recipe.run_dir import (
    CONFIG_NAME,
    FINAL_NAME,
    INTERRUPTED_NAME,
    LAST_NAME,
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


def _left(folder, *names):
    for seconds, name in enumerate(names):
        (folder / name).touch()
        os.utime(folder / name, (1000 + seconds, 1000 + seconds))
    return folder


@pytest.mark.parametrize(
    "names", [[LAST_NAME], [LAST_NAME, INTERRUPTED_NAME], [INTERRUPTED_NAME, LAST_NAME]]
)
def test_the_latest_checkpoint_is_resumed(tmp_path, names):
    assert checkpoint_to_resume(_left(tmp_path, *names)) == tmp_path / names[-1]


@pytest.mark.parametrize(
    ("names", "found"), [([], "no checkpoint"), ([LAST_NAME, FINAL_NAME], "a finished run")]
)
def test_nothing_to_resume(tmp_path, names, found):
    message = rf"must be the directory of an interrupted run, got '.*' with {found}; it must hold"
    with pytest.raises(ValueError, match=message):
        checkpoint_to_resume(_left(tmp_path, *names))


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
    (run_dir / CONFIG_NAME).touch()
    (run_dir / "logs").mkdir()
    empty_untrained(run_dir)
    assert create_run_dir(run_dir) == run_dir


def test_a_run_with_a_checkpoint_is_left_as_it_is(tmp_path):
    run_dir = create_run_dir(tmp_path / "run")
    for name in (CONFIG_NAME, "last.ckpt"):
        (run_dir / name).touch()
    empty_untrained(run_dir)
    assert {path.name for path in run_dir.iterdir()} == {CONFIG_NAME, "last.ckpt"}
