import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_cost.quantization.packing import container
from lightning_cost.quantization.packing.container import (
    FRONT_BYTES,
    read_container,
    write_container,
)

HEADER = {"name": "ä", "sizes": [1, 2]}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "file"
    write_container(path, HEADER, b"body")
    return path


def test_read_is_written(written):
    assert read_container(written) == (HEADER, b"body")
    assert [path.name for path in written.parent.iterdir()] == ["file"]


def test_any_flipped_bit_is_refused(written):
    content = written.read_bytes()
    for position in range(8 * len(content)):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        written.write_bytes(changed)
        with pytest.raises(ValueError, match=r"path must be a whole packed file, got .* at '.*'; "):
            read_container(written)


def test_cut_off_at_any_byte(written):
    content = written.read_bytes()
    for size in range(len(content)):
        written.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"whole packed file, got (one cut off|another kind)"):
            read_container(written)


def test_more_at_the_end(written):
    written.write_bytes(written.read_bytes() + b"!")
    with pytest.raises(ValueError, match=r"one with more at its end: \d+ bytes in place of \d+"):
        read_container(written)


@settings(max_examples=50)
@given(content=st.binary(max_size=80))
def test_other_files(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("other") / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"packed file, got (another kind|one cut off after)"):
        read_container(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be a file .*none', where .*; give the"):
        read_container(tmp_path / "none")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(
        ValueError, match=r"path must be a whole packed file, got a folder at .*; g"
    ):
        read_container(tmp_path)


def test_what_cannot_be_written_is_told_by_the_name_that_was_given(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got '.*/none/pk\.bin'; make '.*/none' first"):
        write_container(tmp_path / "none" / "pk.bin", HEADER, b"")
    with pytest.raises(
        IsADirectoryError, match=r"path must be that of a file, .* is a folder; add"
    ):
        write_container(tmp_path, HEADER, b"")
    assert not list(tmp_path.iterdir())


def forged(path, stored, num_text, *, version=1, body=b""):
    """A file whose checksum is right, of whatever lengths."""
    front = struct.pack("<8sBIIQ", b"LCPACKED", version, len(stored), num_text, len(body))
    path.write_bytes(front + container._digest(front, stored, body) + stored + body)


def test_later_version(tmp_path):
    forged(tmp_path / "file", b"", 0, version=2)
    with pytest.raises(ValueError, match=r"got version 2 .* the version of lightning-cost that"):
        read_container(tmp_path / "file")


@pytest.mark.parametrize(
    ("stored", "num_text"),
    [
        (zlib.compress(bytes(10**6)), 10),
        (zlib.compress(b"{}"), 3),
        (zlib.compress(b"[]"), 2),
        (zlib.compress(b"{,"), 2),
        (zlib.compress(b"[" * 100_000), 100_000),
        (b"not compressed", 5),
    ],
)
def test_header_that_cannot_be_read(tmp_path, stored, num_text):
    forged(tmp_path / "file", stored, num_text)
    with pytest.raises(ValueError, match="got one whose header cannot be read"):
        read_container(tmp_path / "file")


def test_header_is_bounded_before_it_is_unpacked(tmp_path):
    forged(tmp_path / "file", zlib.compress(b"{}"), 2**25)
    with pytest.raises(ValueError, match="got a header of 33554432 bytes"):
        read_container(tmp_path / "file")


def test_lengths_are_checked_before_anything_is_read(tmp_path):
    front = struct.pack("<8sBIIQ", b"LCPACKED", 1, 0, 0, 2**60)
    (tmp_path / "file").write_bytes(front + bytes(16))
    with pytest.raises(ValueError, match=r"cut off: 41 bytes in place of 1152921504606847017"):
        read_container(tmp_path / "file")


def test_size(written):
    header = zlib.compress(json.dumps(HEADER, separators=(",", ":"), ensure_ascii=False).encode())
    assert written.stat().st_size == FRONT_BYTES + len(header) + 4
