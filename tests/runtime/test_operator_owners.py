import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.hardware.tables.width_family import model_of
from lightning_cost.runtime.operator_owners import OperatorOwners
from lightning_cost.runtime.standalone import RUNTIMES, TimedModel
from tests.reference.width_family import HandFamily

OWNERS = OperatorOwners(places={"conv": 0, "conv_1": 1, "conv_10": 2, "node_add": 1}, num_layers=3)


def divided(*operators):
    times, counts = OWNERS.divide(operators)
    return times.tolist(), counts.tolist()


def test_the_longest_name_that_an_operator_begins_with():
    assert divided(["conv_1_nchwc", [], 2.0]) == ([0, 2, 0], [0, 1, 0])
    assert divided(["conv_10", [], 2.0]) == ([0, 0, 2], [0, 0, 1])
    assert divided(["conv_10/WithoutBiases", [], 2.0]) == ([0, 0, 2], [0, 0, 1])
    assert divided(["conv_11", [], 2.0]) == ([2, 0, 0], [1, 0, 0])


def test_what_an_operator_contains_comes_before_its_name():
    assert divided(["conv", ["Multiply_7", "conv_10", "node_add"], 2.0]) == ([0, 0, 2], [0, 0, 1])


def test_an_operator_of_no_name_belongs_to_the_layer_before():
    assert divided(["Reorder", [], 1.0], ["conv_1", [], 2.0], ["Reorder", [], 4.0]) == (
        [1, 6, 0],
        [1, 2, 0],
    )


def test_no_operators_at_all():
    assert divided() == ([0, 0, 0], [0, 0, 0])


words = st.sampled_from(["conv", "conv_1", "conv_10", "node_add", "x", "fused_conv", "", "_", "/"])
operators = st.lists(
    st.tuples(
        st.builds("_".join, st.lists(words, max_size=3)),
        st.lists(words, max_size=2),
        st.floats(0, 1e3),
    ),
    max_size=12,
)


@given(operators=operators)
def test_no_time_is_lost(operators):
    times, counts = OWNERS.divide(operators)
    assert times.sum() == pytest.approx(sum(taken for *_, taken in operators))
    assert counts.sum() == len(operators)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_operators_of_a_runtime_are_divided_among_all_layers(runtime):
    family = HandFamily(totals=(48, 64), side=32)  # OpenVINO leaves out what takes under 1 µs
    content = model_of(family, family.totals)
    model = TimedModel(content, dict(family.inputs), runtime=runtime, is_profiled=True)
    model.time_ms(0.02)
    operators = model.operators()
    times, counts = family.graph.owners.divide(operators)
    assert times.sum() == pytest.approx(sum(taken for *_, taken in operators))
    assert (times > 0).all()
    assert (counts > 0).all()
    if runtime == "onnxruntime":  # OpenVINO tells averages, which one interruption carries away
        assert np.argmax(times[:4]) == 2  # nine tenths of the multiplications
