import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def files_below(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_holds_the_package_and_its_conf_and_nothing_else(wheel):
    code = {f"lightning_cost/{name}" for name in files_below(ROOT / "lightning_cost")}
    conf = {f"lightning_cost/conf/{name}" for name in files_below(ROOT / "conf")}
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    plugins = {f"hydra_plugins/{name}" for name in files_below(ROOT / "hydra_plugins")}
    assert inside == code | conf | plugins
    assert "lightning_cost/py.typed" in code


def test_conf_is_carried_unchanged(wheel):
    for name in files_below(ROOT / "conf"):
        assert wheel.read(f"lightning_cost/conf/{name}") == (ROOT / "conf" / name).read_bytes()


def dist_info(wheel, name):
    (path,) = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def test_installs_the_command(wheel):
    entry_points = dist_info(wheel, "entry_points.txt").splitlines()
    assert "lightning-cost = lightning_cost.cli:main" in entry_points


def test_says_its_license(wheel):
    assert dist_info(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    metadata = Parser().parsestr(dist_info(wheel, "METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        yield archive


def test_source_holds_what_is_in_version_control_and_no_results(sdist):
    inside = {name.partition("/")[2] for name in sdist.getnames()}
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\n")
    made = {"PKG-INFO", ".gitignore"}
    assert inside - made <= set(listed)
    top = {name.partition("/")[0] for name in inside - made}
    assert top == {
        *("conf", "docs", "examples", "hydra_plugins", "lightning_cost", "tests"),
        *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md"),
        *("constraints.txt", "constraints-newest.txt", "pyproject.toml"),
    }
    assert all(member.isfile() or member.isdir() for member in sdist.getmembers())


def test_nothing_but_code_cards_and_data_travels(wheel):
    """A note that someone left in a folder is no part of the package."""
    kinds = (".py", "/README.md", ".yaml", ".json", ".css", "/py.typed")
    others = [name for name in wheel.namelist() if not name.endswith(kinds)]
    assert [name for name in others if ".dist-info/" not in name] == []
