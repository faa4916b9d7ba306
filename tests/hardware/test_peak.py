import pytest
import torch

from lightning_cost.hardware.peak import measured_peak_gmacs


def test_the_fastest_product_counts():
    times = iter([0.0, 0.5, 0.6, 1.2])
    found = measured_peak_gmacs(seconds=1.0, clock=lambda: next(times))
    assert found == pytest.approx(768**3 / 0.1 / 1e9)


@pytest.mark.parametrize("bits", [16, 32])
def test_this_machine_multiplies(bits):
    assert measured_peak_gmacs(bits=bits, seconds=0.01) > 0


def test_threads_are_those_given_and_as_before_afterwards():
    before, seen = torch.get_num_threads(), []

    def clock():
        seen.append(torch.get_num_threads())
        return float(len(seen))

    measured_peak_gmacs(num_threads=before + 1, clock=clock)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
