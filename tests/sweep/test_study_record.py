import json
import math
import random

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from lightning_cost.report.study.record import Study
from lightning_cost.report.sweep.document import build_document, sweep_violations
from lightning_cost.report.sweep.rows import collect
from lightning_cost.sweep.outcome import Outcome
from lightning_cost.sweep.ownership import ALIVE
from lightning_cost.sweep.study_record import (
    MIN_TRIALS,
    describe,
    importance,
    require_sound,
    study_record,
)
from tests.sweep.spaces import space_of
from tests.sweep.test_loop import LIMIT, SPACE, loop_of, say

SPREAD = {"strong": FloatDistribution(0, 1), "weak": FloatDistribution(0, 1)}


def finished(number, seed, value=lambda params: params["strong"] + 0.05 * params["weak"]):
    drawn = random.Random(seed)
    trials = []
    for _ in range(number):
        params = {name: drawn.random() for name in SPREAD}
        trials.append(create_trial(params=params, distributions=SPREAD, value=value(params)))
    return trials


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("number", [MIN_TRIALS, 40])
def test_what_matters_is_ranked_above_what_does_not(direction, number):
    ranked = [importance(finished(number, seed), 0, direction).shares for seed in range(9)]
    assert all(sum(shares.values()) == pytest.approx(1) for shares in ranked)
    assert sum(shares["strong"] > shares["weak"] for shares in ranked) >= 8


@pytest.mark.parametrize(
    ("trials", "reason"),
    [
        ([], "it takes 10 finished trials, and there are 0"),
        (finished(MIN_TRIALS - 1, 0), "it takes 10 finished trials, and there are 9"),
        (finished(MIN_TRIALS, 0, lambda params: 1.0), "all finished trials have the same value"),
    ],
)
def test_what_cannot_be_told_is_said(trials, reason):
    found = importance(trials, 0, "maximize")
    assert (found.reason, found.shares) == (reason, {})


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_the_record_of_a_sweep(tmp_path, sampler):
    """Infeasible trials have no values, also where the sampler was given neutral ones."""
    loop = loop_of(tmp_path, sampler=sampler, num_trials=5)
    describe(loop.study, SPACE, loop.settings)
    loop.run()
    record = study_record(loop.study, tmp_path)
    assert (record.sampler, record.pruner, record.seed) == (sampler, "none", 0)
    assert record.space == {"width": "range(1,21)", "rate": "interval(0,1)"}
    assert record.limits == {"macs": LIMIT}
    assert record.objectives == {"val/accuracy": "max"}
    assert len(record.of_state("finished")) == 5
    for trial, known in zip(record.trials, loop.study.trials, strict=True):
        assert trial.settings == known.params
        assert trial.predicted == {"macs": known.params["width"]}
        is_feasible = known.params["width"] <= LIMIT
        assert trial.state == ("finished" if is_feasible else "infeasible")
        assert trial.values == ({"val/accuracy": known.params["rate"]} if is_feasible else {})
        assert bool(trial.violations) != is_feasible
        assert trial.seconds >= 0
    assert Study.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    assert sweep_violations(build_document(collect(tmp_path), record)) == []


def test_a_repeated_trial_has_no_values_of_its_own(tmp_path):
    space = space_of("width=range(1,5)", "rate=choice(0,1)")
    loop = loop_of(tmp_path, space=space, sampler="random", num_trials=8)
    loop.run()
    record = study_record(loop.study, tmp_path)
    (first, *_) = repeated = record.of_state("repeated")
    assert first.settings == record.trials[int(first.reason.removeprefix("as trial "))].settings
    assert all(trial.values == {} and trial.reached is None for trial in repeated)
    assert len(record.of_state("finished")) == 8
    assert sweep_violations(build_document(collect(tmp_path), record)) == []


def test_how_runs_end(tmp_path):
    """A limit that was broken after training, a stop in training, a failure, an interruption."""
    outcomes = [
        Outcome(state="finished", values=(0.5,), constraints={"macs": 0.25, "latency_ms": -0.1}),
        Outcome(state="pruned", reason="hopeless"),
        Outcome(state="failed", reason="no memory"),
    ]

    class Runs:
        def __init__(self, study):
            self.study, self.left = study, list(outcomes)

        def __call__(self, jobs):
            for job in jobs:
                trial = optuna.trial.Trial(self.study, self.study.trials[job.number]._trial_id)
                trial.report(0.25, 3)
                if not self.left:
                    raise KeyboardInterrupt
                say(self.study, job.number, self.left.pop(0))
            return [None for _ in jobs]

    loop = loop_of(tmp_path, make=Runs, sampler="random", num_trials=4)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    record = study_record(loop.study, tmp_path)
    trained = [trial for trial in record.trials if trial.state != "infeasible"]
    assert [trial.state for trial in trained] == ["finished", "pruned", "failed", "waiting"]
    assert trained[0].violations == {"macs": 0.25}
    assert [trial.reason for trial in trained[1:3]] == ["hopeless", "no memory"]
    assert all(trial.reached == 0.25 for trial in trained)
    assert all(trial.run_dir is None for trial in trained)


def test_a_study_that_no_sweep_wrote(tmp_path):
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trial(create_trial(values=[1.0, 2.0]))
    study.add_trial(create_trial(state=TrialState.FAIL, values=None))
    study.add_trial(
        create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.5, 2: math.nan})
    )
    record = study_record(study, tmp_path)
    assert record.objectives == {"objective 0": "min", "objective 1": "max"}
    assert [trial.state for trial in record.trials] == ["finished", "failed", "pruned"]
    assert record.trials[0].values == {"objective 0": 1.0, "objective 1": 2.0}
    assert record.trials[2].reached is None
    assert record.sampler is None


@pytest.mark.parametrize(
    ("name", "told", "message"),
    [
        ("starts", "many", "starts must be a whole number"),
        ("stop_reason", math.inf, "stop_reason must be a text"),
        (f"{ALIVE}x", [1.0], "must be a finite number"),
        ("expected_flops", {"least": 0.0, "most": 0.0}, "expected_flops must be > 0"),
        ("owner", 7, "owner must be a text"),
        ("outcome", {"state": "finished"}, "KeyError: 'values'"),
        ("outcome", {"state": "x"}, "state must be one of finished, pruned"),
    ],
)
def test_a_sweep_does_not_go_on_with_damaged_records(tmp_path, name, told, message):
    loop = loop_of(tmp_path, num_trials=2)
    loop.run()
    require_sound(loop.study, "here", tmp_path)
    if name in ("starts", "stop_reason", f"{ALIVE}x"):
        loop.study.set_user_attr(name, told)
    else:
        loop.study.enqueue_trial({"width": 1, "rate": 0.5}, user_attrs={name: told})
    with pytest.raises(ValueError, match=f"the study 'sweep' in 'here' must be .*{message}"):
        require_sound(loop.study, "here", tmp_path)
