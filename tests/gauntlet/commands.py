"""The commands that are killed, and how each is gone on with."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from lightning_cost import cli
from lightning_cost.recipe.run_dir import CONFIG_NAME, is_finished
from tests.gauntlet import library_fit
from tests.gauntlet.ends import library_differences, run_differences
from tests.gauntlet.starting import Started, fork, fresh

LostByRun: TypeAlias = Mapping[str, Mapping[str, float]]

PIPELINE = (
    "hardware=raspberry_pi_4",
    "model=resnet8",
    "model.width=8",
    "data.batch_size=128",
    "data.search_ratio=0.3",
    "trainer=quick",
    "trainer.accelerator=cpu",
    "budget.macs=60%",
    "compress=quick",
    "compress.channels.multiple=4",
    "compress.schedule.warmup_epochs=2",
    "compress.schedule.recover_epochs=2",
    "compress.search.num_candidates=6",
    "compress.search.calibration_samples=128",
    "compress.search.search_samples=128",
    "compress.quantize_epochs=2",
)
"""Warm-up, search, two pruning steps, recovery, quantisation, deployment: seconds of work."""


class Command(ABC):
    """A command that writes to a folder, and goes on there when it is given again."""

    name: str
    module: str
    is_always_fresh: bool
    """Whether it starts processes of its own, which a fork cannot."""

    @abstractmethod
    def words(self, folder: Path) -> list[str]:
        """What to start it with now."""

    @abstractmethod
    def main(self, words: list[str]) -> int:
        """Carry it out in this process."""

    @abstractmethod
    def run_dirs(self, folder: Path) -> list[Path]:
        """The directories of the runs that it has begun, the latest last."""

    def is_finished(self, run_dir: Path) -> bool:
        """Whether one of its runs came to its end."""
        return is_finished(run_dir)

    def is_done(self, folder: Path) -> bool:
        """Whether there is nothing left to go on with."""
        return all(map(self.is_finished, self.run_dirs(folder)))

    @abstractmethod
    def differences(self, whole: Path, found: Path, lost: LostByRun) -> Iterator[str]:
        """Where the end differs from that of the uninterrupted command.

        Args:
            whole: Where that was carried out.
            found: Where the command was killed.
            lost: FLOPs that were used and lost with kills, by name, by the run directory's name.
        """

    def start(self, folder: Path, *, is_fresh: bool) -> Started:
        """Start it, or go on with it."""
        words, log = self.words(folder), folder / "printed.log"
        if is_fresh:
            return fresh(["-m", self.module, *words], folder=folder, log=log)
        return fork(lambda: self.main(words), folder=folder, log=log)


@dataclass(frozen=True, kw_only=True)
class Fit(Command):
    """``lightning-cost fit``, gone on with by ``resume=``.

    Args:
        name: Of the case.
        settings: Overrides of the command line.
    """

    name: str
    settings: tuple[str, ...] = ()
    module: str = "lightning_cost.cli"
    is_always_fresh: bool = False

    def words(self, folder: Path) -> list[str]:
        if (folder / "run" / CONFIG_NAME).exists():
            return ["fit", "resume=run"]
        return ["fit", *PIPELINE, *self.settings, "run_dir=run"]

    def main(self, words: list[str]) -> int:
        return cli.main(words)

    def run_dirs(self, folder: Path) -> list[Path]:
        return [folder / "run"]

    def differences(self, whole: Path, found: Path, lost: LostByRun) -> Iterator[str]:
        yield from run_differences(whole / "run", found / "run", lost.get("run", {}))


@dataclass(frozen=True, kw_only=True)
class Sweep(Command):
    """``lightning-cost fit -m``, gone on with by the same words.

    Args:
        name: Of the case.
        budgets: Of the runs.
    """

    name: str
    budgets: tuple[str, ...] = ("70%", "60%")
    module: str = "lightning_cost.cli"
    is_always_fresh: bool = False

    def words(self, folder: Path) -> list[str]:
        budgets = f"budget.macs={','.join(self.budgets)}"
        return ["fit", "-m", *PIPELINE, budgets, "hydra.sweep.dir=sweep"]

    def main(self, words: list[str]) -> int:
        return cli.main(words)

    def run_dirs(self, folder: Path) -> list[Path]:
        runs = (folder / "sweep" / str(number) for number in range(len(self.budgets)))
        return [run for run in runs if run.exists()] or [folder / "sweep" / "0"]

    def is_done(self, folder: Path) -> bool:
        return (folder / "sweep" / "report.html").exists()

    def differences(self, whole: Path, found: Path, lost: LostByRun) -> Iterator[str]:
        for number in range(len(self.budgets)):
            runs = (folder / "sweep" / str(number) for folder in (whole, found))
            for each in run_differences(*runs, lost.get(str(number), {})):
                yield f"run {number}: {each}"


@dataclass(frozen=True, kw_only=True)
class LibraryFit(Command):
    """A script with a Trainer of its own, gone on with by the same words.

    Args:
        variant: One of ``library_fit.VARIANTS``.
    """

    variant: str
    module: str = "tests.gauntlet.library_fit"
    is_always_fresh: bool = False

    @property
    def name(self) -> str:
        return self.variant

    def words(self, folder: Path) -> list[str]:
        (folder / "run").mkdir(exist_ok=True)
        return [str(folder / "run"), self.variant]

    def main(self, words: list[str]) -> int:
        return library_fit.main(Path(words[0]), words[1])

    def run_dirs(self, folder: Path) -> list[Path]:
        return [folder / "run"]

    def is_finished(self, run_dir: Path) -> bool:
        return (run_dir / library_fit.END_NAME).exists()

    def differences(self, whole: Path, found: Path, lost: LostByRun) -> Iterator[str]:
        yield from library_differences(whole / "run", found / "run", lost.get("run", {}))


TWO_RANKS = ("trainer.devices=2", "trainer.strategy=ddp")

COMMANDS: tuple[Command, ...] = (
    Fit(name="fit"),
    *(LibraryFit(variant=variant) for variant in reversed(library_fit.VARIANTS)),
    Fit(name="fit, bf16", settings=("trainer.precision=bf16-mixed",)),
    Sweep(name="sweep"),
    Fit(name="fit, two ranks", settings=TWO_RANKS, is_always_fresh=True),
)
