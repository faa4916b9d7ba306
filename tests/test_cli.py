"""The command line from the outside: words in, exit code, printed lines and files out."""

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from lightning_cost import cli, job
from lightning_cost.hardware.catalogue import conf_dir, known_hardware
from lightning_cost.network.checkpoint import load_compressed
from lightning_cost.pruning.ranking import GlobalRanking
from lightning_cost.report.schema import load_schema
from lightning_cost.zoo.classifier import ImageClassifier
from lightning_cost.zoo.resnet import resnet8

QUICK = [
    "hardware=raspberry_pi_4",
    "model=resnet8",
    "model.width=4",
    "data.search_ratio=0.3",
    "data.val_ratio=0.3",
    "trainer=quick",
    "compress=prune",
    "compress.channels.multiple=2",
    "compress.schedule.warmup_epochs=1",
    "compress.schedule.num_steps=1",
    "compress.schedule.recover_epochs=1",
    "compress.search.num_candidates=2",
    "compress.search.calibration_samples=64",
    "compress.search.search_samples=64",
]
QUANTIZED = ["compress=prune_quantize", "compress.quantize_epochs=1"]


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch, tmp_path_factory):
    """A run sets the threads and the random state of the process, and writes below ``runs/``."""
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, handler)


def fit(*words: str) -> int:
    options = [word for word in words if word.startswith("-")]
    return cli.main(["fit", *options, *QUICK, *(word for word in words if word not in options)])


def refused(capsys, *words: str) -> str:
    """What is said of bad input; nothing may be trained."""
    assert fit(*words) == cli.BAD_INPUT
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory):
    """One run that keeps its budget: its directory and what it printed."""
    run_dir = tmp_path_factory.mktemp("kept") / "run"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), torch.random.fork_rng(devices=[]):
        assert fit(*QUANTIZED, "trainer.precision=32", f"run_dir={run_dir}") == cli.KEPT
    return run_dir, printed.getvalue()


def test_the_last_line_is_the_run_directory(kept_run):
    run_dir, printed = kept_run
    lines = printed.splitlines()
    assert lines[-1] == str(run_dir)
    assert lines[-2] == f"report: {run_dir / 'report.html'}"


def test_the_run_directory_holds_what_is_promised(kept_run):
    run_dir, _ = kept_run
    report = json.loads((run_dir / "report.json").read_text())
    jsonschema.validate(report, load_schema())
    assert report["command"].startswith("lightning-cost fit hardware=raspberry_pi_4 model=resnet8")
    assert all(limit["kept"] for limit in report["budget"].values())
    assert report["stop_reason"].startswith("model budget kept")
    assert [phase["name"] for phase in report["phases"]] == ["warmup", "recover", "quantize"]
    assert report["config"] == OmegaConf.to_container(OmegaConf.load(run_dir / "config.yaml"))
    assert "</html>" in (run_dir / "report.html").read_text()
    for name in report["artifacts"].values():
        assert (run_dir / name).stat().st_size > 0


