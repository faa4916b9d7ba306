from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.cost.resource import Resource
from lightning_cost.report.document import Stage
from lightning_cost.report.table import aligned, cost_table


def cells_of(table, name):
    line = next(line for line in table.splitlines() if line.startswith(name))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_each_value_says_how_it_was_had(report):
    table = cost_table(report)
    assert cells_of(table, "latency") == [
        "latency",
        "2.94 ms measured on onnxruntime",
        "0.690 ms measured on openvino",
        "4.26× less",
        "0.800 ms",
        "13.8 % kept",
    ]
    assert cells_of(table, "energy")[1:3] == ["22.1 mJ estimated", "5.17 mJ estimated"]
    assert cells_of(table, "val_acc")[3] == "−0.69 points"
    assert "latency, dense: onnxruntime, 1 thread, batch 1, float32," in table


def test_what_is_deployed_in_integers_is_not_called_float(report):
    kinds = "weights of 8 bits, floats in float32,"
    assert f"latency, as deployed: openvino, 1 thread, batch 1, {kinds}" in cost_table(report)
    report["final"]["bits"] = {}
    assert "latency, as deployed: openvino, 1 thread, batch 1, float32," in cost_table(report)


def test_what_is_not_known_is_named(make_report):
    table = cost_table(make_report(final=Stage(cost={}), limits={Resource.macs: 2e7}))
    assert cells_of(table, "MACs")[2:] == ["not known"] * 2 + ["20.0 M MACs", "not kept: unknown"]


def test_a_broken_limit_stands_out(make_report):
    table = cost_table(make_report(limits={Resource.macs: 4e7}))
    assert cells_of(table, "MACs")[-1] == "-16.6 % NOT KEPT"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.text("xyz", max_size=9)), min_size=1))
def test_columns_start_at_one_place(pairs):
    lines = aligned([("k", "value"), *pairs]).splitlines()
    assert len(lines) == len(pairs) + 2
    assert [line[3:] for line in lines[2:]] == [value for _, value in pairs]
