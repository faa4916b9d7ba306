"""Which revision of the user's own code a run was made with."""

import subprocess
from pathlib import Path


def git_revision(folder: Path) -> str:
    """The commit that ``folder`` is at, and whether files that git knows were changed since.

    >>> git_revision(Path("/"))
    'not in git'
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return "not in git"
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}, with changes" if changed else commit


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
