import pytest

from lightning_cost.monitor.journal import SpendJournal, find_journal


@pytest.fixture
def journal(tmp_path):
    return SpendJournal(tmp_path / "deep" / "spend-abc.json", interval_s=5)


def test_it_is_written_at_once_and_then_every_few_seconds(journal):
    for seconds in range(12):
        journal.tick(seconds, lambda seconds=seconds: {"seconds": seconds})
        assert journal.read() == {"seconds": seconds // 5 * 5}


def test_it_ends_with_the_run(journal):
    assert journal.read() is None
    journal.write({"seconds": 1})
    journal.close()
    journal.close()
    assert not list(journal.path.parent.iterdir())


def test_a_file_that_is_cut_off_is_nothing(journal):
    journal.write({"seconds": 1})
    journal.path.write_text('{"seconds": ')
    assert journal.read() is None


def test_a_folder_that_cannot_be_made_does_not_stop_the_training(tmp_path):
    (tmp_path / "file").write_text("")
    journal = SpendJournal(tmp_path / "file" / "spend.json")
    journal.tick(0.0, lambda: {"seconds": 1})
    journal.close()
    assert journal.read() is None


def test_it_stays_where_it_was_begun(tmp_path):
    first, second, third = (tmp_path / name for name in "abc")
    begun = find_journal("x", [first])
    assert begun.path == first / "spend-x.json"
    assert find_journal("x", [second, third]).path.parent == second
    begun.write({})
    assert find_journal("x", [second, third], str(begun.path)).path == begun.path
    copied = find_journal("x", [second])
    copied.write({})
    assert find_journal("x", [second, third], str(begun.path)).path == copied.path


def test_what_leaves_no_checkpoint_has_none(tmp_path):
    assert find_journal("x", []) is None
    assert find_journal("x", [], str(tmp_path / "spend-x.json")) is None


def test_a_checkpoint_cannot_lead_the_journal_elsewhere(tmp_path):
    outside, run = tmp_path / "precious.json", tmp_path / "run"
    outside.write_text("{}")
    for recorded in (str(outside), "../precious.json", "/", "", 7):
        journal = find_journal("a1", [run], recorded)
        assert journal.path == run / "spend-a1.json"
    elsewhere = tmp_path / "spend-a1.json"
    elsewhere.write_text("{}")
    assert find_journal("a1", [run], str(elsewhere)).path == elsewhere
    for run_id in ("../precious", "", "/", "a/b", "x" * 65):
        with pytest.raises(ValueError, match="run_id must be letters and digits, got"):
            find_journal(run_id, [run])


@pytest.mark.parametrize(
    "text",
    ["[1]", "7", "NaN", '{"seconds": -1}', '{"seconds": true}', '{"seconds": "9"}', "[" * 10_000],
)
def test_a_journal_that_makes_no_sense_counts_for_nothing(text, tmp_path):
    path = tmp_path / "spend-a1.json"
    path.write_text(text)
    assert SpendJournal(path).read() is None


def test_a_checkpoint_names_no_other_file(tmp_path):
    (tmp_path / "precious").write_text("{}")
    assert find_journal("x", [tmp_path / "a"], str(tmp_path / "precious")).path.parent.name == "a"
