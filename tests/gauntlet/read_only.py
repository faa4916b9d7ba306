"""A folder that this process cannot write to, also where it runs as root."""

import ctypes
import sys
from pathlib import Path

_VERSION = 0x20080522  # of the interface, see capget(2)
_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def read_only(folder: Path) -> Path:
    """Make a folder in ``folder`` that this thread has no right to write to.

    Root, whom no rights of files hold back, gives that privilege away first. Where that is not to
    be had, the folder is one that cannot be made, below a file; what was done is printed.
    """
    closed = folder / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    if sys.platform == "linux":
        _heed_rights()
    try:
        (closed / "probe").touch()
    except OSError as error:
        print(f"no disk: {error}", flush=True)
        return closed
    (folder / "file").touch()
    print("no disk: rights of files do not bite here, so it is a folder below a file", flush=True)
    return folder / "file" / "checkpoints"


def _heed_rights() -> None:
    """Give away what lets root pass over the rights of files; others have nothing to give."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; each of 64 in two halves
    if libc.capget(header, sets) == 0:
        sets[0] &= ~_OVERRIDES
        sets[1] &= ~_OVERRIDES  # which os.access goes by
        libc.capset(header, sets)
