"""What is wrong with the words of a command, where Hydra's own answer does not help."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from lightning_cost.hardware.catalogue import conf_dir

FULL_ERROR = "HYDRA_FULL_ERROR"
"""The variable by which users of Hydra ask for tracebacks."""
REFUSALS = (HydraException, OmegaConfBaseException)
"""What composing a configuration raises."""
_BESIDE_THE_POINT = ("object_type=", "reference_type=", "See https:")
_BY_PLUS = "To append to your config use +"
_MOST_SHOWN = 300


def refusal(error: Exception, words: Sequence[str]) -> str:
    """What is wrong with the words of a command, with a remedy.

    Our own errors say it themselves. Hydra and OmegaConf tell at which rule of theirs they stopped.

    >>> refusal(HydraException("no such key"), ["budget.mac=1"]).partition(";")[0]
    "overrides must make a configuration, got 'budget.mac=1': no such key"
    """
    if not isinstance(error, REFUSALS):
        return str(error)
    if isinstance(error, InstantiationException):
        said = " ".join(str(error).split())
        return (
            f"a _target_ must be built by the settings beside it, got {said}; mend these settings"
        )
    parts = [error, *([error.__cause__] if isinstance(error.__cause__, REFUSALS) else [])]
    lines = [line.strip() for part in parts for line in str(part).splitlines()]
    if not any(line.startswith("reference_type=Dict") for line in lines):
        # Hydra says it of any key, and it helps with those of a mapping alone
        lines = [line for line in lines if not line.startswith(_BY_PLUS)]
    what = " ".join(line for line in lines if line and not line.startswith(_BESIDE_THE_POINT))
    if isinstance(error, OverrideParseException):
        return (
            f"an override must be KEY=VALUE in Hydra's grammar, got {error.override!r} ({what}); "
            "quote a value that is text, as in 'KEY=\"a, b\"', and leave keys of a mapping without "
            "quotes, as in '+compress.quantization.overrides={stages.*:int8}'"
        )
    given = " ".join(words)
    shown = given if len(given) <= _MOST_SHOWN else f"{given[:_MOST_SHOWN]}..."
    return (
        f"overrides must make a configuration, got {shown!r}: {what}; "
        "`lightning-cost fit --help` lists groups and settings"
    )


@contextmanager
def raising() -> Iterator[None]:
    """Let Hydra raise what it would print, as it does where its users ask for tracebacks."""
    is_asked_for = FULL_ERROR in os.environ
    os.environ.setdefault(FULL_ERROR, "1")
    try:
        yield
    finally:
        if not is_asked_for:
            del os.environ[FULL_ERROR]


def unnamed_group(words: list[str]) -> str | None:
    """What is wrong with a group that is not chosen by a name, which Hydra answers a traceback."""
    try:
        parsed = OverridesParser.create().parse_overrides(words)
    except HydraException:
        return None  # Hydra will say so itself
    for entry in parsed:
        folder = conf_dir() / entry.key_or_group
        if entry.is_sweep_override() or not folder.is_dir():
            continue
        value = entry.value()
        if entry.is_delete() and value is None:
            continue
        if not isinstance(value, (str, list)):
            known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            return (
                f"{entry.key_or_group} must be one of {known}, got {value!r}; or set a value in "
                f"it, as in {entry.key_or_group}.NAME=VALUE"
            )
    return None
