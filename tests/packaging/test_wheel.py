import subprocess
import sys
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
