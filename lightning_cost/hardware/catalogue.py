"""The device descriptions that come with the package, and reading one from a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_cost.cost.documents import UnreadableError, read_yaml


def conf_dir() -> Path:
    """The directory of the configuration files: in the wheel, or in a checkout.

    Raises:
        FileNotFoundError: If neither holds one, as after an incomplete installation.
    """
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "hardware").is_dir():
            return candidate
    raise FileNotFoundError(
        f"the configuration files must lie in {package / 'conf'}, got none there; "
        "install lightning-cost again"
    )


def known_hardware() -> list[str]:
    """The names that :meth:`Hardware.load` takes.

    >>> "raspberry_pi_4" in known_hardware()
    True
    """
    return sorted(path.stem for path in (conf_dir() / "hardware").glob("*.yaml"))


def described(name: str) -> dict[str, Any]:
    """The description of the device ``name``.

    Raises:
        ValueError: If there is none of that name; lists the known ones.
    """
    if name not in known_hardware():
        raise ValueError(
            f"hardware must be one of {', '.join(known_hardware())}, got {name!r}; "
            "describe your own in a file and use Hardware.from_yaml(path)"
        )
    return read_description(conf_dir() / "hardware" / f"{name}.yaml")


def read_description(path: Path) -> dict[str, Any]:
    """The fields in a YAML file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not hold names and values.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"path must be that of a hardware description, got {str(path)!r}, which is no file; "
            f"or load one of {', '.join(known_hardware())} by name"
        )
    try:
        content = read_yaml(path)
    except UnreadableError as error:
        raise ValueError(
            f"a description must be a YAML file of names and values, got {error} in "
            f"{str(path)!r}; see conf/hardware/raspberry_pi_4.yaml"
        ) from None
    if not isinstance(content, Mapping):
        raise ValueError(
            f"a hardware description must hold names and values, got {type(content).__name__} in "
            f"{str(path)!r}; see conf/hardware/raspberry_pi_4.yaml"
        )
    return {str(key): value for key, value in content.items() if key != "defaults"}
