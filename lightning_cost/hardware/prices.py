"""What electricity, emissions and rented machines cost, each figure with its source and date."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Self

from lightning_cost.hardware.catalogue import conf_dir, read_description
from lightning_cost.hardware.price_file import (
    Figure,
    parse_devices,
    parse_figure,
    parse_pue,
    parse_section,
)

WORLD = "world"
DEFAULT = "default"
_FILE = "prices.yaml"  # not in a folder of its own: Hydra would take prices= for a group
_SECTIONS = ("electricity", "grid", "rents")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rent:
    """An instance that can be rented.

    Args:
        per_hour: Of the whole instance.
        hardware: Name of its devices in the catalogue.
        num_devices: How many of them it has.
    """

    per_hour: Figure
    hardware: str
    num_devices: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Prices in US dollars, emissions in kilograms of CO₂.

    Args:
        name: Of the price list.
        electricity: USD per kWh by region; ``"world"`` is always among them.
        grid: kg CO₂ per kWh by region; ``"world"`` is always among them.
        pue: Power usage effectiveness: what a data centre draws for each watt of computing.
        rents: Instances by name.
    """

    name: str
    electricity: dict[str, Figure]
    grid: dict[str, Figure]
    pue: Figure
    rents: dict[str, Rent]

    @classmethod
    def default(cls) -> Self:
        """The list that comes with the package.

        >>> Prices.default().co2_kg_per_kwh().value
        0.445
        """
        return cls._parse(read_description(conf_dir() / _FILE))

    @classmethod
    def load(cls, name_or_path: str | Path = DEFAULT) -> Self:
        """The default list, or a file of your own laid over it, entry by entry.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If an entry is unknown, incomplete, negative, not finite, without its unit,
                or in a currency without an exchange rate.
        """
        if str(name_or_path) == DEFAULT:
            return cls.default()
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            raise ValueError(
                f"prices must be {DEFAULT!r} or the path of a YAML file, got {str(path)!r}; "
                f"see conf/{_FILE}"
            )
        own = read_description(path)
        merged = read_description(conf_dir() / _FILE) | {"name": path.stem}
        for section, entries in own.items():
            if section in _SECTIONS and isinstance(entries, Mapping):
                merged[section] = {**merged[section], **entries}
            else:
                merged[section] = entries
        return cls._parse(merged)

    def usd_per_kwh(self, region: str = WORLD) -> Figure:
        """The price of electricity.

        Raises:
            ValueError: If the list does not know the region.
        """
        return _of_region(self.electricity, region, "electricity")

    def co2_kg_per_kwh(self, region: str = WORLD) -> Figure:
        """The intensity of the grid.

        Raises:
            ValueError: If the list does not know the region.
        """
        return _of_region(self.grid, region, "grid")

    def usd_per_device_hour(self, hardware: str) -> Figure | None:
        """The lowest rent of one device of that name, or ``None`` where none is listed."""
        found = [
            Figure(
                value=rent.per_hour.value / rent.num_devices,
                unit=rent.per_hour.unit,
                source=rent.per_hour.source,
                date=rent.per_hour.date,
                entry=rent.per_hour.entry,
            )
            for rent in self.rents.values()
            if rent.hardware == hardware
        ]
        return min(found, key=lambda figure: figure.value, default=None)

    @classmethod
    def _parse(cls, content: Mapping[str, Any]) -> Self:
        known = ("name", "exchange", "pue", *_SECTIONS)
        unknown = sorted(set(content) - set(known))
        if unknown:
            raise ValueError(
                f"a price file must have known entries ({', '.join(known)}), got "
                f"{', '.join(unknown)}; check the spelling"
            )
        rates = {"USD": 1.0}
        for currency, entry in parse_section(content, "exchange").items():
            rates[currency] = parse_figure(entry, f"exchange.{currency}", rates={"USD": 1.0}).value
        figures = {
            section: {
                name: parse_figure(entry, f"{section}.{name}", rates=rates)
                for name, entry in parse_section(content, section).items()
            }
            for section in _SECTIONS
        }
        rents = {
            name: Rent(per_hour=figures["rents"][name], **parse_devices(entry, f"rents.{name}"))
            for name, entry in parse_section(content, "rents").items()
        }
        return cls(
            name=str(content.get("name", "")),
            electricity=figures["electricity"],
            grid=figures["grid"],
            pue=parse_pue(content.get("pue")),
            rents=rents,
        )


def usd_per_million_rented(
    *, usd_per_hour: float, latency_ms: float, batch_size: int = 1, utilisation: float = 1.0
) -> float:
    """Rent for a million inferences.

    Args:
        usd_per_hour: Of the device.
        latency_ms: Of one batch, batches one after another.
        batch_size: Inferences in a batch.
        utilisation: Share of the rented time in which there is something to do, in (0, 1].

    >>> round(usd_per_million_rented(usd_per_hour=3.6, latency_ms=10.0, utilisation=0.5), 6)
    20.0

    Raises:
        ValueError: If ``utilisation`` is not in (0, 1].
    """
    check_utilisation(utilisation)
    hours = latency_ms / 3.6e6 / batch_size * 1e6
    return hours * usd_per_hour / utilisation


def usd_per_million_owned(
    *, energy_mj: float, usd_per_kwh: float, pue: float = 1.0, batch_size: int = 1
) -> float:
    """Electricity for a million inferences on a machine of one's own; its purchase is left out.

    >>> usd_per_million_owned(energy_mj=3600.0, usd_per_kwh=0.25, pue=2.0)
    0.5
    """
    joules = energy_mj / 1e3 / batch_size * 1e6
    return joules * pue * usd_per_kwh / 3.6e6


def check_utilisation(utilisation: float) -> float:
    """``utilisation``, which must be a share.

    Raises:
        ValueError: If it is not in (0, 1].
    """
    if not 0 < utilisation <= 1:
        raise ValueError(
            f"utilisation must be a share in (0, 1], got {utilisation}; "
            "0.4 means that two fifths of the peak, or of the time, are used"
        )
    return utilisation


def _of_region(figures: Mapping[str, Figure], region: str, section: str) -> Figure:
    if region not in figures:
        raise ValueError(
            f"region must be one of {', '.join(figures)} for {section}, got {region!r}; "
            f"or add it under {section}: in a price file of your own"
        )
    return figures[region]
