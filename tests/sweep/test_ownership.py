import os
import signal
import time

import optuna
import pytest
from filelock import FileLock

from lightning_cost.sweep.ownership import Ownership, is_held, job_lock

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@pytest.fixture
def study():
    return optuna.create_study()


def test_a_process_is_alive_until_it_ends(tmp_path, study):
    one, other = Ownership(tmp_path, study), Ownership(tmp_path, study)
    assert not other.is_alive(None)
    assert not other.is_alive(one.token)
    with one.held():
        assert other.is_alive(one.token)
    assert not other.is_alive(one.token)


def test_a_killed_process_is_dead_at_once(tmp_path, study):
    one, other = Ownership(tmp_path, study), Ownership(tmp_path, study)
    process = os.fork()
    if process == 0:
        with one.held():
            time.sleep(60)
    try:
        deadline = time.monotonic() + 30
        while not other.is_alive(one.token) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert other.is_alive(one.token)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    assert not other.is_alive(one.token)


def test_a_process_elsewhere_is_alive_for_as_long_as_it_is_heard(tmp_path, study):
    now = [1000.0]
    far = Ownership(tmp_path / "far", study, clock=lambda: now[0])
    here = Ownership(tmp_path / "here", study, clock=lambda: now[0])
    with far.held():
        now[0] += 100
        assert here.is_alive(far.token)
        now[0] += 100
        assert not here.is_alive(far.token)


def test_the_lock_of_a_job(tmp_path):
    path = job_lock(tmp_path, 3)
    assert not is_held(path)
    with FileLock(path):
        assert is_held(path)
    assert not is_held(path)
