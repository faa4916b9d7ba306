import os

from lightning_cost.sweep.job_record import JobRecord, record_times, records_dir, records_since


def test_a_record_is_read_as_it_was_saved(tmp_path):
    record = JobRecord(exit_code=2, error="macs must be > 0", pid=7)
    record.save(tmp_path, "3")
    assert records_since(tmp_path, {}) == {"3": record}


def test_only_what_ended_since_is_read(tmp_path):
    old = JobRecord(exit_code=3)
    old.save(tmp_path, "0")
    old.save(tmp_path, "1")
    before = record_times(tmp_path)
    JobRecord(exit_code=0).save(tmp_path, "1")
    path = records_dir(tmp_path) / "1.json"
    os.utime(path, ns=(0, before["1"] + 1))
    assert records_since(tmp_path, before) == {"1": JobRecord(exit_code=0)}


def test_what_is_damaged_is_left_out(tmp_path):
    JobRecord(exit_code=0).save(tmp_path, "0")
    (records_dir(tmp_path) / "1.json").write_text("{")
    (records_dir(tmp_path) / "2.json").write_text('{"code": 1}')
    assert set(records_since(tmp_path, {})) == {"0"}


def test_a_sweep_without_jobs(tmp_path):
    assert records_since(tmp_path, record_times(tmp_path)) == {}
