import re

from lightning_cost.report.files import save_report
from lightning_cost.report.study.trials import trials
from lightning_cost.report.sweep.rows import collect


def test_every_trial_says_what_became_of_it(study_dir, make_study):
    rows = {row.run: row for row in collect(study_dir).rows}
    found = trials(make_study(), rows, ["0"])
    outcomes = re.findall(r'data-label="outcome"><div>(.*?)</div>', found)
    assert outcomes == [
        "finished; on the front",
        "pruned; hopeless model.width",
        "failed; model.width",
        "running",
        "waiting",
        "infeasible; latency 4.00× the limit",
    ]
    assert found.count("<a ") == 1
    assert '<a href="./0/report.html">0</a>' in found
    assert "1 infeasible, never trained" in found
    assert "when stopped" in found


def test_a_finished_trial_whose_run_is_elsewhere(make_study):
    found = trials(make_study(), {}, [])
    assert "finished; its report is not here" in found
    assert "<a " not in found


def test_a_finished_trial_whose_file_computes_something_else(
    study_dir, make_study, make_report, unfaithful
):
    save_report(make_report(parity=unfaithful), study_dir / "0")
    rows = {row.run: row for row in collect(study_dir).rows}
    said = "finished; on the front; the deployed file does not compute what was trained"
    assert said in trials(make_study(), rows, ["0"])
