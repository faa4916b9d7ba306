"""What a command line would fit, by its own words or by an earlier run's; nothing is trained."""

from pathlib import Path

import pytest

from lightning_cost import cli, job
from lightning_cost.recipe.run_dir import CONFIG_NAME

WORDS = ["hardware=raspberry_pi_4", "model=resnet8", "budget.macs=20%"]
OVERRIDES = "compress.quantization.overrides"


@pytest.fixture(autouse=True)
def work_dir(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def fitted(monkeypatch):
    """The configurations that would be fitted, in order; each is saved as a fit saves it."""
    found = []

    def fit(config, network, data, resolved, observers=()):
        found.append(config)
        if config.resume is None:
            run_dir = Path(config.run_dir)
            run_dir.mkdir(parents=True, exist_ok=True)
            (run_dir / CONFIG_NAME).write_text(resolved)
        return True

    monkeypatch.setattr(job, "fit", fit)
    return found


@pytest.fixture
def run_dir(fitted):
    """Of a run that was interrupted as soon as it had begun."""
    assert cli.main(["fit", *WORDS, "seed=3", "run_dir=run"]) == cli.KEPT
    fitted.clear()
    return Path("run")


def test_a_repeated_run_that_is_swept_shares_a_search_for_its_own_budget(run_dir, fitted):
    words = ["--config-path", str(run_dir), "seed=1,2", "hydra.sweep.dir=sweep"]
    assert cli.main(["fit", "-m", *words]) == cli.KEPT
    assert [config.seed for config in fitted] == [1, 2]
    for config in fitted:
        assert config.budget.macs == "20%"
        assert config.shared_search.budget.macs == "20%"


def test_overrides_of_a_repeated_run_are_among_the_budgets_of_its_sweep(run_dir, fitted):
    words = ["--config-path", str(run_dir), "budget.macs=30%,10%", "hydra.sweep.dir=sweep"]
    assert cli.main(["fit", "-m", *words]) == cli.KEPT
    assert [config.budget.macs for config in fitted] == ["30%", "10%"]
    assert [config.shared_search.budget.macs for config in fitted] == ["10%", "10%"]


def test_a_run_of_a_sweep_is_repeated_alone(fitted):
    assert cli.main(["fit", "-m", *WORDS, "seed=1,2", "hydra.sweep.dir=sweep"]) == cli.KEPT
    assert fitted[0].shared_search is not None
    assert cli.main(["fit", "--config-path", "sweep/0", "run_dir=again"]) == cli.KEPT
    assert fitted[-1].shared_search is None
    assert fitted[-1].run_dir == "again"
    # while the run itself goes on within its sweep
    assert cli.main(["fit", "resume=sweep/0"]) == cli.KEPT
    assert fitted[-1].shared_search == fitted[0].shared_search


@pytest.mark.parametrize(
    ("words", "of_data"),
    [([], 3), (["seed=7"], 7), (["seed=7", "data.seed=5"], 5), (["data.seed=5"], 5)],
)
def test_the_seed_of_a_repeated_run_is_that_of_its_data(run_dir, fitted, words, of_data):
    assert cli.main(["fit", "--config-path", str(run_dir), *words, "run_dir=again"]) == cli.KEPT
    (config,) = fitted
    assert config.seed == (7 if "seed=7" in words else 3)
    assert config.data["seed"] == of_data


def test_data_of_another_seed_than_the_run_keep_theirs(fitted):
    assert cli.main(["fit", *WORDS, "seed=3", "data.seed=4", "run_dir=run"]) == cli.KEPT
    assert cli.main(["fit", "--config-path", "run", "seed=7", "run_dir=again"]) == cli.KEPT
    assert (fitted[-1].seed, fitted[-1].data["seed"]) == (7, 4)


def test_a_sweep_goes_on_after_it_was_moved(fitted, work_dir, tmp_path, monkeypatch):
    words = ["fit", "-m", *WORDS, "seed=1,2"]
    assert cli.main([*words, "hydra.sweep.dir=sweep"]) == cli.KEPT
    moved = (work_dir / "sweep").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert cli.main([*words, f"hydra.sweep.dir={moved}"]) == cli.KEPT
    assert [config.resume for config in fitted] == [None, None, f"{moved}/0", f"{moved}/1"]


def test_a_run_of_other_settings_is_not_gone_on_with(fitted, work_dir):
    for seeds in ("1,2", "1,3"):
        words = [f"seed={seeds}", "hydra.sweep.dir=sweep"]
        assert cli.main(["fit", "-m", *WORDS, *words]) == cli.KEPT
    assert [config.resume for config in fitted] == [None, None, f"{work_dir}/sweep/0", None]


@pytest.mark.parametrize("content", ["{", "[]", "1"])
def test_a_run_whose_configuration_is_damaged_is_not_gone_on_with(fitted, content):
    words = ["fit", "-m", *WORDS, "seed=1", "hydra.sweep.dir=sweep"]
    assert cli.main(words) == cli.KEPT
    Path("sweep/0", CONFIG_NAME).write_text(content)
    assert cli.main(words) == cli.KEPT
    assert fitted[-1].resume is None


@pytest.mark.parametrize("asked", ["resume=run", "--config-path=run"])
def test_overrides_of_an_earlier_run_are_in_the_grammar_of_hydra(run_dir, fitted, asked):
    words = [
        f"+{OVERRIDES}={{stages.*:int8,stem:int4}}",
        "++compress.max_drop=0.1",
        "compress.quantize={name:flightnn,mean_terms:1.2}",
        "compress.metric='val/accuracy'",
        "compress.distillation=null",
        "budget.params=30%",
    ]
    assert cli.main(["fit", asked, *words, "run_dir=again"]) == cli.KEPT
    (config,) = fitted
    compress = config.compress
    assert compress.quantization.overrides == {"stages.*": "int8", "stem": "int4"}
    assert compress.max_drop == 0.1
    assert compress.quantize == {"name": "flightnn", "mean_terms": 1.2}
    assert compress.metric == "val/accuracy"
    assert compress.distillation is None
    assert (config.budget.macs, config.budget.params) == ("20%", "30%")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("~model.width", "resume must go with overrides that set something, got '~model.width'"),
        (
            "trainer=quick",
            "of which single settings can be changed, got the whole of trainer=quick",
        ),
        ("experiment=fashion_resnet20", "got the whole of experiment=fashion_resnet20"),
        ("hardware@train_hardware=nvidia_t4", "the whole of hardware@train_hardware=nvidia_t4"),
        ("+budget.mac=1", "overrides that fit 'run/config.yaml', got: Key 'mac' not in"),
    ],
)
def test_what_does_not_go_with_an_earlier_run_is_refused(run_dir, fitted, capsys, word, said):
    assert cli.main(["fit", "resume=run", word]) == cli.BAD_INPUT
    assert said in capsys.readouterr().err
    assert fitted == []
