import pytest

from lightning_cost.report.spend import SPEND_UNITS, all_flops, complete_spend, spend_entries


def test_spend_that_nobody_recorded_is_named_and_never_zero(make_report):
    spend = make_report(spend={})["spend"]
    assert {entry["value"] for entry in spend.values()} == {None}
    assert {entry["assumptions"] for entry in spend.values()} == {"not recorded"}


def test_entries_fill_a_report_and_what_is_none_is_not_known():
    spend = complete_spend(spend_entries({"wall_clock_s": 3.0, "usd": None}))
    assert list(spend) == list(SPEND_UNITS)
    assert spend["wall_clock_s"] == {
        "value": 3.0,
        "unit": "s",
        "method": "measured",
        "assumptions": "",
    }
    assert (spend["usd"]["value"], spend["usd"]["method"]) == (None, None)
    assert spend["usd"]["assumptions"] == "not known"


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (("exact", "exact", "exact"), "exact"),
        (("exact", "measured", "exact"), "measured"),
        (("exact", "estimated", "measured"), "estimated"),
    ],
)
def test_a_sum_is_as_sure_as_its_less_sure_part(methods, expected):
    parts = zip(("train_flops", "eval_flops", "search_flops"), methods, strict=True)
    spent = {name: {"value": 2.0, "method": method} for name, method in parts}
    assert all_flops(spent) == {"value": 6.0, "unit": "FLOP", "method": expected}


def test_a_sum_with_an_unknown_part_is_unknown():
    spent = complete_spend(spend_entries({"train_flops": 2.0}))
    assert all_flops(spent) == {"value": None, "unit": "FLOP", "method": None}


def test_unknown_names():
    with pytest.raises(ValueError, match=r"spend must name one of train_flops, .*, got 'watts'"):
        spend_entries({"watts": 3.0})
    with pytest.raises(ValueError, match=r"spend must name one of train_flops, .*, got 'eur'"):
        complete_spend({"eur": {}})


def test_measured_and_estimated_energy_are_two_entries():
    entries = spend_entries(
        {"energy_kwh": 2.0, "measured_energy_kwh": 1.5}, {"measured_energy_kwh": "RAPL"}
    )
    assert entries["energy_kwh"]["method"] == "estimated"
    assert entries["measured_energy_kwh"] == {
        "value": 1.5,
        "method": "measured",
        "assumptions": "RAPL",
    }


def test_flops_are_exact_only_where_they_are():
    entries = spend_entries({"train_flops": 2.0}, estimated=["train_flops"])
    assert entries["train_flops"]["method"] == "estimated"
    assert entries["eval_flops"]["method"] == "exact"
    assert entries["search_flops"]["method"] == "estimated"
