import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.resource import Resource
from lightning_cost.report.study.record import STATES, Importance, Study, TrialRecord

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(max_size=8)
RESOURCES = st.sampled_from([resource.value for resource in Resource])
TRIALS = st.builds(
    TrialRecord,
    number=st.integers(0, 9),
    state=st.sampled_from(STATES),
    settings=st.dictionaries(NAMES, st.one_of(NUMBERS, NAMES, st.booleans(), st.none())),
    values=st.dictionaries(NAMES, NUMBERS),
    reached=st.none() | NUMBERS,
    predicted=st.dictionaries(RESOURCES, st.none() | NUMBERS),
    violations=st.dictionaries(RESOURCES, st.none() | NUMBERS),
    started=st.none() | NAMES,
    seconds=st.none() | NUMBERS,
    run_dir=st.none() | NAMES,
    reason=st.none() | NAMES,
)
STUDIES = st.builds(
    Study,
    name=NAMES,
    objectives=st.dictionaries(NAMES, st.sampled_from(["min", "max"])),
    sampler=st.none() | NAMES,
    seed=st.none() | st.integers(),
    limits=st.dictionaries(RESOURCES, NUMBERS),
    space=st.dictionaries(NAMES, NAMES),
    trials=st.lists(TRIALS, max_size=4).map(tuple),
    importances=st.dictionaries(
        NAMES,
        st.builds(Importance, shares=st.dictionaries(NAMES, NUMBERS), reason=st.none() | NAMES),
    ),
)


@given(STUDIES)
def test_a_study_comes_back_from_json(study):
    assert Study.from_dict(json.loads(json.dumps(study.to_dict()))) == study


def test_unknown_state():
    with pytest.raises(ValueError, match=r"state must be one of finished, .*, got 'lost'"):
        TrialRecord(number=0, state="lost")


@pytest.mark.parametrize("name", ["predicted", "violations"])
def test_a_cost_of_nothing_known(name):
    with pytest.raises(ValueError, match=rf"{name} must be of macs, .*, got 'joy'"):
        TrialRecord(number=0, state="failed", **{name: {"joy": 1.0}})


@given(STUDIES)
def test_every_trial_is_in_one_state(study):
    assert sum(len(study.of_state(state)) for state in STATES) == len(study.trials)
