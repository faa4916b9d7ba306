"""What a sweep takes beside its trainings: deciding feasibility, asking and telling.

``judged``: configurations of a space of ResNets (61 widths, three depths, a continuous learning
rate) judged a second, against limits on macs, params, size_bytes and the estimated latency of a
described device: where every structure is new, where none is, and as a random sampler draws them.
``trial``: seconds of the sweeper for each trial of a sweep whose jobs train nothing, but open the
study and report eight epochs as a training does. ``ask``: the same where 1,000 trials have
finished, by sampler. CPU time of one thread.
"""

import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import Trial
from results_file import ResultsFile, argument_parser

from lightning_cost.cli import register_schemas
from lightning_cost.hardware.catalogue import conf_dir
from lightning_cost.job import build_data, build_network
from lightning_cost.sweep.composition import Composition
from lightning_cost.sweep.feasibility import Feasibility, Verdict
from lightning_cost.sweep.link import StudyLink
from lightning_cost.sweep.loop import Job, StudyLoop
from lightning_cost.sweep.outcome import OUTCOME, Outcome
from lightning_cost.sweep.settings import SweepSettings
from lightning_cost.sweep.space import Space
from lightning_cost.sweep.storage import open_storage, open_study, url_of
from lightning_cost.sweep.sweeper import judge_of

NAME = "sweep_speed"
WANTED_A_SECOND, WANTED_TRIAL_S, WANTED_ASK_S = 200.0, 0.3, 1.0
WIDTHS, DEPTHS = range(4, 65), range(1, 4)
SAMPLERS = ("tpe", "nsga2", "cmaes", "grid", "random", "gp")
NUM_FINISHED, NUM_EPOCHS = 1_000, 8
WORDS = [
    "hardware=raspberry_pi_4",
    "budget=none",
    "budget.latency_ms=0.5",
    "budget.macs=1e8",
    "budget.params=1e6",
    "budget.size_bytes=4e6",
    "model=resnet8",
    "model._target_=lightning_cost.zoo.resnet.ResNet",
    "compress=none",
    f"model.width=range({WIDTHS.start},{WIDTHS.stop})",
    f"+model.blocks_per_stage=range({DEPTHS.start},{DEPTHS.stop})",
]
RATE = "trainer.learning_rate=tag(log, interval(1e-3,1e-1))"
RATES = "trainer.learning_rate=choice(0.001,0.002,0.005,0.01,0.02,0.03,0.05,0.1)"


def space_of(*words: str) -> Space:
    return Space.of(OverridesParser.create().parse_overrides(list(words)))


@contextmanager
def judging(folder: Path) -> Iterator[Callable[[Mapping[str, Any]], Verdict]]:
    """A judge that knows nothing yet but how to compose, as a sweep begins."""
    space = space_of(*WORDS, RATE)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composition = Composition(space, lambda words: compose("fit", list(words)), lambda _: False)
        first = {key: entry.example for key, entry in space.parameters.items()}
        composition(first)
        judge = judge_of(composition, Feasibility(build_data, build_network, folder))
        judge(first)  # reads the data
        yield judge


def judged(seed: int, num_structures: int, num_sampled: int) -> Iterator[dict[str, Any]]:
    """Configurations a second: of new structures, of known ones, and as they are drawn."""
    structures = list(itertools.product(WIDTHS, DEPTHS))[1:]
    chance = random.Random(seed)

    def settings(width: int, depth: int) -> dict[str, Any]:
        rate = 10 ** chance.uniform(-3, -1)
        return {
            "model.width": width,
            "model.blocks_per_stage": depth,
            "trainer.learning_rate": rate,
        }

    drawn = chance.sample(structures, num_structures)
    again = [settings(*structure) for structure in chance.choices(drawn, k=10_000)]
    sampled = [settings(chance.choice(WIDTHS), chance.choice(DEPTHS)) for _ in range(num_sampled)]
    with tempfile.TemporaryDirectory() as folder, judging(Path(folder)) as judge:
        for method, batch in (("new", [settings(*each) for each in drawn]), ("known", again)):
            yield {"case": "judged", "method": method, **rate_of(judge, batch)}
    with tempfile.TemporaryDirectory() as folder, judging(Path(folder)) as judge:
        yield {"case": "judged", "method": "sampled", **rate_of(judge, sampled)}


def rate_of(
    judge: Callable[[Mapping[str, Any]], Verdict], batch: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    num_feasible = sum(judge(settings).is_feasible for settings in batch)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "num_configurations": len(batch),
        "num_feasible": num_feasible,
        "per_s": len(batch) / cpu,
        "per_s_by_the_clock": len(batch) / wall,
    }


