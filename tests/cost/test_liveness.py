from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.liveness import Step, peak_of_steps, peaks_of_steps, without_reuse


def reference_peak(steps):
    """Bytes alive at each step, by looking through all steps for a reader, from the definition."""
    num_bytes = {name: size for step in steps for name, size in step.writes.items()}
    peak = 0
    for now in range(len(steps)):
        made = {name for step in steps[: now + 1] for name in step.writes}
        needed = {name for step in steps[now:] for name in step.reads} | steps[now].writes.keys()
        peak = max(peak, sum(num_bytes[name] for name in made & needed))
    return peak


@st.composite
def programs(draw):
    steps = [Step((), {0: draw(st.integers(0, 9))})]
    for name in range(1, draw(st.integers(1, 8))):
        reads = draw(st.lists(st.integers(0, name - 1), unique=True, max_size=3))
        steps.append(Step(tuple(reads), {name: draw(st.integers(0, 9))}))
    return steps


@given(steps=programs())
def test_peak_is_that_of_the_definition(steps):
    assert peak_of_steps(steps) == reference_peak(steps)


@given(steps=programs(), data=st.data())
def test_writing_over_an_input_never_needs_more(steps, data):
    elementwise = [
        Step(step.reads, step.writes, is_elementwise=data.draw(st.booleans())) for step in steps
    ]
    assert peak_of_steps(elementwise) <= peak_of_steps(steps)


def test_an_input_that_is_needed_again_is_not_written_over():
    steps = [
        Step((), {0: 4}),
        Step((0,), {1: 4}, is_elementwise=True),
        Step((0, 1), {2: 1}),
    ]
    assert peak_of_steps(steps) == 9


@st.composite
def many_sizes(draw):
    """A program whose steps recode and write over, and the sizes of its buffers in N networks."""
    steps = draw(programs())
    kinds = [draw(st.sampled_from(["plain", "elementwise", "recoding"])) for _ in steps]
    steps = [
        Step(step.reads, step.writes, kind != "plain", kind == "recoding" and bool(step.reads))
        for step, kind in zip(steps, kinds, strict=True)
    ]
    num_networks = draw(st.integers(1, 4))
    sizes = st.lists(st.integers(0, 4), min_size=num_networks, max_size=num_networks)
    return steps, {name: draw(sizes) for step in steps for name in step.writes}


@given(many_sizes())
def test_peaks_of_many_networks_are_those_of_each(program):
    steps, sizes = program
    arrays = {name: np.array(values, dtype=np.float64) for name, values in sizes.items()}
    for place, peak in enumerate(peaks_of_steps(steps, arrays)):
        one = [replace(s, writes={n: sizes[n][place] for n in s.writes}) for s in steps]
        assert peak == peak_of_steps(one)


@given(many_sizes())
def test_reuse_never_needs_more(program):
    steps, _ = program
    assert peak_of_steps(steps) <= peak_of_steps(without_reuse(steps))
    assert peak_of_steps(without_reuse(steps)) == reference_peak(steps)


def test_a_program_without_buffers_has_no_peak():
    assert peak_of_steps([Step((), {})]) == 0
    assert peak_of_steps([]) == 0
