"""The plan of a sampled sweep, against plans and prices of its configurations one by one."""

import json
import statistics

import pytest
import torch

from lightning_cost import cli
from lightning_cost.hardware.device import Hardware
from lightning_cost.monitor.measure import measure
from lightning_cost.zoo.resnet import resnet8

WIDTHS = (4, 8, 16)
FIXED = [
    "hardware=raspberry_pi_4",
    "train_on=nvidia_t4",
    "budget=none",
    "model=resnet8",
    "compress=none",
    "compress.schedule.warmup_epochs=2",
    "trainer=quick",
]
STUDY = ["hydra/sweeper=cost_optuna", "hydra.sweeper.num_trials=10"]
WIDTH = f"model.width=choice({','.join(map(str, WIDTHS))})"
RATE = "trainer.learning_rate=tag(log, interval(0.01,0.1))"


def planned(capsys, *words):
    """The printed lines of a plan, and the last one parsed."""
    assert cli.main(["plan", *words]) == cli.KEPT
    lines = capsys.readouterr().out.splitlines()
    return lines, json.loads(lines[-1])


def latency_ms(width):
    network = resnet8(width=width, in_channels=1)
    hardware = Hardware.load("raspberry_pi_4")
    (cost,) = measure(
        network, torch.zeros(1, 1, 8, 8), hardware=hardware, resources=["latency_ms"]
    ).values()
    return cost.value


def test_a_sampled_sweep_costs_what_its_runs_do(tmp_path, capsys):
    limit = (latency_ms(8) + latency_ms(16)) / 2
    space = [*FIXED, f"budget.latency_ms={limit}", WIDTH, RATE]
    database = tmp_path / "study.db"
    lines, plan = planned(
        capsys, "-m", *STUDY, *space, f"hydra.sweeper.storage=sqlite:///{database}"
    )
    _, runs = planned(
        capsys,
        "-m",
        *FIXED,
        f"budget.latency_ms={limit}",
        f"model.width={','.join(map(str, WIDTHS))}",
    )
    assert not database.exists()
    assert plan["is_exhaustive"]
    assert plan["varied"] == ["model.width"]
    assert plan["num_feasible"] == runs["num_feasible"] == 2
    assert plan["num_judged"] == 3
    feasible = [run for run in runs["runs"] if run["is_feasible"]]
    for name, told in plan["trial"].items():
        values = [run["flops" if name == "flops" else "spend"] for run in feasible]
        values = [value["value"] if name == "flops" else value[name]["value"] for value in values]
        assert told["least"] == min(values)
        assert told["most"] == max(values)
        assert plan["total"][name] == pytest.approx(10 * statistics.mean(values))
    assert set(plan["trial"]) == {"flops", "wall_clock_s", "energy_kwh", "co2_kg", "usd"}
    assert "feasible: 2 of 3 combinations of model.width (66.7 %), all of them judged" in lines
    assert "without effect on costs: trainer.learning_rate" in lines


def test_a_space_that_ends_before_the_trials_do(capsys):
    words = [
        *STUDY,
        *FIXED,
        "budget.macs=1e9",
        "model.width=4",
        "trainer.momentum=choice(0.8,0.9,0.95)",
    ]
    lines, plan = planned(capsys, "-m", *words)
    assert plan["varied"] == []
    assert plan["num_runs"] == 3
    assert plan["total"]["flops"] == 3 * plan["trial"]["flops"]["mean"]
    assert "the space has 3 feasible configurations in all, and no others" in lines


@pytest.mark.slow
def test_what_is_continuous_is_sampled(capsys):
    macs = measure(resnet8(width=4, in_channels=1), torch.zeros(1, 1, 8, 8), resources=["macs"])
    (count,) = (cost.value for cost in macs.values())
    words = [*STUDY, *FIXED, "model.width=4", f"budget.macs=interval(1.0,{2.0 * count})"]
    lines, plan = planned(capsys, "-m", *words, "num_sampled=60")
    assert plan["num_judged"] == 60
    assert plan["num_combinations"] is None
    # half of the limits are below what the network has: five standard deviations around it
    assert 60 * 0.5 - 5 * 60**0.5 * 0.5 < plan["num_feasible"] < 60 * 0.5 + 5 * 60**0.5 * 0.5
    assert plan["limits"] == {}
    assert any("a sample drawn with seed 0" in line for line in lines)
    again = planned(capsys, "-m", *words, "num_sampled=60")[1]
    assert again == plan


def test_a_limit_of_time_on_judging(capsys):
    lines, plan = planned(
        capsys, "-m", *STUDY, *FIXED, "budget.macs=1e9", WIDTH, "time_limit_s=1e-9"
    )
    assert plan["num_judged"] == 1
    assert not plan["is_exhaustive"]
    assert any("a sample of 3 drawn with seed 0, no more after 1e-09 s" in line for line in lines)


def test_nothing_feasible_names_the_nearest(capsys):
    lines, plan = planned(capsys, "-m", *STUDY, *FIXED, "budget.macs=10", WIDTH)
    assert plan["num_feasible"] == plan["num_runs"] == 0
    assert plan["nearest"]["settings"] == {"model.width": 4}
    assert any(
        line.startswith("nothing was feasible; the nearest, model.width=4") for line in lines
    )


def test_room_for_fewer_runs(capsys):
    space = [*STUDY, *FIXED, "budget.macs=1e9", "model.width=4", RATE]
    _, plan = planned(capsys, "-m", *space)
    flops = plan["trial"]["flops"]["mean"]
    lines, plan = planned(capsys, "-m", *space, f"hydra.sweeper.training.flops={3.5 * flops}")
    assert plan["num_affordable"] == 3
    assert "the limit on the sweep has room for about 3 of 10 runs of the mean" in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.widht=1,2"], "Key 'widht' is not in struct"),
        (["hydra.sweeper.sampler=foo", WIDTH], "sampler must be one of tpe"),
        (["hydra.sweeper.sampler=grid", RATE], "trainer.learning_rate must have single values"),
        (["hydra.sweeper.objectives=[accuracy]", WIDTH], "objectives must be in the runs' reports"),
        (["hydra.sweeper.training.usd=-1", WIDTH], "usd must be > 0"),
        (["data.batch_size=choice(-1,-2)"], "the space must hold configurations that can be built"),
        (["num_sampled=0", WIDTH], "num_sampled must be >= 1, got 0"),
        (["time_limit_s=0", WIDTH], "time_limit_s must be > 0, got 0"),
        ([], "a sweep must vary something"),
    ],
)
def test_bad_input(capsys, words, message):
    code = cli.main(["plan", "-m", *STUDY, *FIXED, "budget.macs=1e9", *words])
    assert code == cli.BAD_INPUT
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
