import json

import pytest

from lightning_cost.report.files import read_report, save_report


def test_what_was_saved_is_read_back(tmp_path, report):
    path = save_report(report, tmp_path)
    assert path == tmp_path / "report.json"
    assert read_report(tmp_path) == report
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_absent_report(tmp_path):
    with pytest.raises(ValueError, match=r"run_dir must be a run directory with a report\.json"):
        read_report(tmp_path)


@pytest.mark.parametrize("num_kept", [0, 1, 40, -20])
def test_truncated_report(run_dir, num_kept):
    path = run_dir / "report.json"
    path.write_bytes(path.read_bytes()[:num_kept])
    with pytest.raises(ValueError, match="whole JSON document, got text that ends or breaks"):
        read_report(run_dir)


def test_report_that_is_not_text(run_dir):
    (run_dir / "report.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match="must be a whole JSON document"):
        read_report(run_dir)


@pytest.mark.parametrize("content", [[], 3, None, {"schema_version": 99}, {}])
def test_report_of_another_version(run_dir, content):
    (run_dir / "report.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"must have schema_version 5, got (None|99); read it"):
        read_report(run_dir)


def test_report_that_breaks_the_schema(run_dir, report):
    del report["spend"]["usd"]
    (run_dir / "report.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"report\.spend must have 'usd'"):
        read_report(run_dir)


def test_a_step_that_leaves_a_group_out(run_dir, report):
    assert report["pruning"]["steps"], "there is something to damage"
    report["pruning"]["steps"][0]["kept"].pop()
    (run_dir / "report.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"steps\[0\]\.kept must have a number for each of the"):
        read_report(run_dir)


def test_a_report_that_cannot_be_written_leaves_the_old_one(run_dir, report):
    before = (run_dir / "report.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_report(report | {"seed": float("nan")}, run_dir)
    assert (run_dir / "report.json").read_bytes() == before
