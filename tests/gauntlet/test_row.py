"""Each try is counted once, and a table with anything bad in it says so."""

import pytest

from tests.gauntlet.__main__ import main
from tests.gauntlet.row import Row, read_rows
from tests.gauntlet.table import table


def test_outcomes_sum_to_the_tries():
    with pytest.raises(ValueError, match="tried must be the sum of the outcomes, got 3 and 2 in a"):
        Row(section="a", case="b", tried=3, passed=1, refused=1)


def test_a_row_is_read_as_it_was_written(tmp_path):
    row = Row(section="a", case="ä", tried=2, passed=1, hung=1, seconds=0.5, note="first\nsecond")
    (tmp_path / "rows").write_text(f"{row.to_json()}\n")
    assert read_rows(tmp_path / "rows") == [row]


def test_what_went_wrong_stands_below_the_table():
    rows = [
        Row(section="a", case="well", tried=1, passed=1),
        Row(section="b", case="badly", tried=2, passed=1, silent=1, note="0.5 for 0.25"),
    ]
    text = table(rows)
    assert text.endswith("b: badly: 0.5 for 0.25")
    assert "a: well" not in text


def test_a_section_that_is_none_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--sections", "kill", "--results", str(tmp_path / "rows")])
    assert "--sections must be of kills, " in capsys.readouterr().err