class Jobs:
    """What a training says of itself, without the training."""

    def __init__(self, sweep_dir: Path, seed: int) -> None:
        self.sweep_dir, self._chance = sweep_dir, random.Random(seed)

    def __call__(self, jobs: Sequence[Job]) -> list[BaseException | None]:
        """Open the study as each job does, report, and say that it finished."""
        for job in jobs:
            link = StudyLink.load(self.sweep_dir)
            study = optuna.load_study(study_name=link.study, storage=open_storage(link.url))
            trial = Trial(study, study.get_trials(deepcopy=False)[job.number]._trial_id)
            value = self._chance.random()
            for epoch in range(NUM_EPOCHS):
                trial.report(value, epoch)
            outcome = Outcome(state="finished", values=(value,))
            trial.set_user_attr(OUTCOME, outcome.to_dict())
        return [None for _ in jobs]


def trials(sampler: str, seed: int, *, num_finished: int, num_trials: int) -> dict[str, Any]:
    """Seconds of the sweeper for a trial, where ``num_finished`` have finished before."""
    space = space_of(*WORDS, RATES if sampler == "grid" else RATE)
    settings = SweepSettings(
        num_trials=num_finished + num_trials, sampler=sampler, seed=seed, max_infeasible=10_000
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = url_of(None, folder)
        study = open_study(url, space, settings)
        directions = {each.name: each.direction for each in settings.found}
        link = StudyLink(url=url, study=settings.study, objectives=directions, pruner="none")
        link.save(folder)
        study.add_trials(finished(space, seed, num_finished))
        loop = StudyLoop(
            study=study,
            space=space,
            settings=settings,
            sweep_dir=folder,
            judge=lambda _: Verdict(predicted={"macs": 1.0}, limits={"macs": 2.0}),
            launch=Jobs(folder, seed),
        )
        wall, cpu = time.perf_counter(), time.process_time()
        loop.run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "method": sampler,
        "num_finished": num_finished,
        "num_trials": num_trials,
        "s_per_trial": cpu / num_trials,
        "s_per_trial_by_the_clock": wall / num_trials,
    }


def finished(space: Space, seed: int, number: int) -> list[optuna.trial.FrozenTrial]:
    chance = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    asked = [chance.ask(space.distributions) for _ in range(number)]
    drawn = random.Random(seed)
    return [
        optuna.trial.create_trial(
            params=trial.params,
            distributions=trial.distributions,
            value=drawn.random(),
            system_attrs={"constraints:macs": -0.5},
        )
        for trial in asked
    ]


def line(row: dict[str, Any]) -> str:
    if row["case"] == "judged":
        return (
            f"{row['case']:<8}{row['method']:<9}{row['per_s']:>12,.0f} a second (by the clock "
            f"{row['per_s_by_the_clock']:,.0f}), of {row['num_configurations']:,}"
        )
    return (
        f"{row['case']:<8}{row['method']:<9}{row['s_per_trial']:>12.3f} s a trial (by the clock "
        f"{row['s_per_trial_by_the_clock']:.3f}), {row['num_finished']:,} finished before"
    )


def main() -> None:
    """Print JSON lines and a table, and save both."""
    quick = "a third of the structures, 100 finished trials"
    args = argument_parser(__doc__, seeds=[0], quick=quick).parse_args()
    results = ResultsFile(NAME, quick=args.quick)
    register_schemas()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    num_structures, num_sampled = (60, 200) if args.quick else (182, 2_000)
    num_finished = 100 if args.quick else NUM_FINISHED
    for seed in args.seeds:
        results.progress("judged")
        for row in judged(seed, num_structures, num_sampled):
            results.add({**row, "seed": seed})
        results.progress("trial")
        row = trials("tpe", seed, num_finished=0, num_trials=30)
        results.add({"case": "trial", **row, "seed": seed})
        for sampler in SAMPLERS:
            results.progress(f"ask, {sampler}")
            row = trials(sampler, seed, num_finished=num_finished, num_trials=2)
            results.add({"case": "ask", **row, "seed": seed})
    results.save(
        [
            *map(line, results.rows),
            f"asked: {WANTED_A_SECOND:.0f} judged a second; at most {WANTED_TRIAL_S} s a trial, "
            f"and {WANTED_ASK_S:.0f} s to ask",
        ]
    )


if __name__ == "__main__":
    main()
