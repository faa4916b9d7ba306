"""The loop with runs that only say how they ended."""

import math
import os
import random
import signal
import time
from collections import Counter

import pytest
from filelock import FileLock
from optuna.trial import Trial, TrialState

from lightning_cost.sweep.feasibility import Verdict
from lightning_cost.sweep.loop import StudyLoop
from lightning_cost.sweep.outcome import OUTCOME, Outcome
from lightning_cost.sweep.ownership import job_lock
from lightning_cost.sweep.settings import SweepSettings
from lightning_cost.sweep.storage import open_study, url_of
from lightning_cost.sweep.study_record import study_record
from lightning_cost.sweep.trials import REASON, REPEATS, VIOLATIONS
from tests.sweep.spaces import space_of

SPACE = space_of("width=range(1,21)", "rate=interval(0,1)")
LIMIT = 8


def judge(settings):
    return Verdict(predicted={"macs": float(settings["width"])}, limits={"macs": float(LIMIT)})


def say(study, number, outcome):
    trial = study.get_trials(deepcopy=False)[number]
    Trial(study, trial._trial_id).set_user_attr(OUTCOME, outcome.to_dict())


class Runs:
    """Trainings that only write down that they took place."""

    def __init__(self, study, log=None, seconds=0.0):
        self.study, self.log, self.seconds = study, log, seconds
        self.trained = []

    def __call__(self, jobs):
        for job in jobs:
            time.sleep(self.seconds)
            self.trained.append(job.settings)
            say(self.study, job.number, Outcome(state="finished", values=(job.settings["rate"],)))
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(f"{job.number}\n")
        return [None for _ in jobs]


def loop_of(folder, *, space=SPACE, judge=judge, make=Runs, storage=None, **settings):
    settings = SweepSettings(**{"num_trials": 6, **settings})
    study = open_study(url_of(storage, folder), space, settings)
    return StudyLoop(
        study=study,
        space=space,
        settings=settings,
        sweep_dir=folder,
        judge=judge,
        launch=make(study),
    )


def trained(study):
    return [trial for trial in study.trials if not trial.user_attrs.get(VIOLATIONS)]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "cmaes", "random"])
def test_nothing_infeasible_is_trained(tmp_path, sampler):
    pytest.importorskip("cmaes")
    loop = loop_of(tmp_path, sampler=sampler, num_jobs=3)
    loop.run()
    assert len(loop.launch.trained) == 6
    assert all(settings["width"] <= LIMIT for settings in loop.launch.trained)
    for trial in loop.study.trials:
        excess = trial.params["width"] / LIMIT - 1
        assert trial.constraints["macs"] == pytest.approx(excess)
        assert bool(trial.user_attrs.get(VIOLATIONS)) == (excess > 0)


def test_the_best_trial_is_a_feasible_one(tmp_path):
    loop = loop_of(tmp_path, sampler="nsga2")
    loop.run()
    assert loop.study.best_trial.params["width"] <= LIMIT


def test_the_sampler_learns_from_what_was_refused(tmp_path):
    """Late in a study fewer infeasible configurations are asked for than at random."""
    loop = loop_of(tmp_path, num_trials=20)
    loop.run()
    late = loop.study.trials[-15:]
    ratio = sum(bool(trial.user_attrs.get(VIOLATIONS)) for trial in late) / len(late)
    assert ratio < 1 - LIMIT / 20


def test_a_grid_ends_with_its_points(tmp_path):
    space = space_of("width=range(6,11)", "rate=choice(0,1)")
    loop = loop_of(tmp_path, space=space, sampler="grid", num_trials=100)
    loop.run()
    points = Counter((entry["width"], entry["rate"]) for entry in loop.launch.trained)
    assert points == Counter({(width, rate): 1 for width in (6, 7, 8) for rate in (0, 1)})
    assert len(loop.study.trials) == 10


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_nothing_is_trained_twice(tmp_path, sampler, capsys):
    space = space_of("width=range(5,11)", "rate=choice(0,1)")
    loop = loop_of(tmp_path, space=space, sampler=sampler, num_trials=100, max_infeasible=1_000)
    loop.run()
    points = Counter((entry["width"], entry["rate"]) for entry in loop.launch.trained)
    assert points == Counter({(width, rate): 1 for width in (5, 6, 7, 8) for rate in (0, 1)})
    for trial in loop.study.trials:
        if REPEATS in trial.user_attrs:
            trained = loop.study.trials[trial.user_attrs[REPEATS]]
            assert (trial.params, trial.values) == (trained.params, trained.values)
            assert trial.constraints == trained.constraints
    assert "the sweep ends with 8 of 100 trials: its space holds no others" in (
        capsys.readouterr().out
    )
    second = loop_of(tmp_path, space=space, sampler=sampler, num_trials=100)
    second.run()
    assert second.launch.trained == []


def points_of(settings):
    return Counter((entry["width"], entry["rate"]) for entry in settings)


