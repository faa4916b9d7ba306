"""What is judged is known again, whatever the kill left of the file."""

import json
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.pruning.search.fitness import Judgement
from lightning_cost.pruning.search.memory import (
    SearchMemory,
    find_memory,
    fingerprint,
    remove_memory,
    shared_memory,
)
from tests.pruning.search.test_judges import task

TASKS = [task(1, 2), task(3, limits=(0.1 + 0.2,)), task(4, 5, 6)]
FOUND = [
    [Judgement(loss=1 / 3, glance=0.1 + 0.2, flops=1e15 + 1), Judgement(loss=2, glance=2, flops=3)],
    [Judgement(loss=float("inf"), glance=float("inf"), flops=0.0, is_rejected=True)],
    [Judgement(loss=-1e-300, glance=5e-324, flops=7.0)] * 3,
]


def test_judgements_come_back_bit_by_bit(tmp_path):
    path = tmp_path / "new" / "search.jsonl"
    memory = SearchMemory(path)
    assert memory.recall(TASKS[0]) is None
    memory.add(TASKS[:2], FOUND[:2])
    memory.add(TASKS[2:], FOUND[2:])
    again = SearchMemory(path)
    assert [again.recall(each) for each in TASKS] == FOUND
    assert again.num_recalled == 3
    assert again.recall(task(1, 2, limits=(9.0, 9.0))) is None, "other limits, other judgement"


def test_what_a_run_judged_is_its_own_also_after_a_kill(tmp_path):
    def memory(run):
        return find_memory([tmp_path], "x", run=run)

    first = memory("0")
    assert not first.has_own
    first.add(TASKS[:1], FOUND[:1])
    assert first.has_own
    for run, is_own in (("0", True), ("1", False)):
        again = memory(run)
        assert again.recall(TASKS[1]) is None
        assert not again.has_own, "nothing of what was asked"
        assert again.recall(TASKS[0]) == FOUND[0]
        assert again.has_own == is_own


