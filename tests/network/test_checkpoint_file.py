import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.network.checkpoint_file import WholeCheckpoints, damage_of


def content(number):
    weights = torch.arange(500.0) + number
    return {"epoch": number, "state_dict": {"weight": weights, "steps": torch.tensor(number)}}


def is_equal(found, number):
    given = content(number)
    return found["epoch"] == number and all(
        torch.equal(found["state_dict"][name], value) for name, value in given["state_dict"].items()
    )


def loaded(path):
    return torch.load(path, weights_only=True)


def test_the_one_before_is_kept_under_its_name(tmp_path):
    io = WholeCheckpoints({"last.ckpt": "previous.ckpt"})
    for number in range(3):
        io.save_checkpoint(content(number), tmp_path / "deep" / "last.ckpt")
        io.save_checkpoint(content(number), tmp_path / "deep" / "other.ckpt")
    names = {path.name for path in (tmp_path / "deep").iterdir()}
    assert names == {"last.ckpt", "previous.ckpt", "other.ckpt"}
    assert is_equal(loaded(tmp_path / "deep" / "last.ckpt"), 2)
    assert is_equal(loaded(tmp_path / "deep" / "previous.ckpt"), 1)


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path):
    begun = [".last.ckpt.1", ".previous.ckpt.2", ".other.ckpt.3", ".last.ckpt.mine"]
    for name in begun:
        (tmp_path / name).write_bytes(b"half")
    WholeCheckpoints({"last.ckpt": "previous.ckpt"}).save_checkpoint(
        content(0), tmp_path / "last.ckpt"
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"last.ckpt", ".other.ckpt.3", ".last.ckpt.mine"}


def test_without_hard_links(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refused)
    io = WholeCheckpoints({"last.ckpt": "previous.ckpt"})
    for number in range(2):
        io.save_checkpoint(content(number), tmp_path / "last.ckpt")
    assert is_equal(loaded(tmp_path / "previous.ckpt"), 0)


def test_an_error_in_the_middle_leaves_both_as_they_were(tmp_path):
    io = WholeCheckpoints({"last.ckpt": "previous.ckpt"})
    for number in range(2):
        io.save_checkpoint(content(number), tmp_path / "last.ckpt")
    with pytest.raises(Exception, match="pickle"):
        io.save_checkpoint({"weights": torch.ones(9), "bad": lambda: 0}, tmp_path / "last.ckpt")
    assert is_equal(loaded(tmp_path / "last.ckpt"), 1)
    assert is_equal(loaded(tmp_path / "previous.ckpt"), 0)
    assert len(list(tmp_path.iterdir())) == 2


def written():
    buffer = io.BytesIO()
    torch.save(content(3), buffer)
    return buffer.getvalue()


WRITTEN = written()


def test_what_is_whole_has_no_damage(tmp_path):
    (tmp_path / "file").write_bytes(WRITTEN)
    assert damage_of(tmp_path / "file") is None


@pytest.mark.parametrize(("found", "words"), [(b"", "cut off"), (None, "No such file")])
def test_what_is_no_checkpoint(tmp_path, found, words):
    if found is not None:
        (tmp_path / "file").write_bytes(found)
    assert words in damage_of(tmp_path / "file")


@given(num_kept=st.integers(0, len(WRITTEN) - 1))
def test_what_is_cut_off_is_damaged(tmp_path_factory, num_kept):
    path = tmp_path_factory.mktemp("cut") / "file"
    path.write_bytes(WRITTEN[:num_kept])
    assert damage_of(path) is not None


@given(
    start=st.integers(0, len(WRITTEN) - 1),
    change=st.binary(min_size=1, max_size=64)
    | st.integers(0, 7).map(lambda bit: bytes([1 << bit])),
)
def test_what_has_no_damage_loads_as_it_was_written(tmp_path_factory, start, change):
    """Bytes that were changed are found, or are none that matter."""
    path = tmp_path_factory.mktemp("changed") / "file"
    bits = zip(WRITTEN[start : start + len(change)], change, strict=False)
    changed = bytes(old ^ new for old, new in bits)
    path.write_bytes(WRITTEN[:start] + changed + WRITTEN[start + len(changed) :])
    if damage_of(path) is None:
        assert is_equal(loaded(path), 3)
