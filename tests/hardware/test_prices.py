import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_cost.hardware.catalogue import known_hardware
from lightning_cost.hardware.prices import (
    Prices,
    check_utilisation,
    usd_per_million_owned,
    usd_per_million_rented,
)

PROVENANCE = "source: me, date: '2026-11'"


def load(path, text):
    (path / "mine.yaml").write_text(text)
    return Prices.load(path / "mine.yaml")


def test_every_default_figure_has_its_source_and_date():
    prices = Prices.default()
    rents = [rent.per_hour for rent in prices.rents.values()]
    figures = [*prices.electricity.values(), *prices.grid.values(), prices.pue, *rents]
    assert all(figure.source and figure.date for figure in figures)
    assert len(prices.grid) >= 13
    assert all(0 < figure.value < 1.2 for figure in prices.grid.values())
    assert {rent.hardware for rent in prices.rents.values()} <= set(known_hardware())


def test_the_worlds_figures_are_the_default():
    prices = Prices.load()
    assert prices.co2_kg_per_kwh() == prices.grid["world"]
    assert prices.usd_per_kwh().value == 0.161
    assert str(prices.co2_kg_per_kwh()).startswith("0.445 kg/kWh (grid.world; IEA, Electricity")


def test_a_device_costs_its_share_of_the_instance():
    figure = Prices.default().usd_per_device_hour("nvidia_a100")
    assert figure.value == pytest.approx(32.77 / 8)
    assert Prices.default().usd_per_device_hour("abacus") is None


def test_a_file_of_ones_own_overrides_entry_by_entry(tmp_path):
    prices = load(
        tmp_path,
        f"electricity:\n  world: {{value: 0.30 EUR/kWh, {PROVENANCE}}}\n"
        f"grid:\n  home: {{value: 0.02 kg/kWh, {PROVENANCE}}}\n"
        f"pue: {{value: 1.1, {PROVENANCE}}}\n"
        f"exchange:\n  EUR: {{value: 1.10 USD, {PROVENANCE}}}\n"
        "rents:\n"
        f"  mine: {{value: 8 USD/h, hardware: nvidia_a100, num_devices: 4, {PROVENANCE}}}\n",
    )
    assert prices.name == "mine"
    assert prices.usd_per_kwh().value == pytest.approx(0.33)
    assert prices.co2_kg_per_kwh("home").value == 0.02
    assert prices.co2_kg_per_kwh() == Prices.default().co2_kg_per_kwh()
    assert prices.pue.value == 1.1
    assert prices.usd_per_device_hour("nvidia_a100").value == 2.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"electricity: {{world: {{value: 0.3 EUR/kWh, {PROVENANCE}}}}}",
            r"electricity.world must be in a known currency \(USD\), got '0.3 EUR/kWh'; add its",
        ),
        (
            f"electricity: {{world: {{value: 0.3, {PROVENANCE}}}}}",
            r"electricity.world must be a number with its unit, got 0.3; write .* 0.16 USD/kWh",
        ),
        (
            f"electricity: {{world: {{value: -0.3 USD/kWh, {PROVENANCE}}}}}",
            r"electricity.world must be >= 0 and finite, got -0.3",
        ),
        (
            f"electricity: {{world: {{value: nan USD/kWh, {PROVENANCE}}}}}",
            r"electricity.world must be >= 0 and finite, got nan",
        ),
        (
            f"electricity: {{world: {{value: .nan, {PROVENANCE}}}}}",
            r"electricity.world must be a number with its unit, got nan",
        ),
        (
            f"electricity: {{world: {{value: 0.3 USD/h, {PROVENANCE}}}}}",
            r"electricity.world must be in a unit like that of 0.16 USD/kWh, got '0.3 USD/h'",
        ),
        (
            f"grid: {{world: {{value: 1 lb/kWh, {PROVENANCE}}}}}",
            r"grid.world must be in g/kWh or kg/kWh, got '1 lb/kWh'",
        ),
        (
            "grid: {world: {value: 1 g/kWh, date: '2026'}}",
            r"grid.world of a price file must have a value, a source and a date, got",
        ),
        (
            f"grid: {{world: {{value: 1 g/kWh, unit: kg, {PROVENANCE}}}}}",
            r"grid.world of a price file must have known entries .*, got unit",
        ),
        (f"pue: {{value: 0.9, {PROVENANCE}}}", r"pue must be >= 1, .* got 0.9"),
        (f"pue: {{value: 1.5 W, {PROVENANCE}}}", r"pue must be a ratio without a unit"),
        (
            f"rents: {{mine: {{value: 1 USD/h, {PROVENANCE}}}}}",
            r"rents.mine must name its hardware and num_devices >= 1, got None",
        ),
        ("taxes: 3", r"a price file must have known entries .*, got taxes"),
        ("grid: 3", r"grid of a price file must hold names and figures, got 3"),
    ],
)
def test_a_wrong_price_file(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, text)


def test_no_such_file_list_or_region(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        Prices.load(tmp_path / "nowhere.yaml")
    with pytest.raises(ValueError, match=r"prices must be 'default' or the path of a YAML file"):
        Prices.load("cheap")
    with pytest.raises(ValueError, match=r"region must be one of world, .* for grid, got 'mars'"):
        Prices.default().co2_kg_per_kwh("mars")


@pytest.mark.parametrize("utilisation", [0, -0.1, 1.01, float("nan")])
def test_utilisation_is_a_share(utilisation):
    with pytest.raises(ValueError, match=r"utilisation must be a share in \(0, 1\]"):
        check_utilisation(utilisation)


positive = st.floats(1e-3, 1e3)


@given(rent=positive, latency_ms=positive, batch_size=st.integers(1, 64), use=st.floats(0.01, 1))
def test_rent_is_price_by_requests(rent, latency_ms, batch_size, use):
    requests_per_second = batch_size / (latency_ms / 1e3)
    expected = rent / (3600 * requests_per_second * use) * 1e6
    found = usd_per_million_rented(
        usd_per_hour=rent, latency_ms=latency_ms, batch_size=batch_size, utilisation=use
    )
    assert found == pytest.approx(expected)


@given(energy_mj=positive, price=positive, pue=st.floats(1, 3), batch_size=st.integers(1, 64))
def test_electricity_is_joules_by_price(energy_mj, price, pue, batch_size):
    joules = 1e6 * energy_mj / 1e3 / batch_size
    found = usd_per_million_owned(
        energy_mj=energy_mj, usd_per_kwh=price, pue=pue, batch_size=batch_size
    )
    assert found == pytest.approx(joules * pue * price / 3.6e6)
