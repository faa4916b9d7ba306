import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def commands(target, venv):
    """The shell commands that ``make target`` would run in an environment not made yet.

    Whatever flags the run that this test is a part of gave to pip or pytest are left out.
    """
    result = subprocess.run(
        ["make", "--dry-run", target, f"VENV={venv}", "PIP_FLAGS=", "PYTEST_FLAGS=-n 2"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return result.stdout


def test_demo_installs_torch_by_itself_before_the_rest(tmp_path):
    torch_pin = re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[0]
    output = commands("demo", tmp_path / "venv")
    steps = [
        rf"-m venv {tmp_path}/venv",
        rf"pip install -q +{re.escape(torch_pin)}\n",
        r"pip install -q +-c constraints\.txt -e '\.\[deploy\]'\n",
        rf"{tmp_path}/venv/bin/lightning-cost fit model.width=32\n",
    ]
    assert re.search(".*".join(steps), output, re.DOTALL)
    assert output.count("pip install") == 2


def test_test_leaves_out_the_slow_ones(tmp_path):
    output = commands("test", tmp_path / "venv")
    assert re.search(r"-m pytest .*-m \"not slow and not vision and not launchers\"\n", output)
    assert "-e '.[deploy,energy,dev]'" in output


def test_what_is_installed_is_not_installed_again(tmp_path):
    stamps = (".venv-made", ".torch-installed", ".installed", ".dev-installed")
    for stamp in (*stamps, ".executorch-installed"):
        (tmp_path / stamp).touch()
    newest = tmp_path.parent / f"{tmp_path.name}-newest"
    newest.mkdir()
    (newest / ".installed").touch()
    assert "pip install" not in commands("check", tmp_path)


def test_check_is_everything(tmp_path):
    output = commands("check", tmp_path / "venv")
    for tool in (
        '-m "slow and',
        "-m vision",
        "tests.gauntlet --short",
        "ruff check",
        "ruff format",
        "mypy",
        "lint-imports",
    ):
        assert tool in output
