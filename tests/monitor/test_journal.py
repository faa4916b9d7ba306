import pytest

from lightning_cost.monitor.journal import SpendJournal


@pytest.fixture
def journal(tmp_path):
    return SpendJournal(tmp_path / "deep" / SpendJournal.name_of("abc"), interval_s=5)


def test_it_is_written_at_once_and_then_every_few_seconds(journal):
    for seconds in range(12):
        journal.tick(seconds, lambda seconds=seconds: {"seconds": seconds})
        assert journal.read() == {"seconds": seconds // 5 * 5}
    assert journal.path.name == "spend-abc.json"


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
