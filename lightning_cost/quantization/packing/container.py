"""A file of a header and a body that is refused unless every bit of it is as it was written."""

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

from lightning_cost.network.whole_file import whole_file

_MAGIC = b"LCPACKED"
_VERSION = 1
_LARGEST_HEADER = 2**24
# magic, version, bytes of the header as stored and as written out, bytes of the body
_FRONT = struct.Struct("<8sBIIQ")
_DIGEST_BYTES = 16
FRONT_BYTES = _FRONT.size + _DIGEST_BYTES
"""Bytes of a file besides its header and its body."""


def write_container(path: Path, header: dict[str, Any], body: bytes) -> None:
    """Write both to ``path`` in one step, so that a crash leaves the old file or the new.

    Args:
        path: The file to write.
        header: JSON-compatible; stored compressed.
        body: Stored as it is.

    Raises:
        OSError: If ``path`` cannot be written.
    """
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    stored = zlib.compress(text, 9)
    front = _FRONT.pack(_MAGIC, _VERSION, len(stored), len(text), len(body))
    with whole_file(path) as file:
        file.write(b"".join([front, _digest(front, stored, body), stored, body]))


def read_container(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the body of a file that :func:`write_container` wrote.

    Nothing is read before the lengths in the file agree with the file's own, nor unpacked before
    the checksum does.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is another one, of a later version, cut off or changed.
    """
    if path.is_dir():
        raise _refused(path, "a folder", "give a file that save_packed wrote")
    if not path.exists():
        raise FileNotFoundError(
            f"path must be a file that save_packed wrote, got {str(path)!r}, where there is none; "
            "give the path that save_packed returned"
        )
    size = path.stat().st_size
    with path.open("rb") as file:
        front = file.read(FRONT_BYTES)
        if not front.startswith(_MAGIC[: len(front)]) or not front:
            raise _refused(path, "another kind of file", "give one that save_packed wrote")
        if len(front) < FRONT_BYTES:
            raise _refused(path, f"one cut off after {size} bytes")
        _, version, num_stored, num_text, num_body = _FRONT.unpack(front[: _FRONT.size])
        expected = FRONT_BYTES + num_stored + num_body
        if size != expected:
            state = "cut off" if size < expected else "with more at its end"
            raise _refused(path, f"one {state}: {size} bytes in place of {expected}")
        stored, body = file.read(num_stored), file.read(num_body)
    if _digest(front[: _FRONT.size], stored, body) != front[_FRONT.size :]:
        raise _refused(path, "one that was changed: its checksum is another")
    if version != _VERSION:
        remedy = "read it with the version of lightning-cost that wrote it"
        raise _refused(path, f"version {version}", remedy)
    return _header(path, stored, num_text), body


def _header(path: Path, stored: bytes, num_text: int) -> dict[str, Any]:
    if num_text > _LARGEST_HEADER:
        raise _refused(path, f"a header of {num_text} bytes")
    try:
        # never more than it says, whatever the compressed bytes would become
        text = zlib.decompressobj().decompress(stored, num_text + 1)
        header = json.loads(text) if len(text) == num_text else None
    except (ValueError, zlib.error, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise _refused(path, "one whose header cannot be read")
    return header


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _refused(path: Path, found: str, remedy: str = "copy it again, or pack it anew") -> ValueError:
    return ValueError(f"path must be a whole packed file, got {found} at {str(path)!r}; {remedy}")
