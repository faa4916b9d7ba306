"""Does what a search judges candidates by predict their accuracy after recovery?

The trained network, data and recovery of ``pruning.py``. A search as in a fit; of all that it
judged, every so many by the order of their losses, the best and the worst among them, are cut to
the same share of MACs and trained as there. Spearman's rank correlation of the loss that the
search saw with the test accuracy afterwards, over all of them and over the better half.
"""

import torch
from results_file import FOLDER, ResultsFile, Rows, argument_parser
from scipy.stats import spearmanr
from search_speed import search_data
from trained_base import BASE_EPOCHS, Base, base_of

from lightning_cost.budget.model import ModelBudget
from lightning_cost.cost.resource import Resource
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.pruning.search.bases import saliency_bases
from lightning_cost.pruning.search.evolution import EvolutionSearch, RankingEvolution
from lightning_cost.pruning.search.judges import Judges
from lightning_cost.pruning.search.loop import usual_judge
from lightning_cost.pruning.search.memory import SearchMemory
from lightning_cost.pruning.search.panel import CandidatePlans, Panel
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.problem import PruningProblem
from pruning import RECOVERY_STEPS, run_ours

NAME = "search_correlation"


def judged(base: Base, level: float) -> list[tuple[float, GlobalRanking]]:
    """What a search judged, by loss, none rejected at a glance."""
    settings = EvolutionSearch(glance_ratio=0)
    budget = ModelBudget(macs=f"{100 * level}%")
    dense = measure(base.network, base.example, resources=[Resource.macs])
    problem = PruningProblem.of(
        base.network,
        base.example,
        rules=ChannelRules(multiple=1),
        limits=budget.limits(dense),
        preview=lambda pruned: pruned,
        hardware=None,
        dense_cost=dense,
    )
    data = search_data(base.data, settings)
    bases, _ = saliency_bases(problem, settings, data, classification_loss)
    plans = CandidatePlans(problem, bases, problem.floors(), [problem.macs_ratio()])
    generator = torch.Generator().manual_seed(base.seed)
    evolution = RankingEvolution(settings, bases, generator, plans.outcome)
    usual = usual_judge(problem.network, problem.grouping, data, classification_loss, settings)
    judges = Judges()
    judges.appoint(lambda _: usual, None)
    panel = Panel(settings, plans, judges, SearchMemory())
    found = []
    while (candidate := evolution.ask()) is not None:
        [trial] = panel.judge([candidate])
        evolution.tell(candidate, trial.loss)
        found.append((trial.loss, candidate.ranking(bases)))
    return sorted(found, key=lambda entry: entry[0])


def main() -> None:
    parser = argument_parser(
        __doc__, seeds=(0,), quick="3 candidates of a base of 2 epochs, 60 steps each"
    )
    parser.add_argument("--data", default="fashion_mnist", help="a name that ImageData knows")
    parser.add_argument("--levels", type=float, nargs="+", default=[0.125])
    parser.add_argument("--candidates", type=int, default=12)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    num, steps, epochs = settings.candidates, RECOVERY_STEPS, BASE_EPOCHS
    if settings.quick:
        num, steps, epochs = 3, 60, 2
    results = ResultsFile(NAME, quick=settings.quick)
    lines = []
    for seed in settings.seeds:
        base = base_of(settings.data, seed, epochs=epochs)
        name = f"{'quick_' if settings.quick else ''}seed{seed}.jsonl"
        rows = Rows(FOLDER / NAME / name, results)
        for level in settings.levels:
            case = f"{100 * level:g} % of MACs"
            found = judged(base, level)
            chosen = [found[round(place * (len(found) - 1) / (num - 1))] for place in range(num)]
            own = []
            for place, (loss, ranking) in enumerate(chosen):

                def run(
                    loss: float = loss, ranking: GlobalRanking = ranking, level: float = level
                ) -> dict[str, object]:
                    _, row = run_ours(base, "ours", level, steps, ranking=ranking)  # noqa: B023
                    return {"seed": base.seed, "loss": loss, **row}  # noqa: B023

                own.append(rows.get(case, f"candidate {place + 1} of {num}", run))
                results.add(own[-1])
            lines += summary(case, seed, own)
    results.save(lines)


def summary(case: str, seed: int, rows: list[dict[str, float]]) -> list[str]:
    """The candidates, and the correlation."""
    pairs = [(row["loss"], row["test_accuracy_percent"]) for row in rows]
    half = pairs[: len(pairs) // 2]
    whole, better = (spearmanr(*zip(*part, strict=True)).statistic for part in (pairs, half))
    told = ", ".join(f"{loss:.3f}: {accuracy:.2f}" for loss, accuracy in pairs)
    return [
        f"{case}, seed {seed}: Spearman {whole:.2f} over {len(pairs)} candidates, "
        f"{better:.2f} over the better half",
        f"  loss in the search: accuracy after recovery, %: {told}",
    ]


if __name__ == "__main__":
    main()
