import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def results_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    yield importlib.import_module("results_file")
    sys.modules.pop("results_file")


class TestRows:
    def test_runs_what_is_missing_and_saves_it(self, results_file, tmp_path):
        path = tmp_path / "folder" / "seed0.jsonl"
        results = results_file.ResultsFile("any", quick=True)
        row = results_file.Rows(path, results).get("case", "one", lambda: {"bytes": 3})
        assert row == {"case": "case", "method": "one", "bytes": 3, **results.context}
        assert [json.loads(line) for line in path.read_text().splitlines()] == [row]

    def test_does_not_run_again_what_is_there(self, results_file, tmp_path):
        path = tmp_path / "seed0.jsonl"
        results = results_file.ResultsFile("any", quick=True)
        first = results_file.Rows(path, results).get("case", "one", lambda: {"bytes": 3})
        later = results_file.Rows(path, results)
        assert later.get("case", "one", lambda: pytest.fail("ran again")) == first
        later.get("other case", "one", lambda: {"bytes": 4})
        assert len(path.read_text().splitlines()) == 2

    def test_what_fails_is_not_saved(self, results_file, tmp_path):
        path = tmp_path / "seed0.jsonl"
        rows = results_file.Rows(path, results_file.ResultsFile("any", quick=True))
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            rows.get("case", "one", lambda: {"bytes": 1 / 0})
        assert not path.exists()

    def test_keep_the_day_and_the_machine_that_they_are_of(
        self, results_file, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.setattr(results_file, "FOLDER", tmp_path)
        results = results_file.ResultsFile("any", quick=False)
        results.add({"case": "old", "date": "2020-02-02", "cpu": "another"})
        results.add({"case": "new"})
        results.save(["a table"])
        capsys.readouterr()
        lines = (tmp_path / "any" / "results.jsonl").read_text().splitlines()
        old, new = map(json.loads, lines)
        assert (old["date"], old["cpu"]) == ("2020-02-02", "another")
        assert new["date"] == results.context["date"] != old["date"]