@given(cut=st.integers(0, 2000))
def test_a_torn_file_knows_what_is_whole_and_goes_on(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("memory") / "search.jsonl"
    SearchMemory(path).add(TASKS, FOUND)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    num_whole = whole[:cut].count(b"\n")
    memory = SearchMemory(path)
    known = [memory.recall(each) for each in TASKS]
    assert known == [*FOUND[:num_whole], *[None] * (3 - num_whole)]
    memory.add(TASKS[num_whole:], FOUND[num_whole:])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", ["{}", "[]", '{"task": "x", "judgements": [{"a": 1}]}', "\x00"])
def test_a_line_of_something_else_ends_what_is_known(tmp_path, line):
    path = tmp_path / "search.jsonl"
    SearchMemory(path).add(TASKS[:1], FOUND[:1])
    good = path.read_text()
    path.write_text(f"{good}{line}\n{good}")
    assert SearchMemory(path).recall(TASKS[0]) == FOUND[0]
    assert path.read_text() == good


def test_what_cannot_be_written_is_still_known(tmp_path):
    (tmp_path / "file").touch()
    memory = SearchMemory(tmp_path / "file" / "search.jsonl")
    memory.add(TASKS, FOUND)
    assert memory.recall(TASKS[1]) == FOUND[1]
    SearchMemory().add(TASKS, FOUND)


def test_it_is_found_where_it_was_begun(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    assert find_memory([], "x").path is None
    new = find_memory(folders, "x")
    assert new.path == folders[0] / "search-x.jsonl"
    folders[1].mkdir()
    (folders[1] / "search-x.jsonl").touch()
    found = find_memory(folders, "x")
    assert found.path == folders[1] / "search-x.jsonl"
    found.close()
    found.close()
    assert not found.path.exists()
    new.close()


def test_fingerprints_tell_apart_what_differs():
    tensor = torch.arange(6.0)
    parts = [
        [tensor],
        [tensor.double()],
        [tensor.reshape(2, 3)],
        [tensor + torch.tensor([0, 0, 0, 0, 0, 1e-6])],
        [{"a": [1, 2.5]}],
        [{"a": [1, 2.25]}],
        [torch.zeros(0)],
        [torch.tensor(1.0)],
        [torch.tensor([True])],
        [torch.ones(2, 3, dtype=torch.bfloat16).t()],
    ]
    assert len({fingerprint(*part) for part in parts}) == len(parts)
    assert fingerprint(tensor.reshape(2, 3).t()) == fingerprint(tensor.reshape(2, 3).t().clone())
    json.dumps(fingerprint(*parts))


def test_who_comes_second_waits_and_finds_what_the_first_left(tmp_path):
    has_begun, may_end = threading.Event(), threading.Event()
    order = []

    def first():
        with shared_memory(tmp_path, "x") as memory:
            has_begun.set()
            may_end.wait(timeout=60)
            memory.add(TASKS[:1], FOUND[:1])
            order.append("first")

    def second():
        has_begun.wait(timeout=60)
        may_end.set()
        with shared_memory(tmp_path, "x") as memory:
            order.append(memory.recall(TASKS[0]))

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert order == ["first", FOUND[0]]


def test_other_searches_do_not_wait(tmp_path):
    with shared_memory(tmp_path, "x") as one, shared_memory(tmp_path, "y") as other:
        assert one.path != other.path


def test_what_an_earlier_process_left_is_removed_by_its_name(tmp_path):
    name = f"search-{fingerprint('of the search')}.jsonl"
    for path in (tmp_path / name, tmp_path / "precious.jsonl"):
        path.touch()
    folder = tmp_path / "below"
    folder.mkdir()
    for other in ("precious.jsonl", "../precious.jsonl", f"../{name}", "search-*.jsonl"):
        remove_memory([folder, tmp_path], other)
    assert (tmp_path / name).exists()
    remove_memory([folder, tmp_path], name)
    assert {path.name for path in tmp_path.iterdir()} == {"precious.jsonl", "below"}


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 5000,
        b"7",
        b"{}",
        b'{"task": [], "run": null, "judgements": []}',
        b'{"task": "a", "judgements": []}',
        b'{"task": "a", "run": null, "judgements": [{"loss": "1", "glance": 1, "flops": 1}]}',
        b'{"task": "a", "run": null, "judgements": [{"loss": true, "glance": 1, "flops": 1}]}',
        b'{"task": "a", "run": null, "judgements": [{"loss": 1, "glance": 1, "flops": -1}]}',
        b'{"task": "a", "run": null, "judgements": [{"loss": 1, "glance": 1, "flops": NaN}]}',
        b'{"task": "a", "run": "\xff\xff\xff", "judgements": []}',
        b'{"task": "\xff", "run": null',
    ],
)
def test_a_line_that_is_no_judgement_ends_what_is_known(line, tmp_path):
    path = tmp_path / "search.jsonl"
    SearchMemory(path).add(TASKS[:2], FOUND[:2])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    memory = SearchMemory(path)
    assert [memory.recall(each) for each in TASKS[:2]] == [FOUND[0], None]
    assert path.read_bytes() == first
    memory.add(TASKS[2:], FOUND[2:])
    assert SearchMemory(path).recall(TASKS[2]) == FOUND[2]


def test_judgements_of_another_number_of_networks_are_none(tmp_path):
    path = tmp_path / "search.jsonl"
    whole = Judgement(loss=1.0, glance=1.0, flops=1.0)
    rejected = Judgement(loss=1.0, glance=1.0, flops=1.0, is_rejected=True)
    cases = [([], False), ([whole], False), ([whole] * 4, False), ([rejected], True)]
    for found, is_known in cases:
        path.unlink(missing_ok=True)
        SearchMemory(path).add(TASKS[2:], [found])
        assert SearchMemory(path).recall(TASKS[2]) == (found if is_known else None)


def test_a_link_to_another_file_is_not_followed(tmp_path):
    other = tmp_path / "letter.txt"
    other.write_text("dear reader")
    path = tmp_path / "search-x.jsonl"
    path.symlink_to(other)
    memory = find_memory([tmp_path], "x")
    memory.add(TASKS, FOUND)
    assert memory.recall(TASKS[0]) == FOUND[0]
    memory.close()
    assert other.read_text() == "dear reader"
