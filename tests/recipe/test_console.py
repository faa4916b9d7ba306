import logging
import warnings

import pytest

from lightning_cost.recipe.console import without_advice

RANK_ZERO = logging.getLogger("pytorch_lightning.utilities.rank_zero")
ADVICE = "TPU available: False, using: 0 TPU cores"
ADVICE_WARNING = "The 'train_dataloader' does not have many workers which may be a bottleneck."


def test_advice_is_left_out_and_the_rest_is_said(caplog):
    with caplog.at_level(logging.INFO), without_advice():
        RANK_ZERO.info(ADVICE)
        RANK_ZERO.info("Stopped: model budget kept")
    assert caplog.messages == ["Stopped: model budget kept"]


def test_warnings_of_the_run_are_still_raised():
    with without_advice():
        warnings.warn(ADVICE_WARNING, stacklevel=1)
        with pytest.warns(UserWarning, match="left out openvino"):
            warnings.warn("runtime=auto left out openvino", stacklevel=1)


def test_afterwards_everything_is_said_again(caplog):
    with pytest.raises(KeyError, match="in the run"), without_advice():
        raise KeyError("in the run")
    with caplog.at_level(logging.INFO):
        RANK_ZERO.info(ADVICE)
    assert caplog.messages == [ADVICE]
    with pytest.warns(UserWarning, match="many workers"):
        warnings.warn(ADVICE_WARNING, stacklevel=1)
