import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost import plain_data
from lightning_cost.cost.plain_data import UNREADABLE, read_as_written

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner)
)
# for each, an independent description of what it lets through
RIGHT = {
    "number": lambda value: type(value) in (int, float) and -1.8e308 < value < 1.8e308,
    "amount": lambda value: type(value) in (int, float) and 0 <= value <= 1e100,
    "count": lambda value: type(value) is int and 0 <= value <= 1e100,
    "flag": lambda value: value is True or value is False,
    "text": lambda value: type(value) is str,
    "entries": lambda value: type(value) is dict and {type(key) for key in value} <= {str},
    "items": lambda value: type(value) is list,
    "texts": lambda value: type(value) is list and {type(each) for each in value} <= {str},
    "amounts": lambda value: RIGHT["entries"](value) and all(map(RIGHT["amount"], value.values())),
}


@pytest.mark.parametrize("name", RIGHT)
@given(value=ANYTHING)
def test_what_is_right_comes_back_and_all_else_is_refused(name, value):
    check = getattr(plain_data, name)
    if RIGHT[name](value):
        assert check(value, "entry") == value
    else:
        with pytest.raises(ValueError, match=r"must be .*, got "):
            check(value, "entry")


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, 1e101, 2.0])
def test_bounds_of_amounts(value):
    with pytest.raises(
        ValueError, match=r"seconds must be (from 3 to 1e\+100|a finite number), got"
    ):
        plain_data.amount(value, "seconds", least=3)


@pytest.mark.parametrize("error", UNREADABLE)
def test_whatever_goes_wrong_is_said_of_what_was_read(error):
    said = r"^the state must be as it was written, but .* \((\w+: )?'?x'?\); copy it again$"
    with pytest.raises(ValueError, match=said), read_as_written("the state", "copy it again"):
        raise error("x")


def test_other_errors_pass():
    with pytest.raises(KeyboardInterrupt), read_as_written("the state", "copy it again"):
        raise KeyboardInterrupt
