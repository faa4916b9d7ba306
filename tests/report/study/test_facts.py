from dataclasses import replace

from lightning_cost.report.study.facts import facts, summary
from lightning_cost.report.study.record import Study


def test_facts_name_what_is_not_recorded(make_study):
    assert dict(facts(make_study()))["limits"] == "latency ≤ 0.800 ms"
    bare = dict(facts(Study(name="s", objectives={"loss": "min"})))
    assert bare["sampler"] == bare["seed"] == "not recorded"
    assert bare["objectives"] == "loss (low is better)"


def test_the_nearest_is_named_where_nothing_is_feasible(make_study):
    study = make_study()
    assert len(summary(study)) == 1
    (refused,) = study.of_state("infeasible")
    nearer = replace(
        refused, number=7, predicted={"latency_ms": 1.0}, violations={"latency_ms": 0.25}
    )
    lost = replace(refused, number=8, violations={"latency_ms": None})
    found = summary(replace(study, trials=(refused, nearer)))
    assert found[1].endswith("is predicted to take 1.00 ms, latency 1.25× the limit.")
    assert summary(replace(study, trials=(lost, refused)))[1].endswith("4.00× the limit.")
