"""Files that are there whole or as they were before, whatever kill or power cut there is."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block ends without an error.

    It is on the disk before it takes its place: a power cut leaves the old file or the new.

    Raises:
        FileNotFoundError: If the folder of ``path`` does not exist.
        IsADirectoryError: If ``path`` is a folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(f"{folder}/report") as file:
    ...         _ = file.write(b"new")
    ...     Path(f"{folder}/report").read_bytes()
    b'new'
    """
    path = Path(path)
    require_place(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def require_place(path: Path) -> None:
    """Refuse a path at which no file can be.

    Raises:
        FileNotFoundError: If its folder does not exist.
        IsADirectoryError: If it is a folder itself.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path must lie in a folder that exists, got {str(path)!r}; make "
            f"{str(path.parent)!r} first, or choose another folder"
        )
    if path.is_dir():
        raise IsADirectoryError(
            f"path must be that of a file, got {str(path)!r}, which is a folder; add a name to it"
        )


def sync_files(folder: Path) -> None:
    """Bring what was written to the files of ``folder`` onto the disk."""
    for path in folder.iterdir():
        if path.is_file():
            _sync(path)
    _sync(folder)


def remove_drafts(folder: Path, name: str = "*") -> None:
    """Remove what :func:`whole_file` left in ``folder`` when it was killed.

    Args:
        folder: Where nobody writes now.
        name: Of the file that was to be written; by default of any.
    """
    for draft in folder.glob(f".{name}.*"):
        if draft.suffix[1:].isdigit() and draft.is_file():
            draft.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # some systems do not open directories
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems do not sync them
        return
    finally:
        os.close(descriptor)
