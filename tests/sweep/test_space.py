import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tests.sweep.spaces import space_of

integers = st.integers(-(10**6), 10**6)
fractions = st.floats(1e-9, 1e9)


@given(st.lists(integers, min_size=1, max_size=6, unique=True))
def test_a_choice_of_numbers(values):
    found = space_of(f"x=choice({','.join(map(str, values))})").distributions["x"]
    assert found == CategoricalDistribution(tuple(values))


@given(integers, st.integers(1, 50), st.integers(1, 50))
def test_a_range_holds_what_python_s_does(start, length, step):
    found = space_of(f"x=range({start},{start + length},{step})").distributions["x"]
    assert isinstance(found, IntDistribution)
    values = list(range(found.low, found.high + 1, found.step))
    assert values == list(range(start, start + length, step))


@given(fractions, fractions, st.booleans())
def test_an_interval_on_either_scale(one, other, is_log):
    low, high = sorted((one, other))
    inner = f"interval({low!r},{high!r})"
    written = f"x=tag(log, {inner})" if is_log else f"x={inner}"
    assert space_of(written).distributions["x"] == FloatDistribution(low, high, log=is_log)


@given(st.one_of(integers, fractions, st.booleans(), st.none()))
def test_an_override_gives_the_value_back(value):
    entry = space_of("x=1,2").parameters["x"]
    assert OverridesParser.create().parse_override(entry.override(value)).value() == value


@given(st.lists(st.sampled_from(["50%", "a b", "it's", "[1,2]", "{a:1}", "x"]), unique=True))
def test_texts_come_back_as_they_were_written(values):
    words = [repr(value) if value in ("a b", "it's") else value for value in values]
    if len(words) < 2:
        return
    entry = space_of(f"x={','.join(words)}").parameters["x"]
    parser = OverridesParser.create()
    expected = [parser.parse_override(f"x={word}").value() for word in words]
    choices = entry.distribution.choices
    assert [parser.parse_override(entry.override(each)).value() for each in choices] == expected


def test_whole_numbers_by_a_cast():
    found = space_of("x=tag(log, int(interval(1, 64)))").distributions["x"]
    assert found == IntDistribution(1, 64, log=True)


def test_fixed_entries_and_the_last_word():
    space = space_of("a=1", "b=1,2", "+c=choice(3,4)", "b=5", "a=range(0,3)")
    assert list(space.parameters) == ["c", "a"]
    assert space.overrides({"c": 3, "a": 2}) == ["b=5", "+c=3", "a=2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a=1"], "a sweep must vary something, got no entry with several values"),
        (["a=range(3,3)"], r"a must have values .* got 'range\(3,3\)': the range is empty"),
        (["a=interval(2,1)"], "a must have values to choose from"),
        (["a=tag(log, interval(0,1))"], "a must have values to choose from"),
        (["a=tag(log, range(1,9,2))"], "on a logarithmic scale has no step"),
        (["a=tag(log, range(0.1,0.9,0.2))"], "a range of fractions has a step"),
    ],
)
def test_what_cannot_be_searched(words, message):
    with pytest.raises(ValueError, match=message):
        space_of(*words)


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["width=range(4,17,4)"], 4),
        (["width=range(5,17,5)", "kind=choice(a,b)"], 6),
        (["width=choice(8)", "rate=interval(0,1)"], None),
    ],
)
def test_the_size_of_a_space(words, size):
    assert space_of(*words).size == size
