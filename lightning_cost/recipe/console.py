"""Keeping the terminal to what concerns the run."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("pytorch_lightning.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")
_ADVICE = (
    "litlogger",
    "litmodels",
    "TPU available",
    "`weights_only` was not set",
    "estimate number",
)
_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"Checkpoint directory .* exists and is not empty",
    r"The number of training batches .* is smaller than the logging interval",
    r"The '.*_dataloader' does not have many workers",
)


@contextmanager
def without_advice() -> Iterator[None]:
    """Leave out Lightning's advertisements and its advice on choices that ``fit`` made itself."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(_concerns_the_run)
    try:
        with warnings.catch_warnings():
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(_concerns_the_run)


def _concerns_the_run(record: logging.LogRecord) -> bool:
    return not any(text in record.getMessage() for text in _ADVICE)
