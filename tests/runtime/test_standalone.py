"""The program that also runs without this package, on a clock that the tests wind."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_cost.hardware.tables.width_family import model_of
from lightning_cost.runtime import standalone
from lightning_cost.runtime.standalone import (
    RUNTIMES,
    TimedModel,
    compare,
    cpu_name,
    fingerprint,
    write_json,
)
from tests.reference.width_family import HandFamily

FAMILY = HandFamily()
CONTENT = model_of(FAMILY, FAMILY.totals)


class Clock:
    """Seconds that pass as the models run."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Model(TimedModel):
    """Takes ``seconds`` a call, times how slow the machine is at that moment."""

    def __init__(self, clock, seconds, slowness=lambda now: 1.0, operators=()):
        def run():
            clock.now += seconds * slowness(clock.now)

        self.run, self._operators = run, lambda: [list(each) for each in operators]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(standalone.time, "perf_counter", clock)
    return clock


def test_source_is_valid_for_python_3_8_and_imports_nothing_of_this_package():
    tree = ast.parse(Path(standalone.__file__).read_text(), feature_version=(3, 8))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"numpy", *RUNTIMES}


def test_the_time_of_a_call_is_the_median(clock):
    slow = iter([1.0, 1.0, 50.0] + [1.0] * 100)
    model = Model(clock, 0.002, slowness=lambda now: next(slow))
    assert model.time_ms(0.05) == pytest.approx(2.0)


def test_at_least_a_few_calls_are_timed(clock):
    assert Model(clock, 1.0).time_ms(0.001) == pytest.approx(1000)
    assert clock.now == 5.0


def test_a_comparison_in_units_of_the_reference(clock):
    operators = [("conv", ["conv"], 2.0), ("relu", [], 1.0)]
    found = compare(
        Model(clock, 0.003),
        Model(clock, 0.004, operators=operators),
        Model(clock, 0.002),
        seconds=1.0,
    )
    assert found["ratio"] == pytest.approx(1.5)
    assert found["ratio_spread"] == pytest.approx(0)
    assert found["reference_ms"] == pytest.approx(2)
    assert [name for name, *_ in found["operators"]] == ["conv", "relu"]
    assert [taken for *_, taken in found["operators"]] == pytest.approx([1.0, 0.5])


def test_a_machine_that_slows_down_meanwhile_changes_the_ratio_little(clock):
    def slowness(now):
        return 1 + now / 2  # half as fast again after a second

    found = compare(
        Model(clock, 0.0003, slowness),
        Model(clock, 0.0003, slowness),
        Model(clock, 0.0002, slowness),
        seconds=1.0,
    )
    assert found["ratio"] == pytest.approx(1.5, rel=0.01)
    assert found["reference_ms"] > 0.22


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_runs_on_its_inputs_and_tells_its_operators(runtime):
    model = TimedModel(CONTENT, dict(FAMILY.inputs), runtime=runtime, is_profiled=True)
    assert model.time_ms(0.005) > 0
    operators = model.operators()
    assert all(isinstance(name, str) and taken >= 0 for name, _, taken in operators)
    assert operators


def test_the_runtimes_agree_on_what_a_model_gives():
    found = [TimedModel(CONTENT, dict(FAMILY.inputs), runtime=name).run()[0] for name in RUNTIMES]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_an_unknown_runtime_is_refused():
    with pytest.raises(ValueError, match="must be one of onnxruntime, openvino, got 'eager'"):
        TimedModel(CONTENT, dict(FAMILY.inputs), runtime="eager")


def test_a_precision_that_the_runtime_lacks_is_refused():
    with pytest.raises(ValueError, match="precision must be float32 on onnxruntime, got 'bfloat"):
        TimedModel(CONTENT, dict(FAMILY.inputs), runtime="onnxruntime", precision="bfloat16")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_fingerprint_is_plain_data_and_always_the_same(runtime):
    found = fingerprint(runtime)
    assert json.loads(json.dumps(found)) == found == fingerprint(runtime)
    assert found["runtime_version"][0].isdigit()
    assert found["cpu"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: another\n",
            "Some CPU @ 2 GHz",
        ),
        ("processor : 0\nBogoMIPS : 108.00\n\nModel\t\t: Raspberry Pi 5\n", "Raspberry Pi 5"),
    ],
)
def test_the_processor_by_its_name(tmp_path, text, name):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert cpu_name(str(path)) == name


def test_a_processor_that_nothing_names(tmp_path):
    assert cpu_name(str(tmp_path / "none")) is not None


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]
