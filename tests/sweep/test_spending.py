"""The sweep's training budget, with runs that only say what they used."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from lightning_cost.sweep.loop import STOP_REASON, StudyLoop
from lightning_cost.sweep.outcome import Outcome
from lightning_cost.sweep.settings import SweepSettings
from lightning_cost.sweep.spending import (
    EXPECTED,
    SPENT,
    ExpectedFlops,
    first_exceeded,
    first_without_room,
    used_by,
    used_by_all,
)
from lightning_cost.sweep.storage import open_study, url_of
from lightning_cost.sweep.study_record import describe, study_record
from tests.sweep.test_loop import SPACE, judge, say

AMOUNTS = st.dictionaries(st.sampled_from(["flops", "wall_clock_s"]), st.integers(0, 100))


def trial_of(state, expected=None, **runs):
    attrs = {SPENT + run: amounts for run, amounts in runs.items()}
    if expected is not None:
        attrs[EXPECTED] = ExpectedFlops(least=expected / 2, most=expected).to_dict()
    value = 0.5 if state is TrialState.COMPLETE else None
    return create_trial(state=state, value=value, user_attrs=attrs)


def numbered(*trials):
    for number, trial in enumerate(trials):
        trial.number = number
    return trials


@given(st.lists(st.tuples(st.sampled_from(["COMPLETE", "FAIL", "PRUNED"]), AMOUNTS, AMOUNTS)))
def test_what_all_runs_used_is_the_sum_however_they_ended(rows):
    trials = [trial_of(TrialState[state], a=one, b=other) for state, one, other in rows]
    for name in ("flops", "wall_clock_s"):
        told = [amounts[name] for _, *both in rows for amounts in both if name in amounts]
        assert used_by_all(trials).get(name, 0) == sum(told)


@given(AMOUNTS, AMOUNTS, st.integers(1, 300))
def test_a_limit_is_exceeded_where_the_sum_is_above_it(used, more, limit):
    now = used.get("flops", 0)
    expected = now >= limit or now + more.get("flops", 0) > limit
    assert (first_exceeded({"flops": limit}, used, more) is not None) == expected


def test_a_run_is_expected_to_use_what_its_plan_says_at_the_highest_rate():
    done = [
        trial_of(TrialState.COMPLETE, 100, a={"flops": 80, "wall_clock_s": 10}),
        trial_of(TrialState.COMPLETE, 200, a={"flops": 100, "wall_clock_s": 40}),
        trial_of(TrialState.FAIL, 100, a={"flops": 50, "wall_clock_s": 90}),
    ]
    trials = numbered(*done, trial_of(TrialState.RUNNING, 300))
    # 140 s are used, and 300 FLOPs at 1 s for each 5 of them are 60 s
    assert first_without_room({"wall_clock_s": 200.0}, trials, 3) is None
    said = first_without_room({"wall_clock_s": 199.9}, trials, 3)
    assert said.startswith("training budget of the sweep spent: wall_clock_s 2 min 20 s of")
    assert "another run of about wall_clock_s 1 min 0 s would exceed" in said
    # 230 FLOPs are used, and 300 at 0.8 are 240
    assert first_without_room({"flops": 470.0}, trials, 3) is None
    assert "flops 240 FLOPs" in first_without_room({"flops": 469.0}, trials, 3)


def test_runs_that_go_on_now_keep_what_they_are_expected_to_use():
    done = trial_of(TrialState.COMPLETE, 100, a={"flops": 100})
    running = trial_of(TrialState.RUNNING, 100, a={"flops": 30})
    trials = numbered(done, running, trial_of(TrialState.RUNNING, 100))
    assert first_without_room({"flops": 300.0}, trials, 2) is None
    assert first_without_room({"flops": 299.0}, trials, 2) is not None


def test_before_a_run_has_finished_its_least_compute_alone_is_known():
    trials = numbered(trial_of(TrialState.RUNNING, 100))
    assert first_without_room({"flops": 50.0, "wall_clock_s": 1e-9}, trials, 0) is None
    assert "flops 50 FLOPs" in first_without_room({"flops": 49.0}, trials, 0)
    assert first_without_room({"flops": 1.0}, numbered(trial_of(TrialState.RUNNING)), 0) is None


class Spending:
    """Runs that take as many FLOPs as they are wide, and end in one of several ways."""

    def __init__(self, study, states):
        self.study, self.states = study, states
        self.started = []

    def __call__(self, jobs):
        for job in jobs:
            trial = self.study._storage.get_trial(
                self.study.get_trials(deepcopy=False)[job.number]._trial_id
            )
            self.study._storage.set_trial_user_attr(
                trial._trial_id, f"{SPENT}{len(self.started)}", {"flops": job.settings["width"]}
            )
            self.started.append(job.number)
            state = self.states.pop(0) if self.states else "finished"
            values = (job.settings["rate"],) if state == "finished" else ()
            say(self.study, job.number, Outcome(state=state, values=values, reason="so it ended"))
        return [None for _ in jobs]


def loop_of(folder, limit, *, states=(), num_jobs=1, known=True):
    settings = SweepSettings.of(
        {"num_trials": 50, "training": {"flops": limit}, "sampler": "random", "num_jobs": num_jobs}
    )
    study = open_study(url_of(None, folder), SPACE, settings)
    describe(study, SPACE, settings)

    def expect(settings):
        return ExpectedFlops(least=settings["width"], most=settings["width"])

    return StudyLoop(
        study=study,
        space=SPACE,
        settings=settings,
        sweep_dir=folder,
        judge=judge,
        launch=Spending(study, list(states)),
        expect=expect if known else None,
    )


@pytest.mark.parametrize("num_jobs", [1, 3])
def test_a_sweep_ends_before_its_budget_is_broken(tmp_path, capsys, num_jobs):
    loop = loop_of(tmp_path, 40, num_jobs=num_jobs, states=["failed", "finished"])
    loop.run()
    trials = loop.study.get_trials()
    used = used_by_all(trials)["flops"]
    (waiting,) = [trial for trial in trials if trial.state is TrialState.WAITING]
    # the one that waits, and nothing less, would have broken it
    assert used <= 40 < used + waiting.params["width"]
    assert not used_by(waiting)
    record = study_record(loop.study, tmp_path)
    assert record.training == {"flops": 40}
    assert record.used == {"flops": used}
    assert record.stop_reason.startswith("training budget of the sweep spent: flops")
    assert record.stop_reason in capsys.readouterr().out


def test_what_a_sweep_used_never_falls_and_more_room_is_used_by_what_waited(tmp_path):
    used, started = [], []
    for limit in (20, 20, 60, 100):
        loop = loop_of(tmp_path, limit)
        waiting = [t.number for t in loop.study.trials if t.state is TrialState.WAITING]
        loop.run()
        used.append(used_by_all(loop.study.get_trials())["flops"])
        if waiting and loop.launch.started:
            assert loop.launch.started[0] == waiting[0]
        started += loop.launch.started
        assert used[-1] <= limit
    assert used == sorted(used)
    assert used[0] == used[1]
    assert len(started) == len(set(started))


def test_without_a_forecast_it_ends_when_it_is_spent(tmp_path):
    loop = loop_of(tmp_path, 25, known=False)
    loop.run()
    used = [used_by(trial)["flops"] for trial in loop.study.get_trials() if used_by(trial)]
    assert sum(used[:-1]) < 25 <= sum(used)
    assert "which" not in loop.study.user_attrs[STOP_REASON]


def test_a_run_that_was_stopped_goes_on_where_there_is_more(tmp_path):
    loop = loop_of(tmp_path, 1, states=["stopped"], known=False)
    with pytest.raises(ValueError, match="must have room for one run, got so it ended"):
        loop.run()
    (number,) = loop.launch.started
    assert loop.study.trials[number].state is TrialState.WAITING
    more = loop_of(tmp_path, 100, known=False)
    more.run()
    assert more.launch.started[0] == number
    assert more.study.trials[number].state is TrialState.COMPLETE


class Lost(Spending):
    """Runs that never come to say how they ended."""

    def __call__(self, jobs):
        return [RuntimeError("no disk") for _ in jobs]


def killed(loop, *, states=None):
    """Start a sweep that is killed: in a run, or once its runs have ended as ``states``."""

    def launch(jobs):
        if states is not None:
            Spending(loop.study, states)(jobs)
        numbers.extend(job.number for job in jobs)
        raise KeyboardInterrupt

    numbers = []
    loop.launch, loop._give_back = launch, lambda: None
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    return numbers


def stopped_by(folder):
    """The number of a trial that the sweep's budget stopped."""
    loop = loop_of(folder, 1, states=["stopped"], known=False)
    with pytest.raises(ValueError, match="must have room for one run"):
        loop.run()
    return loop.launch.started[0]


