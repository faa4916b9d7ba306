"""What is told of trials is what another process finds."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import GridSampler
from optuna.trial import TrialState

from lightning_cost.sweep.trials import REASON, REPEATS, VIOLATIONS, Trials

WIDTH = {"width": CategoricalDistribution([1, 2])}


@pytest.fixture
def study():
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def ask(study, width, **attrs):
    study.enqueue_trial({"width": width})
    trial = study.ask(WIDTH)
    for name, value in attrs.items():
        trial.set_user_attr(name, value)
    return trial


def test_what_counts_as_run(study):
    trials = Trials(study)
    told = [
        (TrialState.COMPLETE, {}),
        (TrialState.COMPLETE, {VIOLATIONS: ["macs"]}),
        (TrialState.COMPLETE, {REPEATS: 0}),
        (TrialState.FAIL, {}),
        (TrialState.PRUNED, {VIOLATIONS: ["macs"]}),
    ]
    for state, attrs in told:
        is_complete = state is TrialState.COMPLETE
        trials.tell(
            ask(study, 1, **attrs).number, state, values=[0.5] if is_complete else None, reason="so"
        )
    ask(study, 1)
    study.enqueue_trial({"width": 1})
    assert trials.num_run == 3, "complete, failed, running"
    assert [trial.number for trial in trials.finished()] == [0, 2]
    assert [trial.number for trial in trials.all(TrialState.FAIL, TrialState.PRUNED)] == [3, 4]
    assert len(trials.all()) == 7
    assert all(trial.user_attrs[REASON] == "so" for trial in trials.all()[:5])


def test_the_first_that_was_trained_alike(study):
    trials = Trials(study)
    trials.tell(ask(study, 2).number, TrialState.FAIL)
    trials.tell(ask(study, 2, **{VIOLATIONS: ["macs"]}).number, TrialState.PRUNED)
    asked = ask(study, 2)
    assert trials.like(asked) is None
    trials.tell(ask(study, 1).number, TrialState.COMPLETE, values=[0.1])
    assert trials.like(asked) is None
    for _ in range(2):
        trials.tell(ask(study, 2).number, TrialState.COMPLETE, values=[0.2])
    assert trials.like(asked).number == 4


def test_what_is_trained_now_is_alike_for_those_asked_later(study):
    trials, first, second = Trials(study), ask(study, 2), ask(study, 2)
    assert trials.like(first) is None
    assert trials.like(second).number == first.number
    trials.queue(trials.all()[first.number])
    assert trials.like(second) is None
    trials.tell(ask(study, 2).number, TrialState.FAIL)
    assert trials.like(second) is None


def test_a_repetition_is_no_failure_of_its_own(study):
    trials = Trials(study)
    for attrs in ({}, {REPEATS: 0}, {REPEATS: None}):
        trials.tell(ask(study, 1, **attrs).number, TrialState.FAIL)
    assert [trial.number for trial in trials.failed()] == [0, 2]
    assert trials.num_run == 2


def test_constraints_are_told_once(study):
    trials, number = Trials(study), ask(study, 1).number
    trials.constrain(number, {"macs": 0.5})
    trials.constrain(number, {"macs": 0.9, "params": -0.1})
    assert study.trials[number].constraints == {"macs": 0.5, "params": -0.1}


def test_a_queued_trial_is_asked_for_again(study):
    asked = ask(study, 2)
    trials = Trials(study)
    trials.queue(trials.all()[asked.number])
    again = study.ask(WIDTH)
    assert (again.number, again.params) == (asked.number, asked.params)


def test_the_last_point_of_a_grid_is_told_like_any_other():
    study = optuna.create_study(sampler=GridSampler({"width": [1]}))
    trials, number = Trials(study), study.ask(WIDTH).number
    trials.tell(number, TrialState.COMPLETE, values=[0.5])
    assert study.trials[number].value == 0.5