POINTS = "width=range(1,5)", "rate=choice(0,1)"
EACH_ONCE = Counter({(width, rate): 1 for width in (1, 2, 3, 4) for rate in (0, 1)})


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "grid", "random"])
def test_jobs_that_run_at_once_are_not_alike(tmp_path, sampler):
    loop = loop_of(
        tmp_path, space=space_of(*POINTS), sampler=sampler, num_jobs=4, num_trials=8, seed=1
    )
    loop.run()
    assert points_of(loop.launch.trained) == EACH_ONCE
    record = study_record(loop.study, tmp_path)
    assert len(record.of_state("finished")) == 8
    assert {trial.state for trial in record.trials} <= {"finished", "repeated"}


def test_what_another_process_trains_is_not_trained_here(tmp_path):
    space = space_of(*POINTS)

    class Nested(Runs):
        """A second process goes through the rest of the space while the first trains."""

        def __call__(self, jobs):
            if not self.trained:
                self.second = loop_of(tmp_path, space=space, sampler="random", num_trials=100)
                self.second.run()
            return super().__call__(jobs)

    first = loop_of(
        tmp_path, space=space, make=Nested, sampler="random", num_jobs=3, num_trials=100
    )
    first.run()
    assert len(first.launch.trained) == 3
    assert points_of(first.launch.trained + first.launch.second.launch.trained) == EACH_ONCE


def test_what_a_killed_process_trained_is_trained_here(tmp_path):
    class Killed(Runs):
        def __call__(self, jobs):
            raise KeyboardInterrupt

    space = space_of(*POINTS)
    killed = loop_of(tmp_path, space=space, make=Killed, sampler="random", num_jobs=4)
    killed._give_back = lambda: None
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    assert len(killed.study.get_trials(states=[TrialState.RUNNING])) == 4
    second = loop_of(tmp_path, space=space, sampler="random", num_jobs=4, num_trials=100)
    second.run()
    assert points_of(second.launch.trained) == EACH_ONCE


def test_a_repetition_that_was_never_told_is_trained(tmp_path):
    """Its process was killed, and what it would have repeated has failed by now."""
    loop = loop_of(tmp_path, num_trials=1)
    loop.study.enqueue_trial({"width": 2, "rate": 0.5}, user_attrs={REPEATS: 0})
    loop.run()
    assert loop.launch.trained == [{"width": 2, "rate": 0.5}]
    assert [trial.state for trial in study_record(loop.study, tmp_path).trials] == ["finished"]


def test_what_was_stopped_early_is_not_begun_again(tmp_path):
    class Hopeless(Runs):
        def __call__(self, jobs):
            for job in jobs:
                trial = self.study.get_trials(deepcopy=False)[job.number]
                Trial(self.study, trial._trial_id).report(0.25, 3)
                self.trained.append(job.settings)
                say(self.study, job.number, Outcome(state="pruned", reason="hopeless"))
            return [None for _ in jobs]

    space = space_of("width=range(1,5)", "rate=choice(0,1)")
    loop = loop_of(tmp_path, space=space, make=Hopeless, sampler="random", num_trials=10)
    loop.run()
    assert len(loop.launch.trained) == 8
    assert any(REPEATS in trial.user_attrs for trial in loop.study.trials)
    assert all(trial.intermediate_values == {3: 0.25} for trial in loop.study.trials)


def test_a_sweep_ends_where_it_finds_nothing_new(tmp_path, capsys):
    space = space_of("width=range(8,2000)", "rate=choice(0)")
    loop = loop_of(tmp_path, space=space, max_infeasible=20, sampler="random")
    loop.study.enqueue_trial({"width": 8, "rate": 0})
    loop.run()
    assert [entry["width"] for entry in loop.launch.trained] == [8]
    assert "1 of 6 trials: 20 configurations in a row were infeasible or known" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("storage", [None, "journal"])
def test_the_same_command_goes_on(tmp_path, storage):
    storage = None if storage is None else f"journal:{tmp_path / 'journal.log'}"
    first = loop_of(tmp_path, storage=storage, num_trials=3)
    first.run()
    second = loop_of(tmp_path, storage=storage, num_trials=5)
    second.run()
    assert len(second.launch.trained) == 2
    assert len(trained(second.study)) == 5
    rates = [trial.params["rate"] for trial in trained(second.study)]
    assert len(set(rates)) == 5  # a second start does not draw what the first one drew


def test_what_was_interrupted_is_trained_first_with_the_same_settings(tmp_path):
    class Interrupted(Runs):
        def __call__(self, jobs):
            raise KeyboardInterrupt

    first = loop_of(tmp_path, make=Interrupted)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    (waiting,) = trained(first.study)
    assert waiting.state is TrialState.WAITING
    second = loop_of(tmp_path)
    second.run()
    assert second.launch.trained[0] == waiting.params
    assert len(second.launch.trained) == len(trained(second.study)) == 6


