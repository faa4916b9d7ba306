from dataclasses import replace

from lightning_cost.report.study.importance import importance
from lightning_cost.report.study.record import Importance


def test_parameters_come_by_their_share(make_study):
    found = importance(make_study("width"))
    assert found.index("width") < found.index("rate")
    assert "80.0 %" in found


def test_why_nothing_is_known_is_said(make_study):
    unknown = {"val_acc": Importance(reason="it takes 10 finished trials, and there are 3")}
    found = importance(replace(make_study(), importances=unknown))
    assert "Not known: it takes 10 finished trials, and there are 3." in found
