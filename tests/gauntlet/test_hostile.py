"""A few hostile inputs of each kind, drawn by Hypothesis; ``make gauntlet`` tries thousands."""

import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_cost.job import BAD_INPUT
from tests.gauntlet.hostile import (
    callback_states,
    documents,
    overrides,
    run_files,
    studies,
    weights,
)
from tests.gauntlet.hostile.damage import damaged, damaged_bytes
from tests.gauntlet.hostile.trial import FAILED, HUNG, SILENT, SilentError, Subject, attempt

KINDS = (documents, studies, run_files, weights, callback_states)
SUBJECTS = {subject.name: subject for kind in KINDS for subject in kind.SUBJECTS}
EXAMPLES = 25


@pytest.mark.parametrize("name", SUBJECTS)
def test_it_is_accepted_rightly_or_refused_clearly(name, tmp_path_factory):
    subject = SUBJECTS[name]

    @settings(
        max_examples=max(5, int(EXAMPLES * min(subject.weight, 2))),
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.integers(0, 2**40))
    def holds(seed):
        trial = attempt(subject, seed, tmp_path_factory.mktemp("hostile"))
        assert trial.outcome not in (FAILED, HUNG, SILENT), trial.note

    holds()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "passed"),
        (ValueError("macs must be > 0, got -1; leave it out"), "refused"),
        (ValueError("list index out of range"), "failed"),
        (KeyError("macs"), "failed"),
        (RecursionError(), "failed"),
        (SilentError("1 became 2"), "silent"),
    ],
)
def test_what_comes_of_an_input_is_told_apart(error, outcome, tmp_path):
    def hand_in(random, folder):
        if error is not None:
            raise error

    assert attempt(Subject(name="x", hand_in=hand_in), 1, tmp_path / "x").outcome == outcome


@given(st.randoms(use_true_random=False))
def test_damage_leaves_the_original_whole(random):
    whole = {"a": [1, {"b": "text"}], "c": None}
    damaged(whole, random)
    damaged_bytes(b"bytes", random)
    assert whole == {"a": [1, {"b": "text"}], "c": None}


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("lightning-cost: key must be known, got {}; list them", "refused"),
        ("no viable alternative at input {}", "failed"),
        ("lightning-cost: key must be known, got another; list them", "failed"),
    ],
)
def test_a_command_line_is_judged_by_what_it_says(message, outcome, tmp_path, monkeypatch):
    def main(words):
        print(message.format(words[-1]), file=sys.stderr)
        return BAD_INPUT

    monkeypatch.setattr(overrides, "main", main)
    subject = next(each for each in overrides.SUBJECTS if each.name == "overrides")
    assert attempt(subject, 1, tmp_path).outcome == outcome
