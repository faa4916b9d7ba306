"""The search as a whole: what bounds it, what repeats it, and what it survives."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_cost.cost.measurement import Measurement
from lightning_cost.cost.resource import Resource
from lightning_cost.monitor.measure import measure
from lightning_cost.pruning.batches import SearchData, classification_loss
from lightning_cost.pruning.search.evolution import EvolutionSearch
from lightning_cost.pruning.search.fitness import Judgement
from lightning_cost.pruning.search.judges import Judges
from lightning_cost.pruning.search.loop import learn_ranking, search_fingerprint, usual_judge
from lightning_cost.pruning.search.memory import SearchMemory
from lightning_cost.pruning.structure.plan import Plan
from lightning_cost.pruning.target.channels import ChannelRules
from lightning_cost.pruning.target.problem import PruningProblem
from lightning_cost.quantization.callback import QuantizationAwareTraining
from tests.pruning.search.test_judges import together
from tests.reference.random_networks import conv, images, randomised

SHAPE = (8, 2, 6, 6)


def _problem(*layers, ratio=0.5):
    given = layers or (conv(2, 8), nn.ReLU(), conv(8, 6), nn.ReLU(), conv(6, 8), nn.ReLU())
    last = [layer for layer in nn.Sequential(*given).modules() if isinstance(layer, nn.Conv2d)][-1]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last.out_channels, 3)]
    network = randomised(nn.Sequential(*given, *head)).eval()
    example = images()[:1]
    dense = measure(network, example)
    return PruningProblem.of(
        network,
        example,
        rules=ChannelRules(multiple=1),
        limits={Resource.macs: ratio * dense[Resource.macs].value},
        preview=lambda cut: cut,
        hardware=None,
        dense_cost=dense,
    )


def _batches(first, count):
    labels = torch.arange(SHAPE[0]) % 3
    return [(images(seed, SHAPE), labels) for seed in range(first, first + count)]


PROBLEM = _problem()
DATA = SearchData(calibration=_batches(0, 2), search=_batches(9, 4))
SETTINGS = {
    "num_candidates": 24,
    "population_size": 8,
    "tournament_size": 3,
    "reconstruct": False,
}


def _learned(problem=PROBLEM, loss=classification_loss, data=DATA, seed=0, **settings):
    passed = {name: settings.pop(name) for name in ("judges", "memory") if name in settings}
    return learn_ranking(
        problem,
        EvolutionSearch(**(SETTINGS | settings)),
        data=data,
        loss=loss,
        generator=torch.Generator().manual_seed(seed),
        **passed,
    )


def _same(first, second):
    return first.ranking == second.ranking and first.trials == second.trials


@pytest.mark.parametrize("optimizer", ["evolution", "cmaes"])
def test_the_winner_is_the_best_trial_and_no_worse_than_any_plain_one(optimizer):
    if optimizer == "cmaes":
        pytest.importorskip("cmaes")
    learned = _learned(optimizer=optimizer, saliencies=["l2", "taylor", "fpgm", "bn_scale", "l1"])
    kept = [trial.loss for trial in learned.trials if not trial.is_rejected]
    assert learned.fitness == min(kept) == learned.trials[-1].best
    assert len(learned.trials) == 24
    assert len(learned.plain) == 15
    assert learned.fitness <= min(learned.plain.values())
    plain = [trial for trial in learned.trials if trial.is_plain]
    assert {trial.loss for trial in plain} == set(learned.plain.values())
    assert not any(trial.is_rejected for trial in plain)
    assert learned.ranking.num_channels == PROBLEM.grouping.num_channels


@pytest.mark.parametrize(("reconstruct", "ratios"), [(True, [0.5]), (False, [0.5, 0.75])])
def test_the_winners_loss_can_be_had_again(reconstruct, ratios):
    settings = SETTINGS | {"reconstruct": reconstruct}
    learned = _learned(glance_ratio=0.0, reconstruct=reconstruct)
    judge = usual_judge(
        PROBLEM.network, PROBLEM.grouping, DATA, classification_loss, EvolutionSearch(**settings)
    )
    path = learned.ranking.path(PROBLEM.floors())
    macs = PROBLEM.macs_along(path)
    plans = [
        path.plan_at(next(place for place, value in enumerate(macs) if value <= ratio * macs[0]))
        for ratio in ratios
    ]
    found = [judge(plan, flops_per_sample=0.0, limit=math.inf).loss for plan in plans]
    assert learned.fitness == sum(found) / len(found)


def _delivered_in_int8(limits):
    quantise = QuantizationAwareTraining("int8")

    def preview(network):
        return quantise.preview(network, images()[:1])

    return PruningProblem.of(
        PROBLEM.network,
        images()[:1],
        rules=ChannelRules(multiple=1),
        limits=limits,
        preview=preview,
        hardware=None,
        dense_cost=PROBLEM.dense_cost,
    )


@pytest.mark.parametrize("reconstruct", [True, False])
def test_candidates_are_judged_at_what_is_delivered(reconstruct):
    """Most of the channels stay, though it is less than half of the bytes in floating point."""
    whole = _delivered_in_int8({}).pricer.price_plan(Plan.dense(PROBLEM.grouping))
    limits = {Resource.size_bytes: 0.8 * whole[Resource.size_bytes]}
    assert limits[Resource.size_bytes] < 0.5 * PROBLEM.dense_cost[Resource.size_bytes].value
    problem, judged = _delivered_in_int8(limits), []

    def judge(plan, **_):
        judged.append(plan)
        return Judgement(loss=1.0, glance=1.0, flops=0.0, is_rejected=False)

    judges = Judges()
    judges.appoint(lambda _: judge, None)
    learned = _learned(problem, judges=judges, num_candidates=1, reconstruct=reconstruct)
    path = learned.ranking.path(problem.floors(), problem.steps)
    position = path.first_within(problem.pricer, problem.limits)
    macs = problem.macs_along(path)
    if reconstruct:
        assert judged == [path.plan_at(position)]
        assert 0.6 < macs[position] / macs[0] < 1
    else:
        found = [problem.pricer.price_plan(plan)[Resource.macs] / macs[0] for plan in judged]
        assert min(found) == pytest.approx(macs[position] / macs[0], abs=0.1)


@pytest.mark.parametrize("share", [0.3, 1 / 3, 0.7])
def test_a_limit_on_macs_is_the_share_of_them_whatever_is_delivered(share):
    macs = PROBLEM.dense_cost[Resource.macs].value
    problem = _delivered_in_int8({Resource.macs: share * macs})
    assert problem.macs_ratio() == problem.uniform_macs_ratio() == share * macs / macs
    assert problem.limits_beside_macs == {}


def test_flops_are_counted_and_rejection_saves_some():
    whole, saving = _learned(glance_ratio=0.0), _learned(glance_ratio=0.25)
    price = PROBLEM.pricer.price_plan(Plan.dense(PROBLEM.grouping))[Resource.flops]
    assert whole.flops == whole.trials[-1].flops
    assert whole.flops <= price * 1.25 * DATA.num_samples * 24
    assert not any(trial.is_rejected for trial in whole.trials)
    assert any(trial.is_rejected for trial in saving.trials)
    assert saving.flops < whole.flops
    taylor = _learned(saliencies=["taylor"], num_candidates=1)
    gradients = 3 * price * 16
    assert gradients < taylor.flops < gradients + 1.25 * price * DATA.num_samples


def test_it_stops_when_it_may_not_go_on():
    asked = []

    def may_go_on(flops):
        asked.append(flops)
        return len(asked) < 3

    learned = learn_ranking(
        PROBLEM,
        EvolutionSearch(**SETTINGS, num_parallel=4),
        data=DATA,
        loss=classification_loss,
        generator=torch.Generator().manual_seed(0),
        may_go_on=may_go_on,
    )
    # the first three are plain, and nothing is alive before they are told of
    assert [3 <= len(learned.trials) <= 11, asked[-1] == learned.flops] == [True, True]
    assert asked == sorted(asked)


class KilledError(Exception):
    """In place of a kill."""


@pytest.mark.parametrize(
    ("optimizer", "num_kills"),
    [
        ("evolution", 3),
        ("cmaes", 2),
        pytest.param("evolution", 40, marks=pytest.mark.slow),
        pytest.param("cmaes", 40, marks=pytest.mark.slow),
    ],
)
def test_a_search_that_is_killed_anywhere_ends_bit_identically(tmp_path, optimizer, num_kills):
    if optimizer == "cmaes":
        pytest.importorskip("cmaes")
    settings = {"optimizer": optimizer, "num_parallel": 3, "num_candidates": 10}
    whole = _learned(**settings)
    calls = 0

    def killing(network, batch):
        nonlocal calls
        calls += 1
        if calls == kill_at:
            raise KilledError
        return classification_loss(network, batch)

    kill_at = 0
    _learned(**settings, loss=killing)
    places = range(1, calls, max(1, calls // num_kills))
    for number, place in enumerate(places):
        path, calls, kill_at = tmp_path / f"{number}.jsonl", 0, place
        with pytest.raises(KilledError):
            _learned(**settings, loss=killing, memory=SearchMemory(path))
        if number % 2 == 0 and path.exists():
            path.write_bytes(path.read_bytes()[:-7])
        resumed = _learned(**settings, memory=SearchMemory(path))
        assert _same(resumed, whole)
        assert resumed.flops <= whole.flops
        again = _learned(**settings, memory=SearchMemory(path))
        assert _same(again, whole)
        assert again.flops == 0
        assert again.num_recalled >= resumed.num_recalled


@pytest.mark.parametrize("num_ranks", [3])
def test_the_number_of_ranks_changes_nothing(num_ranks):
    alone = _learned()
    judges_of = {}

    def make(rank, seen, fails_on):
        return judges_of[rank]

    for rank in range(num_ranks):
        settings = EvolutionSearch(**SETTINGS)
        judges_of[rank] = usual_judge(
            PROBLEM.network, PROBLEM.grouping, DATA, classification_loss, settings
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.pruning.search.test_judges.judge_on", make)
        shared, _, ended = together(num_ranks, lambda judges: _learned(judges=judges))
    assert _same(shared, alone)
    assert shared.flops == alone.flops
    assert set(ended.values()) == {"dismissed"}


def test_a_loss_that_is_never_finite_is_refused():
    with pytest.raises(ValueError, match="loss must be finite for one candidate or more, got none"):
        _learned(loss=lambda *_: torch.tensor(float("nan")))
    with pytest.raises(ValueError, match="loss must be finite"):
        _learned(data=replace(DATA, search=[(torch.zeros(0, *SHAPE[1:]), torch.zeros(0).long())]))


def test_some_losses_that_are_not_finite_do_not_win():
    calls = iter(range(10**6))

    def sometimes(network, batch):
        loss = classification_loss(network, batch)
        return loss if next(calls) % 13 else loss * float("nan")

    learned = _learned(loss=sometimes)
    assert math.isfinite(learned.fitness)
    assert any(math.isinf(trial.loss) for trial in learned.trials)


def test_candidates_that_are_all_alike_end_early():
    alike = _learned(loss=lambda *_: torch.tensor(1.0))
    assert alike.fitness == 1.0
    assert 3 < len(alike.trials) <= 24
    one_group = _problem(conv(2, 8), nn.ReLU())
    learned = _learned(one_group)
    assert len(learned.trials) == 1, "one group has one order whatever its scale"
    assert set(learned.plain) == {"uniform_l2", "normalised_l2", "l2"}


def test_a_saliency_that_a_group_lacks_is_named():
    problem = _problem(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    with pytest.raises(
        ValueError, match=r"got 'bn_scale', which group '0' .* saliencies are l2, bn"
    ):
        _learned(problem, saliencies=["l2", "bn_scale"])


def test_tuned_candidates_are_judged_alike_each_time():
    first, second = (_learned(tune_steps=2, num_candidates=6) for _ in range(2))
    assert _same(first, second)
    assert first.trials[0].loss != _learned(num_candidates=6).trials[0].loss
    assert first.flops > _learned(num_candidates=6).flops


def test_the_fingerprint_is_of_all_that_decides():
    def printed(problem=PROBLEM, data=DATA, loss=classification_loss, seed=0, **settings):
        return search_fingerprint(
            problem,
            EvolutionSearch(**settings),
            data=data,
            loss=loss,
            generator=torch.Generator().manual_seed(seed),
        )

    other = _problem()
    with torch.no_grad():
        other.network[0][1].running_mean[0] += 1e-6
    prints = [
        printed(),
        printed(seed=1),
        printed(num_candidates=7),
        printed(saliencies=["l1"]),
        printed(data=replace(DATA, search=DATA.search[:-1])),
        printed(loss=print),
        printed(replace(PROBLEM, limits={Resource.macs: 0.6 * PROBLEM.macs_along(_path())[0]})),
        printed(other),
    ]
    assert len(set(prints)) == len(prints)
    assert printed(_problem()) == prints[0]


def test_the_fingerprint_of_a_share_of_a_latency_is_that_of_the_next_measurement():
    """As in the runs of one sweep, which share a search; in int8 it is another one."""

    def printed(share, dense_ms, delivered_ms=None):
        def latency(value):
            return {Resource.latency_ms: Measurement(value=value, unit="ms", method="measured")}

        problem = replace(
            PROBLEM,
            limits={Resource.latency_ms: share * dense_ms},
            dense_cost=PROBLEM.dense_cost | latency(dense_ms),
            delivered=None if delivered_ms is None else latency(delivered_ms),
        )
        return search_fingerprint(
            problem,
            EvolutionSearch(),
            data=DATA,
            loss=classification_loss,
            generator=torch.Generator().manual_seed(0),
        )

    assert printed(0.7, 2.31) == printed(0.7, 2.2903)
    assert printed(0.7, 2.31, 1.1) == printed(0.7, 2.2903, 1.2)
    assert len({printed(0.7, 2.31), printed(0.7, 2.31, 1.1), printed(0.6, 2.31)}) == 3


def _path():
    return _learned(num_candidates=1).ranking.path()


def test_judges_are_asked_for_no_network_twice():
    judged = []
    judge = usual_judge(
        PROBLEM.network, PROBLEM.grouping, DATA, classification_loss, EvolutionSearch(**SETTINGS)
    )

    def counting(plan, **given):
        judged.append((str(plan.kept), given["limit"]))
        return judge(plan, **given)

    judges = Judges()
    judges.appoint(lambda _: counting, None)
    _learned(judges=judges, num_parallel=1, glance_ratio=0.0)
    assert len(judged) == len(set(judged))
