"""Hostile command lines, and configurations of runs that are to be resumed."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random

import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from lightning_cost.cli import main
from lightning_cost.job import BAD_INPUT, KEPT
from lightning_cost.recipe.config import RunConfig
from tests.gauntlet.hostile.damage import damaged, odd_text
from tests.gauntlet.hostile.trial import SilentError, Subject

_KEYS = (
    *("budget.macs", "budget.latency_ms", "budget.size_bytes", "training.wall_clock_s", "seed"),
    *("model.width", "model._target_", "model", "data", "hardware", "hardware.num_threads"),
    *("compress.schedule.num_steps", "compress.search.num_candidates", "compress.quantize"),
    *("compress.quantize_epochs", "trainer.devices", "utilisation", "num_devices", "nothing"),
    *("~model", "+x", "++budget.x", "hydra.run.dir", "transformer.width", "transformer.tokens"),
)
_VALUES = (
    *("1", "0", "-1", "nan", "inf", "1e999", "9" * 400, "null", "true", "''", "[]", "{}", "{a:"),
    *("50%", "2 parsecs", "int4", "[int8,int8]", "os.system", "no.such.thing", "${seed}", "${x}"),
    *(
        "${oc.env:NOT_THERE}",
        "a" * 3000,
        "<script>",
        "\\",
        '"',
        "é",
        "1,2",
        "range(1,3)",
        "[" * 200,
    ),
)


def overrides(random: Random, folder: Path) -> None:
    """A plan with one to three overrides that hardly make sense."""
    words = [
        f"{random.choice(_KEYS)}={random.choice(_VALUES)}" for _ in range(random.randrange(1, 4))
    ]
    usual = ["plan", "hardware=raspberry_pi_4", "data.num_samples=100"]
    _require_answer([*usual, *words], names=[part for word in words for part in _parts(word)])


@cache
def _config() -> str:
    composed = OmegaConf.structured(RunConfig)
    composed.model = {"_target_": "lightning_cost.zoo.resnet.resnet8", "in_channels": 1}
    composed.data = {"_target_": "lightning_cost.zoo.data.ImageData", "name": "digits"}
    composed.budget.macs = "50%"
    return OmegaConf.to_yaml(composed)


def resumed(random: Random, folder: Path) -> None:
    """The directory of a run that was interrupted before its first checkpoint, damaged."""
    if random.random() < 0.2:
        text = odd_text(random)
    else:
        text = yaml.safe_dump(damaged(yaml.safe_load(_config()), random))
    (folder / "config.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    if _require_answer(["fit", f"resume='{folder}'"]) == KEPT:
        raise SilentError("a run without a checkpoint was resumed")


def _require_answer(words: list[str], names: Sequence[str] = ()) -> int:
    """The exit code of a command line; raises what it says where it refuses.

    Args:
        words: Of the command line.
        names: One of them has to be in what it says.
    """
    told = io.StringIO()
    GlobalHydra.instance().clear()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            code = main(words)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else BAD_INPUT
    finally:
        GlobalHydra.instance().clear()
    text = told.getvalue()
    if "Traceback" in text:
        raise RuntimeError(f"{words[1:]}: {text[-300:]}")
    if code not in (KEPT, BAD_INPUT, 1):
        raise RuntimeError(f"{words[1:]} ended with {code}")
    if code != KEPT and not text.strip():
        raise RuntimeError(f"{words[1:]} ended with {code} and without a word")
    if code != KEPT and names and not any(name in text for name in names):
        raise RuntimeError(f"{words[1:]} ended with {code}, and none is named: {text[-300:]}")
    if code != KEPT:
        raise ValueError(text)
    return code


def _parts(word: str) -> Iterator[str]:
    """What of an override a message may name: the last part of its key, or its value."""
    key, _, value = word.partition("=")
    yield from filter(None, (key.lstrip("~+").rpartition(".")[2], value.strip("'")))


SUBJECTS: tuple[Subject, ...] = (
    Subject(name="overrides", hand_in=overrides, weight=0.05),
    Subject(name="resumed configurations", hand_in=resumed, weight=0.05),
)
