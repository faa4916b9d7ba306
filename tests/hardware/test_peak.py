import pytest

from lightning_cost.hardware.peak import measured_peak_gmacs


def test_the_fastest_product_counts():
    times = iter([0.0, 0.5, 0.6, 1.2])
    found = measured_peak_gmacs(seconds=1.0, clock=lambda: next(times))
    assert found == pytest.approx(768**3 / 0.1 / 1e9)


@pytest.mark.parametrize("bits", [16, 32])
def test_this_machine_multiplies(bits):
    assert measured_peak_gmacs(bits=bits, seconds=0.01) > 0