def test_a_trial_whose_job_outlives_the_launch_is_left_running(tmp_path):
    class Lost(Runs):
        """The launcher loses a job, and the others go on without it."""

        def __call__(self, jobs):
            self.locks = [FileLock(job_lock(tmp_path, job.number)) for job in jobs]
            for lock in self.locks[1:]:
                lock.acquire()
            raise RuntimeError("a job was lost")

    first = loop_of(tmp_path, make=Lost, num_jobs=3)
    with pytest.raises(RuntimeError, match="a job was lost"):
        first.run()
    lost, *living = trained(first.study)
    assert lost.state is TrialState.WAITING
    assert [trial.state for trial in living] == [TrialState.RUNNING] * 2
    second = loop_of(tmp_path, num_trials=4)
    second.run()
    assert second.launch.trained[0] == lost.params
    assert len(second.launch.trained) == 2  # the living jobs train the others
    say(first.study, living[0].number, Outcome(state="finished", values=(0.5,)))
    for lock in first.launch.locks[1:]:
        lock.release()
    third = loop_of(tmp_path, num_trials=4)
    third.run()
    assert third.launch.trained == [living[1].params]
    assert third.study.trials[living[0].number].values == [0.5]
    assert {trial.state for trial in trained(third.study)} == {TrialState.COMPLETE}


def test_the_trials_of_a_living_process_are_left_alone(tmp_path):
    class Nested(Runs):
        """A second process starts while the first trains."""

        def __call__(self, jobs):
            if not self.trained:
                self.second = loop_of(tmp_path, num_trials=4)
                self.second.run()
            return super().__call__(jobs)

    first = loop_of(tmp_path, make=Nested, num_trials=4)
    first.run()
    assert len(first.launch.trained) == 1
    assert len(first.launch.second.launch.trained) == 3
    assert all(trial.state is TrialState.COMPLETE for trial in trained(first.study))


def test_failures_are_recorded_and_the_sweep_goes_on(tmp_path):
    ends = {
        0: Outcome(state="failed", reason="out of memory"),
        1: Outcome(state="finished", values=(math.nan,)),
        2: None,
    }

    class Failing(Runs):
        def __call__(self, jobs):
            errors = []
            for job in jobs:
                end = ends.get(len(self.trained), Outcome(state="finished", values=(1.0,)))
                self.trained.append(job.settings)
                if end is not None:
                    say(self.study, job.number, end)
                errors.append(None if end else RuntimeError("lost"))
            return errors

    loop = loop_of(tmp_path, make=Failing, num_trials=5)
    loop.run()
    found = [(trial.state.name, trial.user_attrs.get(REASON)) for trial in trained(loop.study)]
    assert [state for state, _ in found] == ["FAIL", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert found[0][1] == "out of memory"
    assert "lost" in found[2][1]


def test_a_configuration_that_is_refused_is_a_failed_trial(tmp_path):
    def refusing(settings):
        if settings["width"] < 5:
            raise ValueError("width must be >= 5")
        return judge(settings)

    loop = loop_of(tmp_path, judge=refusing, sampler="random", num_trials=10)
    loop.run()
    failed = [trial for trial in loop.study.trials if trial.state is TrialState.FAIL]
    assert failed
    assert all("width must be >= 5" in trial.user_attrs[REASON] for trial in failed)
    assert len(loop.launch.trained) + len(failed) == 10


def test_a_space_in_which_nothing_fits(tmp_path):
    space = space_of("width=range(10,21)", "rate=interval(0,1)")
    loop = loop_of(tmp_path, space=space, max_infeasible=30)
    message = "got 30 in a row that are not; the nearest, width=10 .*macs 10 MACs, limit 8 MACs"
    with pytest.raises(ValueError, match=message):
        loop.run()
    assert loop.launch.trained == []


def test_a_sweep_in_which_all_fails(tmp_path):
    class Failing(Runs):
        def __call__(self, jobs):
            return [RuntimeError("no disk") for _ in jobs]

    with pytest.raises(ValueError, match=r"some run must come to an end, got 2 that failed.*disk"):
        loop_of(tmp_path, make=Failing, num_trials=2).run()


def killed_and_continued(folder, kills, num_trials, storage=None):
    """Start the sweep again and again, each time in a process that is killed while it works."""
    chance = random.Random(0)
    log = folder / "finished.log"
    for _ in range(kills):
        process = os.fork()
        if process == 0:
            try:
                loop_of(
                    folder,
                    num_trials=num_trials,
                    make=lambda study: Runs(study, log, seconds=0.02),
                    storage=storage,
                ).run()
            finally:
                os._exit(0)
        time.sleep(chance.uniform(0.05, 0.5))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    last = loop_of(
        folder, num_trials=num_trials, make=lambda study: Runs(study, log), storage=storage
    )
    last.run()
    numbers = [int(line) for line in log.read_text().splitlines()]
    return last.study, Counter(numbers)


@pytest.mark.parametrize(
    "kills", [2, pytest.param(10, marks=pytest.mark.slow)], ids=lambda kills: f"{kills} kills"
)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_at_random_moments_and_continued(tmp_path, kills):
    num_trials = 10 * kills
    study, finished = killed_and_continued(tmp_path, kills, num_trials)
    assert len(trained(study)) == num_trials
    assert {trial.state for trial in trained(study)} == {TrialState.COMPLETE}
    # a run that had said how it ended is not trained again; one that had not may be
    assert set(finished) <= {trial.number for trial in trained(study)}
    assert all(count == 1 for count in finished.values())
