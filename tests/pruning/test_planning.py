"""What a fit decides before its first step, with a small search on made-up images."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from lightning_cost.cost.duplicate import duplicated
from lightning_cost.pruning.batches import classification_loss
from lightning_cost.pruning.planning import GIVEN, Planned, Planner
from lightning_cost.pruning.schedule import PruningSchedule
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.run import SearchRun
from lightning_cost.pruning.shares import share_out
from lightning_cost.pruning.steps import step_plans
from tests.pruning.search.test_judges import ThreadRanks
from tests.pruning.search.test_loop import DATA, PROBLEM, SETTINGS, _learned, _problem

SCHEDULE = PruningSchedule(num_steps=2)
SEARCH = EvolutionSearch(**SETTINGS)
RATIOS = {None: 0.4, "few bits": 0.6, "many bits": 0.5}


class Sharing:
    """Leaves more of the MACs to the channels where it takes few bits."""

    has_splits = True

    def __init__(self):
        self.settled = None

    def settle(self, split):
        self.settled = split

    def splits(self, network, example, forward):
        return ["few bits", "many bits"]

    def described(self, split):
        return {"split": split}

    def rounded(self, network, example, split):
        return duplicated(network)

    def problem(self):
        return _problem(ratio=RATIOS[self.settled])


class Limiting:
    """Has room for so many FLOPs, of those that were told before it is asked."""

    def __init__(self, told, room=float("inf")):
        self.told, self.room = told, room
        self.asked_at = []

    def may_go_on(self):
        self.asked_at.append(self.told[-1])
        return self.told[-1] < self.room


def run_of(ranks=None):
    return SearchRun(
        SEARCH, classification_loss, seed=0, to_device=lambda batch: batch, ranks=ranks
    )


def planned_by(planner, make_problem=lambda: PROBLEM, *, data=lambda: DATA, agree=None):
    return planner.plan(
        PROBLEM.network,
        make_problem,
        data=data,
        folders=[],
        on_first_rank=agree or (lambda decide: decide()),
    )


def test_a_search_is_told_of_while_it_goes_on():
    told = []
    limiting = Limiting(told)
    planner = Planner(SCHEDULE, run_of(), callbacks=[object(), limiting], spend=told.append)
    planned = planned_by(planner)
    expected = _learned()
    assert planned.ranking == expected.ranking
    assert list(planned.plans) == step_plans(PROBLEM, expected.ranking, SCHEDULE)
    assert told == sorted(told)
    assert told[-1] == expected.flops > told[0]
    assert len(limiting.asked_at) == len(told) - 1, "the end is not asked about twice"
    assert planner.memory is not None


def test_a_search_ends_early_where_there_is_no_room():
    told = []
    whole = _learned()
    limiting = Limiting(told, room=whole.flops / 2)
    planned = planned_by(Planner(SCHEDULE, run_of(), callbacks=[limiting], spend=told.append))
    assert 0 < len(planned.trials) < len(whole.trials)


def test_a_given_ranking_needs_no_data():
    def no_data():
        raise AssertionError("read")

    ranking, told = _learned().ranking, []
    planner = Planner(SCHEDULE, run_of(), ranking=ranking, spend=told.append)
    planned = planned_by(planner, data=no_data)
    assert planned.ranking == ranking
    assert (planned.search_note, planned.trials, planned.splits) == (GIVEN, [], [])
    assert list(planned.plans) == step_plans(PROBLEM, ranking, SCHEDULE)
    assert not any(told)
    assert planner.memory is None


def test_the_budget_is_shared_out_before_the_search_which_is_paid_on_top():
    told, sharing, alone = [], Sharing(), Sharing()
    splits, flops = share_out(
        alone, alone.problem, lambda: DATA, loss=classification_loss, settings=SEARCH
    )
    planner = Planner(SCHEDULE, run_of(), callbacks=[sharing], spend=told.append)
    planned = planned_by(planner, sharing.problem)
    expected = _learned(alone.problem())
    assert sharing.settled == alone.settled is not None
    assert planned.splits == splits
    assert planned.ranking == expected.ranking
    assert told[0] == flops > 0
    assert told[-1] == pytest.approx(flops + expected.flops, rel=1e-12)


def test_all_ranks_end_alike():
    given = ThreadRanks.group(2)

    def decided(ranks):
        told, sharing = [], Sharing()
        planner = Planner(SCHEDULE, run_of(ranks), callbacks=[sharing], spend=told.append)
        planned = planned_by(
            planner,
            sharing.problem,
            agree=lambda decide: ranks.broadcast(decide() if ranks.is_first else None),
        )
        return planned.to_dict(), told[-1], sharing.settled, planner.memory is not None

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(decided, given)
    assert first[:3] == second[:3]
    assert first[2] is not None
    assert (first[3], second[3]) == (True, False)
    assert Planned.from_dict(first[0]).to_dict() == first[0]


@pytest.mark.parametrize(
    ("is_same_budget", "num_steps", "name"), [(False, 2, "limits"), (True, 3, "num_steps")]
)
def test_plans_are_for_one_budget_and_schedule(is_same_budget, num_steps, name):
    ranking = _learned().ranking
    planned = planned_by(Planner(SCHEDULE, run_of(), ranking=ranking, spend=lambda flops: None))
    planned.require_made_for(is_same_budget=True, num_steps=2)
    with pytest.raises(ValueError, match=f"{name} must be those that the checkpoint's pruning"):
        planned.require_made_for(is_same_budget=is_same_budget, num_steps=num_steps)