def test_the_checkpoint_is_the_delivered_network(kept_run):
    run_dir, _ = kept_run
    onnxruntime = pytest.importorskip("onnxruntime")
    network = load_compressed(resnet8(width=4, in_channels=1), run_dir / "final.ckpt")
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(run_dir / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        expected = network(images)
    agreement = (torch.from_numpy(found).argmax(1) == expected.argmax(1)).float().mean()
    assert agreement > 0.95


def test_report_writes_the_page_anew(kept_run, capsys):
    run_dir, _ = kept_run
    page = (run_dir / "report.html").read_text()
    (run_dir / "report.html").unlink()
    assert cli.main(["report", str(run_dir)]) == cli.KEPT
    assert capsys.readouterr().out.strip() == str(run_dir / "report.html")
    assert (run_dir / "report.html").read_text() == page


def test_report_of_a_directory_without_runs(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "RUN_DIR must hold a report.json, or SWEEP_DIR runs that do, got" in said
    assert "give the directory that" in said


def test_a_broken_limit_is_exit_code_3(tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert fit("training.flops=1", f"run_dir={run_dir}") == job.BROKEN
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(run_dir)
    assert any(line.startswith("limit broken: macs must be <=") for line in printed)
    report = json.loads((run_dir / "report.json").read_text())
    jsonschema.validate(report, load_schema())
    assert not report["budget"]["macs"]["kept"]
    assert report["stop_reason"].startswith("training budget spent: flops")
    # it ended before its structure changed: one network, one file
    assert report["artifacts"]["dense_onnx"] == report["artifacts"]["onnx"]
    assert not (run_dir / "dense.onnx").exists()
    assert report["dense"]["metrics"] == report["final"]["metrics"]
    assert report["dense"]["cost"] == report["final"]["cost"]


def test_a_sweep_ends_in_one_table_and_page(tmp_path, capsys):
    words = ["-m", "budget.macs=70%,40%", f"hydra.sweep.dir={tmp_path}"]
    assert fit(*words) == cli.KEPT
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == str(tmp_path)
    rows = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert [row["settings"]["budget.macs"] for row in rows] == ["70%", "40%"]
    for row in rows:
        assert row["run"] in printed
    assert "</html>" in (tmp_path / "report.html").read_text()
    # one search, for the tightest budget, serves both
    assert len(list(tmp_path.glob("search-*.jsonl"))) == 1
    assert json.loads((tmp_path / "tightest_budget.json").read_text()) == {"macs": "40%"}
    first, second = (json.loads((tmp_path / run / "report.json").read_text()) for run in "01")
    spent = [report["spend"]["search_flops"] for report in (first, second)]
    assert 0 < spent[1]["value"] < spent[0]["value"], "layers are fitted again in both"
    assert "2 of 2 candidates had been judged before" in spent[1]["assumptions"]
    assert "judged before" not in spent[0]["assumptions"]
    rankings = [GlobalRanking.load(tmp_path / run / "ranking.json") for run in "01"]
    assert rankings[0] == rankings[1]


def test_a_ranking_can_be_given(kept_run, tmp_path):
    run_dir, _ = kept_run
    ranking = run_dir / "ranking.json"
    assert fit(f"ranking={ranking}", "budget.macs=80%", f"run_dir={tmp_path / 'run'}") == cli.KEPT
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    learned = json.loads((run_dir / "report.json").read_text())["spend"]["search_flops"]["value"]
    # nothing is judged, but layers are fitted again after each cut
    assert 0 < report["spend"]["search_flops"]["value"] < learned
    assert (tmp_path / "run" / "ranking.json").read_bytes() == ranking.read_bytes()


def test_the_runs_of_a_sweep_are_those_that_hydra_makes():
    words = ["budget.macs=70%,40%", "seed=range(2)", "model=resnet8", "budget.params='1,2'"]
    rest = ["model=resnet8", "budget.params='1,2'"]
    assert cli._single_runs(words) == [
        [f"budget.macs={macs}", f"seed={seed}", *rest] for macs in ("70%", "40%") for seed in (0, 1)
    ]


def test_a_sweep_in_which_every_run_is_refused(tmp_path, capsys):
    words = ["-m", "budget.macs=-1,-2", f"hydra.sweep.dir={tmp_path}"]
    assert fit(*words) == cli.BAD_INPUT
    captured = capsys.readouterr()
    assert captured.err.count("macs must be > 0 and finite") == 2
    assert "Traceback" not in captured.err + captured.out


def test_a_launcher_that_is_not_installed_names_its_extra(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert cli.main(["fit", "-m", "hydra/launcher=submitit_slurm", "seed=1,2"]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert _matches(r"hydra-submitit-launcher, .*; pip install 'lightning-cost\[slurm\]'", said)
    assert said.count("\n") == 1


@pytest.mark.slow
def test_two_ranks_write_one_run_directory(tmp_path):
    """In processes of their own, as Lightning starts the second rank by the command's words."""
    words = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]
    done = subprocess.run(
        [Path(sys.executable).parent / "lightning-cost", "fit", *QUICK, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == cli.KEPT, done.stderr
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert tmp_path / done.stdout.splitlines()[-1] == run_dir
    jsonschema.validate(json.loads((run_dir / "report.json").read_text()), load_schema())


def _interrupt_in(patch, epoch: int, *, run_dir: Path | None = None) -> None:
    """Let ctrl-C come in the middle of ``epoch``, of one run or of all."""
    step = ImageClassifier.training_step

    def interrupted(self, batch, batch_idx):
        folder = Path(self.trainer.checkpoint_callback.dirpath)
        is_meant = run_dir is None or folder.resolve() == run_dir.resolve()
        if is_meant and self.trainer.current_epoch == epoch and batch_idx == 3:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    patch.setattr(ImageClassifier, "training_step", interrupted)


def _saved(run_dir: Path) -> dict:
    return torch.load(run_dir / "final.ckpt", weights_only=True)


def _require_same_end(found: Path, expected: Path) -> None:
    """The same weights bit for bit, structure, ranking and report, up to times."""
    ours, theirs = _saved(found), _saved(expected)
    assert ours["lightning_cost_lineage"] == theirs["lightning_cost_lineage"]
    assert list(ours["state_dict"]) == list(theirs["state_dict"])
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    assert (found / "ranking.json").read_bytes() == (expected / "ranking.json").read_bytes()
    ours, theirs = (json.loads((run / "report.json").read_text()) for run in (found, expected))
    assert ours["stop_reason"] == theirs["stop_reason"]
    for row, known in zip(ours["history"], theirs["history"], strict=True):
        for name in ("epoch", "step", "phase", "cost", "metrics"):
            assert row[name] == known[name], name


@pytest.mark.parametrize("epoch", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_and_ends_as_if_nothing_had_been(
    kept_run, tmp_path, capsys, monkeypatch, epoch
):
    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        _interrupt_in(patch, epoch)
        assert fit(*QUANTIZED, f"run_dir={run_dir}") == cli.INTERRUPTED
    left = {path.name for path in run_dir.glob("*.ckpt")}
    assert left == {"last.ckpt"} | ({"previous.ckpt"} if epoch else set())
    assert f"resume={run_dir}" in capsys.readouterr().err

    # of the first command line only single settings are changed
    words = ["fit", f"resume={run_dir}", "trainer.progress_bar=false"]
    assert cli.main(words) == cli.KEPT
    assert capsys.readouterr().out.splitlines()[-1] == str(run_dir)
    _require_same_end(run_dir, kept_run[0])
    # what was logged before the interrupt stays
    assert {path.parent.name for path in run_dir.rglob("metrics.csv")} == {"logs", "logs_2"}
    report = json.loads((run_dir / "report.json").read_text())
    assert report["config"]["model"]["width"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("left", [["final.ckpt"], ["last.ckpt"], []])
def test_what_is_left_of_a_run_is_enough_to_end_it(kept_run, tmp_path, left):
    """Killed while it reported, just before it, or before it had begun."""
    whole, _ = kept_run
    files = ["dense.pt", *left] if left else []
    run_dir = _copied(whole, tmp_path / "run", "config.yaml", *files)
    assert cli.main(["fit", f"resume={run_dir}"]) == cli.KEPT
    _require_same_end(run_dir, whole)
    spends = [json.loads((run / "report.json").read_text())["spend"] for run in (whole, run_dir)]
    for name in ("train_flops", "eval_flops", "search_flops"):
        assert spends[1][name]["value"] == spends[0][name]["value"], name


def test_a_damaged_checkpoint_costs_an_epoch_and_nothing_else(kept_run, tmp_path, caplog):
    whole, _ = kept_run
    names = ("config.yaml", "dense.pt", "last.ckpt", "previous.ckpt")
    run_dir = _copied(whole, tmp_path / "run", *names)
    content = (run_dir / "last.ckpt").read_bytes()
    (run_dir / "last.ckpt").write_bytes(content[:-100])
    assert cli.main(["fit", f"resume={run_dir}"]) == cli.KEPT
    assert "last.ckpt is cut off or damaged" in caplog.text
    _require_same_end(run_dir, whole)


def test_an_interrupt_while_it_reports(kept_run, tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    run_dir = _copied(kept_run[0], tmp_path / "run", "config.yaml", "dense.pt", "final.ckpt")
    monkeypatch.setattr("lightning_cost.recipe.fit.report_of", interrupted)
    assert cli.main(["fit", f"resume={run_dir}"]) == cli.INTERRUPTED
    assert f"interrupted; go on with resume={run_dir}" in capsys.readouterr().err


def test_a_refused_run_can_be_tried_again_in_its_directory(tmp_path, capsys):
    for _ in range(2):
        assert "macs <= 1 MAC" in refused(capsys, "budget.macs=1", f"run_dir={tmp_path / 'run'}")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_with_the_same_command(tmp_path, capsys, monkeypatch):
    words = ["-m", "budget.macs=70%,60%", f"hydra.sweep.dir={tmp_path}"]
    with monkeypatch.context() as patch:
        _interrupt_in(patch, 1, run_dir=tmp_path / "1")
        assert fit(*words) == cli.INTERRUPTED
    said = capsys.readouterr().err
    assert f"the sweep goes on with the same command and hydra.sweep.dir={tmp_path}" in said
    first = (tmp_path / "0" / "report.json").stat()
    assert fit(*words) == cli.KEPT
    assert (tmp_path / "0" / "report.json").stat().st_mtime_ns == first.st_mtime_ns
    assert json.loads((tmp_path / "1" / "report.json").read_text())["history"][-1]["epoch"] == 1
    assert {path.parent.name for path in (tmp_path / "1").rglob("metrics.csv")} == {
        "logs",
        "logs_2",
    }
    # a run of other settings in its place is left alone
    other = ["-m", "budget.macs=80%,60%", f"hydra.sweep.dir={tmp_path}"]
    assert fit(*other) == cli.BAD_INPUT
    assert "run_dir must be new or empty" in capsys.readouterr().err


def test_an_interrupt_ends_a_sweep(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageClassifier, "training_step", interrupted)
    words = ["-m", "budget.macs=70%,40%", f"hydra.sweep.dir={tmp_path}"]
    assert fit(*words) == cli.INTERRUPTED
    assert f"resume={tmp_path / '0'}" in capsys.readouterr().err
    assert not (tmp_path / "1").exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "no YAML of settings"),
        ("a: 1\na: 2", "no YAML of settings"),
        ("!!python/object/apply:os.system [ls]", "no YAML of settings"),
        ("a: " + "[" * 500, "more than 100 deep"),
        ("seed: ${oc.env:HOME}", "got "),
    ],
)
def test_a_damaged_configuration_is_not_gone_on_with(tmp_path, capsys, content, what):
    (tmp_path / "config.yaml").write_text(content)
    assert cli.main(["fit", f"resume={tmp_path}"]) == cli.BAD_INPUT
    told = capsys.readouterr().err
    assert _matches(f"resume must be the directory of an interrupted run, .*({what})", told)
    assert "Traceback" not in told


def test_resume_takes_the_directory_of_an_interrupted_run(kept_run, tmp_path, capsys):
    run_dir, _ = kept_run
    for folder, message in (
        (
            tmp_path / "nowhere",
            r"resume must be the directory of an interrupted run, got .*ya?ml",
        ),
        (run_dir, "with a finished run; its report is"),
    ):
        assert cli.main(["fit", f"resume={folder}"]) == cli.BAD_INPUT
        assert _matches(message, capsys.readouterr().err)


@pytest.mark.parametrize("flag", ["--config-path", "-cp", "--config-path="])
def test_a_run_again_from_its_own_directory(kept_run, tmp_path, capsys, flag):
    whole, _ = kept_run
    words = [f"{flag}{whole}"] if flag.endswith("=") else [flag, str(whole)]
    settings = ["run_dir=" + str(tmp_path / "again")]
    if flag == "-cp":
        settings.append("seed=1")
    assert cli.main(["fit", *words, *settings]) in (job.KEPT, job.BROKEN)
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "again")
    config = OmegaConf.load(tmp_path / "again" / "config.yaml")
    assert config.repeats == str(whole)
    assert config.model.width == 4
    if flag == "-cp":
        assert config.seed == 1
        ours, theirs = (_saved(run)["state_dict"] for run in (tmp_path / "again", whole))
        assert not all(torch.equal(ours[name], theirs[name]) for name in ours.keys() & theirs)
        return
    _require_same_end(tmp_path / "again", whole)
    for name in ("model.onnx", "model.packed", "dense.onnx"):
        assert (tmp_path / "again" / name).read_bytes() == (whole / name).read_bytes()


def test_what_is_needed_to_repeat_a_run_is_in_its_report(kept_run):
    report = json.loads((kept_run[0] / "report.json").read_text())
    assert {"python", "torch", "pytorch-lightning", "lightning-cost", "git"} <= {
        *report["versions"]
    }
    assert report["seed"] == report["config"]["seed"] == 0
    assert len(report["data"]["hash"]) == 64


def test_a_whole_group_cannot_be_changed_in_a_repeated_run(kept_run, capsys):
    words = ["fit", "--config-path", str(kept_run[0]), "trainer=quick"]
    assert cli.main(words) == cli.BAD_INPUT
    assert "single settings can be changed, got the whole of trainer=quick" in (
        capsys.readouterr().err
    )


def test_resume_with_a_whole_group(kept_run, capsys):
    run_dir, _ = kept_run
    assert cli.main(["fit", f"resume={run_dir}", "trainer=quick"]) == cli.BAD_INPUT
    assert "single settings can be changed, got the whole of trainer=quick" in (
        capsys.readouterr().err
    )


def test_resume_of_a_run_of_another_architecture(kept_run, tmp_path, capsys):
    run_dir, _ = kept_run
    left = _copied(run_dir, tmp_path / "left", "config.yaml", "last.ckpt")
    assert cli.main(["fit", f"resume={left}", "model.width=8"]) == cli.BAD_INPUT
    message = r"network must have 4 out channels at 'stem.conv', got Conv2d with 8"
    assert _matches(message, capsys.readouterr().err)


def plan(capsys, *words: str) -> tuple[list[str], dict]:
    """The printed lines of a plan, and the last one parsed."""
    options = [word for word in words if word.startswith("-")]
    rest = [word for word in words if word not in options]
    quick = [word for word in QUICK if not word.startswith("trainer=")]
    code = cli.main(["plan", *options, "train_on=nvidia_t4", *quick, *rest])
    captured = capsys.readouterr()
    assert code == cli.KEPT, captured.err
    lines = captured.out.splitlines()
    return lines, json.loads(lines[-1])


def test_a_plan_is_not_below_what_the_run_uses(kept_run, capsys):
    run_dir, _ = kept_run
    spent = json.loads((run_dir / "report.json").read_text())["spend"]
    _, planned = plan(capsys, *QUANTIZED)
    shares = {share["name"]: share["flops"] for share in planned["shares"]}
    training = shares["warmup"] + shares["prune and recover"] + shares["quantize"]
    # the run also counts the loss, and less than the dense network once channels are gone
    assert 0.5 * training < spent["train_flops"]["value"] < 1.02 * training
    assert spent["search_flops"]["value"] < 1.02 * shares["search"]
    assert planned["is_feasible"]


def test_a_plan_writes_nothing_and_prints_tables_and_a_line_of_json(capsys):
    lines, planned = plan(capsys)
    assert lines[0] == planned["title"] == "ResNet on digits"
    assert [line.split()[0] for line in lines if "assumptions" in line and line[0] != "{"] == [
        "compute",
        "spend",
    ]
    assert "every limit that can be checked beforehand can be kept" in lines
    assert list(Path().iterdir()) == []


def test_a_sweep_is_planned_without_running_it(capsys):
    lines, planned = plan(capsys, "-m", "budget.macs=70%,0.1%")
    assert [run["is_feasible"] for run in planned["runs"]] == [True, False]
    assert planned["num_feasible"] == 1
    assert lines[2].startswith("budget.macs=70%")
    assert lines[-2].startswith("total")
    assert list(Path().iterdir()) == []


def test_a_plan_takes_a_price_file(tmp_path, capsys):
    rent = "{value: 0.25 USD/h, hardware: nvidia_t4, num_devices: 1, source: us, date: '2026'}"
    (tmp_path / "mine.yaml").write_text(f"rents: {{ours: {rent}}}")
    _, planned = plan(capsys, f"prices={tmp_path / 'mine.yaml'}")
    assert planned["spend"]["usd"]["assumptions"] == "rent, $0.25 a device and hour"
    # that of the hardware alone, as fit takes it
    words = ["--cfg=job", "hardware=nvidia_t4", f"hardware.prices={tmp_path / 'mine.yaml'}"]
    assert cli.main(["plan", *words]) == cli.KEPT
    assert f"\n  prices: {tmp_path / 'mine.yaml'}\n" in capsys.readouterr().out


def test_a_plan_takes_the_machine_that_trains_as_a_fit_does(capsys):
    _, expected = plan(capsys)  # train_on=nvidia_t4
    words = [word for word in QUICK if not word.startswith("trainer=")]
    assert cli.main(["plan", "hardware@train_hardware=nvidia_t4", *words]) == cli.KEPT
    planned = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert planned["spend"] == expected["spend"]
    # train_on= goes first
    assert plan(capsys, "hardware@train_hardware=nvidia_a100")[1]["spend"] == expected["spend"]


def test_a_transformer_is_planned_from_its_dimensions(capsys):
    words = ["num_layers=96", "width=12288", "tokens=300e9"]
    words = [f"transformer.{word}" for word in words]
    words += ["hardware=nvidia_a100", "num_devices=1024", "utilisation=0.4"]
    assert cli.main(["plan", *words]) == cli.KEPT
    planned = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert planned["shares"][0]["flops"] == pytest.approx(3.14e23, rel=2e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["utilisation=0"], r"utilisation must be a share in \(0, 1\], got 0"),
        (["transformer.tokens=0"], r"transformer.tokens must be > 0, got 0"),
        (["transformer.width=8"], r"transformer must be given by .*, got no num_layers, tokens"),
        (["train_on=abacus"], r"hardware must be one of .*nvidia_a100.*, got 'abacus'"),
        (["budget.mac=1"], r"Key 'mac' not in 'ModelBudget'"),
        (["num_device=1"], r"Key 'num_device' is not in struct|Key 'num_device' not in"),
        (
            ["data=fashion_mnist", "data.source.folder=/nonexistent"],
            r"data must be on this machine, got: /nonexistent .* or set num_samples=",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_plan_of_bad_input(capsys, words, message):
    assert cli.main(["plan", *words]) == cli.BAD_INPUT
    captured = capsys.readouterr()
    assert captured.out == ""
    assert _matches(message, captured.err)
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["budget.macs=5 parsecs"], r"macs must be in a known unit .* got '5 parsecs'"),
        (["budget.macs=-1"], r"macs must be > 0 and finite, got -1; leave it out"),
        (["budget.macs=0"], r"macs must be > 0 and finite, got 0"),
        (["budget.macs=nan"], r"macs must be > 0 and finite, got nan"),
        (["training.wall_clock_s=50%"], r"wall_clock_s must be absolute in a training budget"),
        (["budget.mac=1"], r"Key 'mac' not in 'ModelBudget'"),
        (["model.widht=8"], r"Key 'widht' is not in struct"),
        (["trainer.learningrate=1"], r"Key 'learningrate' not in 'TrainerSettings'"),
        (["budget=none"], r"budget must limit something, got none"),
        (["runtime=abacus", "hardware=local"], r"runtime must be one of .*onnx.*, got 'abacus'"),
        (["compress.quantize=int9"], r"scheme must be .*int8.*, got 'int9'"),
        (["budget.usd_per_million=1"], r"price_usd_per_hour of hardware 'raspberry_pi_4' must be"),
        (
            ["data=fashion_mnist", "data.source.folder=/nonexistent"],
            r"/nonexistent must hold Fashion-MNIST's .* Debian package dataset-fashion-mnist",
        ),
        (["data.source=imagenet"], r"source must be one of cifar10, digits, fashion_mnist, got"),
        (
            ["trainer.precision=bf16-true"],
            r"trainer.precision must be one of 32-true, .*, got 'bf16-true'; bf16-mixed trains",
        ),
        (["model.in_channels=3"], r"model must take the data's images of shape \[1, 8, 8\], got"),
        (
            ["model._target_=nowhere.Net"],
            r"a _target_ must be .* got Error locating target 'nowhere.Net'",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, capsys, words, message):
    run_dir = tmp_path / "run"
    said = refused(capsys, f"run_dir={run_dir}", *words)
    assert _matches(message, said)
    assert "Traceback" not in said
    assert not run_dir.exists()


def test_unknown_hardware_lists_the_known(capsys):
    said = refused(capsys, "hardware=abacus")
    for name in known_hardware():
        assert name in said


def test_a_budget_out_of_reach_names_the_nearest(tmp_path, capsys):
    said = refused(capsys, "budget.macs=1", f"run_dir={tmp_path / 'run'}")
    assert _matches(r"macs <= 1 MAC \(nearest reachable: \d+ MAC\)", said)
    assert list(tmp_path.rglob("*.ckpt")) == []


def test_missing_torchvision_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    said = refused(capsys, "data=cifar10", f"run_dir={tmp_path / 'run'}")
    assert "pip install 'lightning-cost[vision]'" in said


def test_a_run_directory_that_exists(tmp_path, capsys):
    (tmp_path / "precious.txt").write_text("keep me")
    said = refused(capsys, f"run_dir={tmp_path}")
    assert "run_dir must be new or empty" in said
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_directory_that_cannot_be_written_to(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "run_dir must be writable" in refused(capsys, f"run_dir={tmp_path / 'file' / 'run'}")


def test_no_verb_and_an_unknown_one(capsys):
    assert cli.main([]) == cli.BAD_INPUT
    assert cli.main(["prune"]) == cli.BAD_INPUT
    assert cli.main(["report"]) == cli.BAD_INPUT
    assert capsys.readouterr().err.count("usage: lightning-cost fit") == 3
    assert cli.main(["--help"]) == 0
    assert cli.main(["report", "--help"]) == 0
    assert capsys.readouterr().err.count("usage: lightning-cost fit") == 2


@pytest.mark.parametrize("verb", ["fit", "plan", "profile"])
def test_help_of_a_verb_is_headed_by_its_name(verb, capsys):
    cli.main([verb, "--help"])
    assert capsys.readouterr().out.startswith(f"lightning-cost {verb} is powered by Hydra.")


def test_a_directory_that_is_not_there_has_no_report(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "gone")]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "RUN_DIR must hold a report.json" in said
    assert "which is no directory; give the directory that" in said


def test_a_network_and_data_of_ones_own(tmp_path, capsys, monkeypatch):
    for group, target in (("model", "own_parts.Net"), ("data", "own_parts.Blobs")):
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(f"_target_: {target}\nsize: 6\n")
    (tmp_path / "own_parts.py").write_text(_OWN_PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    quick = [word for word in QUICK if not word.startswith(("model", "data"))]
    run_dir = tmp_path / "run"
    words = [f"--config-dir={tmp_path}", *quick, "model=mine", "data=mine", f"run_dir={run_dir}"]
    with pytest.warns(UserWarning, match="the ranking is learned on a part of the training data"):
        assert cli.main(["fit", *words]) == cli.KEPT
    report = json.loads((run_dir / "report.json").read_text())
    jsonschema.validate(report, load_schema())
    assert report["title"] == "Net on Blobs"
    assert report["data"] == {"name": "Blobs", "hash": None, "split_sizes": {"train": 64, "val": 8}}
    assert set(report["final"]["metrics"]) == {"val/accuracy"}


def test_the_seed_decides_the_initial_weights():
    cli.register_schemas()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        same = [job.to_run_config(compose("fit", [*QUICK, "seed=3"])) for _ in range(2)]
        other = job.to_run_config(compose("fit", [*QUICK, "seed=4"]))
    first, again, changed = (job.build(config)[0].state_dict() for config in (*same, other))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], changed[name]) for name in first)


_OWN_PARTS = """
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Sequential):
    def __init__(self, size):
        super().__init__(
            nn.Conv2d(2, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * size * size, 3),
        )


class Blobs(pl.LightningDataModule):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def setup(self, stage):
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(72, 2, self.size, self.size, generator=generator)
        labels = torch.arange(72) % 3
        self.parts = torch.utils.data.random_split(TensorDataset(images, labels), [64, 8])

    def train_dataloader(self):
        return DataLoader(self.parts[0], batch_size=16)

    def val_dataloader(self):
        return DataLoader(self.parts[1], batch_size=8)
"""


def _copied(run_dir: Path, folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        shutil.copy(run_dir / name, folder / name)
    return folder


def _matches(pattern: str, text: str) -> bool:
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)
    return True


PROFILE = [
    "model=resnet8",
    "model.width=4",
    "runtime=onnxruntime",
    "compress.quantize=null",
    "trainer.progress_bar=false",
    "measuring.num_networks=22",
    "measuring.seconds=0.02",
]


def profile(*words: str) -> int:
    return cli.main(["profile", *PROFILE, *words])


def test_profile_writes_a_table_and_tells_its_error(capsys):
    assert profile("table=table.json") == cli.KEPT
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "table.json"
    assert "22 networks held out" in lines[-2]
    content = json.loads(Path("table.json").read_text())
    assert len(content["networks"][0]["samples"]) == 22
    assert list(Path().iterdir()) == [Path("table.json")]  # nothing else is left behind


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table=broken.json"], "must be a whole latency table"),
        (["runtime=eager"], "measure whole networks on it with Hardware.local instead"),
        (["results=nowhere"], "manifest.json must lie in 'nowhere', got none"),
        (["bundle=a", "results=b"], "bundle and results must not be given at once"),
        (["measuring.num_networks=0"], "num_networks must be > 0, got 0"),
        (["measuring.colour=red"], "colour"),
    ],
)
def test_profile_refuses_bad_input(capsys, words, said):
    Path("broken.json").write_text('{"format": "lightning-cost latency table"')
    assert profile(*words) == cli.BAD_INPUT
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_profile_that_is_interrupted_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "profile_run", interrupted)
    assert profile() == cli.INTERRUPTED
    assert "interrupted; the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "word", ["hardware=nan", "model=1", "data=null", "hardware={a: 1}", "~model=1e999"]
)
def test_a_group_that_is_not_named_is_refused_without_a_traceback(word, capsys):
    assert cli.main(["plan", word]) == 2
    told = capsys.readouterr().err
    group = word.partition("=")[0].lstrip("~")
    assert f"lightning-cost: {group} must be one of " in told
    assert "Traceback" not in told


