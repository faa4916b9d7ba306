"""One composed run of every file in conf/, on digits-sized work; run by ``make conf``.

Every option of every group is composed, checked against the schema and built. Then short fits go
through the whole main job, each taking another option of every group, until each file took part
in one. What cannot run here (data that this machine lacks) is named. Energy models and prices,
which hardware names, are read, and one run is planned.
"""

import contextlib
import io
import logging
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from hydra import compose, initialize_config_dir

from lightning_cost.cli import main, register_schemas
from lightning_cost.hardware.catalogue import conf_dir
from lightning_cost.hardware.energy import EnergyModel
from lightning_cost.hardware.prices import Prices
from lightning_cost.job import BAD_INPUT, BROKEN, KEPT, build, to_run_config
from lightning_cost.recipe.data import first_images, num_classes_of

CONF = conf_dir()
# where a group has no more options to go through, the runs go on with the quickest one; so most of
# the described devices, of which there are more than of anything else, see a network as it is
QUICKEST = {
    "budget": "half",
    "compress": "none",
    "data": "digits",
    "hardware": "raspberry_pi_4",
    "model": "resnet8",
    "trainer": "quick",
    "training": "unlimited",
}
SHORT = [
    "model.width=8",
    "budget.params=90%",
    "data.search_ratio=0.3",
    "data.val_ratio=0.05",
    "trainer.progress_bar=false",
    "trainer.num_threads=1",
    "compress.channels.multiple=4",
    "compress.schedule.warmup_epochs=1",
    "compress.schedule.num_steps=1",
    "compress.schedule.recover_epochs=1",
    "compress.search.num_candidates=2",
    "compress.search.calibration_samples=64",
    "compress.search.search_samples=64",
    "compress.quantize_epochs=1",
]
PROFILE = [
    "model=resnet8",
    "model.width=4",
    "runtime=onnxruntime",
    "compress.quantize=null",
    "trainer.progress_bar=false",
    "measuring.num_networks=22",
    "measuring.seconds=0.02",
]
# a hundredth of the large sets trains; their size is not what is tried here
LARGE = ["model.width=4", "data.search_ratio=0.97", "data.val_ratio=0.02"]
# without pruning neither MACs nor parameters fall; and quantisation follows the warm-up at once,
# which must have taught the network something for its predictions to be more than ties
UNPRUNED = [
    "budget.macs=null",
    "budget.params=null",
    "budget.size_bytes=40%",
    "compress.schedule.warmup_epochs=12",
]
# nothing falls: the limits are what the network costs
PLAIN = ["budget.macs=null", "budget.params=null", "budget.size_bytes=100%"]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def compose_and_build(overrides: list[str]) -> str:
    """What was done with the configuration; raises where it is not right."""
    config = to_run_config(compose("fit", overrides))
    try:
        network, data = build(config)
        classes = num_classes_of(network, first_images(data))
    except (FileNotFoundError, ModuleNotFoundError) as error:
        return f"composed only: {error}"
    return f"composed and built, {classes} classes"


def short_runs(groups: list[str], unavailable: set[str]) -> list[dict[str, str]]:
    """The options of each run: as many runs as the largest group has options."""
    left = {
        group: [name for name in options(group) if f"{group}/{name}" not in unavailable]
        for group in groups
    }
    num_runs = max(map(len, left.values()))
    return [
        {
            group: names[index] if index < len(names) else QUICKEST[group]
            for group, names in left.items()
        }
        for index in range(num_runs)
    ]


def overrides_of(chosen: dict[str, str]) -> list[str]:
    words = [f"{group}={name}" for group, name in chosen.items()]
    words += SHORT
    words += LARGE if chosen.get("data", "fashion_mnist") != "digits" else []
    words += UNPRUNED if chosen.get("compress") == "quantize" else []
    words += PLAIN if chosen.get("compress") == "none" else []
    return words


def run(name: str, overrides: list[str], folder: Path) -> str | None:
    """Fit; what went wrong, or ``None``."""
    started = time.perf_counter()
    words = ["fit", *overrides, f"run_dir={folder / name}"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words)
    seconds = time.perf_counter() - started
    is_good = code == KEPT and (folder / name / "report.html").stat().st_size > 0
    print(f"run {name}: {'kept its budget' if is_good else f'exit code {code}'}, {seconds:.0f} s")
    if is_good:
        return None
    reason = {BAD_INPUT: "refused", BROKEN: "broke a limit"}.get(code, "failed")
    return f"run {name} {reason}: lightning-cost {' '.join(words)}\n{said.getvalue()}"


def main_conf() -> int:
    groups = sorted(QUICKEST)
    failures: list[str] = []
    composed: dict[str, str] = {}
    runs_of: dict[str, list[str]] = defaultdict(list)

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    register_schemas()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        composed["fit"] = compose_and_build([])
        for group in [*groups, "experiment"]:
            for name in options(group):
                composed[f"{group}/{name}"] = compose_and_build([f"{group}={name}"])
    unavailable = {name for name, said in composed.items() if said.startswith("composed only")}

    plans = {
        str(index): overrides_of(chosen)
        for index, chosen in enumerate(short_runs(groups, unavailable), start=1)
    }
    for name in options("experiment"):
        if f"experiment/{name}" not in unavailable:
            plans[name] = overrides_of({"experiment": name, "hardware": QUICKEST["hardware"]})
    with tempfile.TemporaryDirectory() as folder:
        for name, overrides in plans.items():
            failure = run(name, overrides, Path(folder))
            if failure is not None:
                failures.append(failure)
            runs_of["fit"].append(name)
            for word in overrides:
                runs_of[word.replace("=", "/", 1)].append(name)

    for name in options("energy"):
        composed[f"energy/{name}"] = f"read, {EnergyModel.load(name).dram:g} for DRAM"
        runs_of[f"energy/{name}"] = ["none: read alone"]
    composed["prices"] = f"read, {len(Prices.default().grid)} grids"
    runs_of["prices"] = ["none: read alone"]
    with contextlib.redirect_stdout(io.StringIO()):
        code = main(["plan", *overrides_of(QUICKEST)])
    composed["plan"], runs_of["plan"] = f"exit code {code}", ["plan"]
    if code != KEPT:
        failures.append("conf/plan.yaml: the plan of a quick run failed")

    with tempfile.TemporaryDirectory() as folder:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(["profile", *PROFILE, f"table={folder}/table.json"])
    composed["profile"], runs_of["profile"] = f"exit code {code}", ["profile"]
    if code != KEPT:
        failures.append(f"conf/profile.yaml: a quick profile failed\n{said.getvalue()}")

    for path in sorted(CONF.rglob("*.yaml")):
        name = str(path.relative_to(CONF).with_suffix(""))
        if name.startswith("hydra/"):
            continue  # of sweeps, in no run by itself; tests/sweep sweeps with them
        if name not in composed:
            failures.append(f"conf/{name}.yaml belongs to no known group")
        elif not runs_of[name] and name not in unavailable:
            failures.append(f"conf/{name}.yaml took part in no run")
        ran = f"; in run {', '.join(runs_of[name])}" if runs_of[name] else "; in no run"
        print(f"conf/{name}.yaml: {composed.get(name, 'not composed')}{ran}")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main_conf())
