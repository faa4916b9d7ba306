from lightning_cost.report.html import render_report
from lightning_cost.report.quantization import quantization


def test_size_accuracy_and_energy_are_told(make_report):
    text = str(quantization(make_report()))
    assert "int8 in 2 layers, flightnn in 1 layers" in text
    assert "54.0 kB, 20.0 times smaller than the dense network in float32 (1.08 MB)" in text
    assert "87.50 %" in text
    assert "91.25 %" in text
    assert "88.75 % in 53.7 kB by the formula" in text
    assert "0.250 mJ with multipliers, 0.160 mJ with units that shift and add" in text
    assert "in their place (eyeriss: Eyeriss, 2016; shifts from ShiftAddNet, 2020)" in text
    assert "attention: it is not called in a forward pass" in text


def test_powers_of_two_are_said_not_to_speed_up_a_cpu(make_report):
    text = str(quantization(make_report()))
    assert "no faster than int8" in text
    assert "neither was trained with rounding" in text
    assert "Their latency was not measured" in text
    report = make_report()
    for layer in report["quantization"]["layers"]:
        layer["scheme"] = "int8"
    report["quantization"]["integers"] = None
    assert "ntegers of as many bits" not in str(quantization(report))
    assert "no faster than int8" not in str(quantization(report))


def test_a_network_that_was_not_quantised_has_no_such_part(make_report):
    report = make_report(quantization=None)
    assert quantization(report) is None
    assert "Quantisation" not in render_report(report)


def test_names_are_escaped(make_report):
    report = make_report()
    report["quantization"]["left_float"] = {"<script>alert(1)</script>": "<b>"}
    text = str(quantization(report))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