OVERRIDES = "compress.quantization.overrides"


@pytest.mark.parametrize("verb", ["fit", "plan"])
@pytest.mark.parametrize(
    ("word", "what"),
    [
        (f'{OVERRIDES}={{"stages.*": int8}}', "an override must be KEY=VALUE in Hydra's grammar"),
        ("budget.macs=[1", "an override must be KEY=VALUE in Hydra's grammar"),
        ("seed=two", "Value 'two' of type 'str' could not be converted to Integer full_key: seed"),
        ("seed=${nothing}", "Interpolation key 'nothing' not found"),
        ("compress.prunes=true", "'compress.prunes'. Key 'prunes' not in 'CompressSettings'"),
        (f"{OVERRIDES}={{stem:int8}}", f"To append to your config use +{OVERRIDES}={{stem:int8}} "),
        ("data=nowhere", "Could not find 'data/nowhere'"),
    ],
)
def test_what_hydra_refuses_is_said_with_the_word_and_a_remedy(capsys, verb, word, what):
    assert cli.main([verb, "hardware=raspberry_pi_4", "budget.macs=50%", word]) == cli.BAD_INPUT
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("lightning-cost: ")
    assert what in told
    assert word in told
    assert told.endswith(("{stages.*:int8}'", "lists groups and settings"))


def test_who_asks_hydra_for_a_traceback_gets_it(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigCompositionException):
        cli.main(["plan", "compress.prunes=true"])


def test_patterns_of_layers_stand_without_quotes(capsys):
    words = [f"+{OVERRIDES}={{stages.*:int4,stem.*:int9}}", "hardware=raspberry_pi_4"]
    assert cli.main(["plan", "budget.macs=50%", *words]) == cli.BAD_INPUT
    assert "got 'int9'" in capsys.readouterr().err
    words[0] = words[0].replace("int9", "int8")
    assert cli.main(["plan", "budget.macs=50%", *words]) == cli.KEPT
