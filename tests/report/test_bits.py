from lightning_cost.report.bits import bits
from lightning_cost.report.html import render_report


def test_splits_and_options_are_told(make_report):
    text = str(bits(make_report()))
    assert "out of reach" in text
    assert "chosen" in text
    assert "8.00 M MACs" in text
    assert "int8: harm 2e-05, 80.0 kB" in text
    assert "0.004" in text
    assert "size, all channels" in text


def test_one_scheme_for_all_layers_has_no_such_part(make_report):
    report = make_report()
    report["quantization"]["choice"] = None
    assert bits(report) is None
    assert "Bits of each layer" not in render_report(report)
    assert bits(make_report(quantization=None)) is None


def test_names_are_escaped_and_harm_may_have_no_bounds(make_report):
    report = make_report()
    options = report["quantization"]["choice"]["options"]
    options["<script>"] = options.pop("block")
    options["<script>"][0]["harm"] = None
    text = str(bits(report))
    assert "<script>" not in text
    assert "harm not finite" in text
