import shutil
import subprocess

import pytest

from lightning_cost.recipe.revision import git_revision


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_and_whether_its_files_were_changed(tmp_path):
    assert git_revision(tmp_path) == "not in git"
    git(tmp_path, "init", "-q")
    assert git_revision(tmp_path) == "not in git", "nothing is committed yet"
    (tmp_path / "network.py").write_text("width = 8")
    git(tmp_path, "add", "network.py")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "log").touch()
    assert git_revision(tmp_path) == commit
    assert git_revision(tmp_path / "runs") == commit
    (tmp_path / "network.py").write_text("width = 16")
    assert git_revision(tmp_path) == f"{commit}, with changes"


def test_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) == "not in git"
