import pytest

from lightning_cost.sweep.strategies import grid_of, pruner_of, sampler_of
from tests.sweep.spaces import space_of

SPACE = space_of("x=range(0,3)", "y=choice(a,b)").distributions


@pytest.mark.parametrize("name", ["tpe", "gp", "nsga2", "cmaes", "grid", "random"])
def test_every_sampler_is_made(name):
    pytest.importorskip("cmaes")
    kinds = {"nsga2": "nsgaii"}
    assert kinds.get(name, name) in type(sampler_of(name, 0, SPACE)).__name__.lower()


@pytest.mark.parametrize("name", ["none", "median", "hyperband", "halving"])
def test_every_pruner_is_made(name):
    kinds = {"none": "nop"}
    assert kinds.get(name, name) in type(pruner_of(name)).__name__.lower()


def test_a_grid_holds_every_value():
    assert grid_of(SPACE) == {"x": [0, 1, 2], "y": ["a", "b"]}


def test_unknown_names():
    with pytest.raises(ValueError, match=r"sampler must be one of tpe, gp, .* got 'foo'"):
        sampler_of("foo", 0, SPACE)
    with pytest.raises(ValueError, match=r"pruner must be one of none, median, .* got 'foo'"):
        pruner_of("foo")


def test_what_has_no_grid():
    with pytest.raises(ValueError, match="z must have single values for sampler=grid"):
        grid_of(space_of("z=interval(0,1)").distributions)
    with pytest.raises(ValueError, match="the grid must have at most 1,000,000 points"):
        grid_of(space_of("z=range(0,1001)", "y=range(0,1001)").distributions)