def test_a_run_that_was_stopped_and_then_killed_goes_on_at_the_next_start(tmp_path):
    number = stopped_by(tmp_path)
    assert killed(loop_of(tmp_path, 100, known=False)) == [number]
    more = loop_of(tmp_path, 100, known=False)
    more.run()
    assert more.launch.started[0] == number
    assert more.study.trials[number].state is TrialState.COMPLETE


def test_a_run_that_was_stopped_and_then_lost_failed(tmp_path):
    number = stopped_by(tmp_path)
    lost = loop_of(tmp_path, 100, known=False)
    lost.settings.num_trials = 1
    lost.launch = Lost(lost.study, [])
    with pytest.raises(ValueError, match=r"some run must come to an end, got 1 that failed.*disk"):
        lost.run()
    assert lost.study.trials[number].state is TrialState.FAIL
    record = study_record(lost.study, tmp_path)
    assert "no disk" in record.trials[number].reason
    assert record.stop_reason == "1 trials were run"


def test_a_run_that_stopped_as_its_process_was_killed_goes_on_where_there_is_more(tmp_path):
    (number,) = killed(loop_of(tmp_path, 1, known=False), states=["stopped"])
    more = loop_of(tmp_path, 100, known=False)
    more.run()
    assert more.launch.started[0] == number
    assert more.study.trials[number].state is TrialState.COMPLETE


def test_the_law_over_random_ends(tmp_path):
    drawn = random.Random(0)
    states = [drawn.choice(["finished", "failed", "pruned"]) for _ in range(60)]
    loop = loop_of(tmp_path, 150, states=states)
    loop.run()
    assert used_by_all(loop.study.get_trials())["flops"] <= 150
