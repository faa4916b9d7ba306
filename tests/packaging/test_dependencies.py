import ast
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["dependencies"])}
EXTRAS = {
    extra: {canonicalize_name(r.name): r for r in map(Requirement, requirements)}
    for extra, requirements in PROJECT["optional-dependencies"].items()
}
# modules that are not called like the distribution that brings them
DISTRIBUTION_OF = {
    "sklearn": "scikit-learn",
    "hydra": "hydra-core",
    "omegaconf": "hydra-core",
    "yaml": "pyyaml",
}


def imported_distributions(folder, *, only_at_import):
    """The distributions that the modules in ``folder`` import, with one place for each."""
    places = {}
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in tree.body if only_at_import else ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            for top in {name.partition(".")[0] for name in names}:
                if not _is_own(top, path) and top not in sys.stdlib_module_names:
                    name = canonicalize_name(DISTRIBUTION_OF.get(top, top))
                    places[name] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return places


def _is_own(top, path):
    """Whether the repository itself has the module ``top``, as seen from the file ``path``."""
    return (ROOT / top).is_dir() or path.with_name(f"{top}.py").is_file()


def test_every_import_is_of_a_declared_dependency():
    declared = CORE.keys() | EXTRAS["deploy"].keys() | EXTRAS["vision"].keys()
    for extra in ("energy", "cmaes", "executorch", "sweep"):
        declared |= EXTRAS[extra].keys()
    imported = imported_distributions(ROOT / "lightning_cost", only_at_import=False)
    assert {name: place for name, place in imported.items() if name not in declared} == {}


@pytest.mark.parametrize("folder", ["tests", "examples", "benchmarks"])
def test_what_uses_the_package_imports_what_is_declared(folder):
    declared = CORE.keys() | {name for requirements in EXTRAS.values() for name in requirements}
    imported = imported_distributions(ROOT / folder, only_at_import=False)
    assert {name: place for name, place in imported.items() if name not in declared} == {}


def test_importing_the_package_needs_no_extra():
    imported = imported_distributions(ROOT / "lightning_cost", only_at_import=True)
    # the sweeper is imported by Hydra when it is asked for, and says which extra is missing
    sweeper = EXTRAS["sweep"].keys()
    places = {name: place for name, place in imported.items() if name not in CORE}
    assert {name for name in places if name not in sweeper} == set()
    assert all(place.startswith("lightning_cost/sweep/") for place in places.values())


def test_every_core_dependency_is_used():
    used = imported_distributions(ROOT / "lightning_cost", only_at_import=False)
    used |= imported_distributions(ROOT / "tests", only_at_import=False)
    assert CORE.keys() - used.keys() == set()


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_withdrawn_lightning_releases_are_refused(version):
    assert not CORE["pytorch-lightning"].specifier.contains(version)


def test_what_ci_uses_is_pinned_and_allowed():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {
        canonicalize_name(pin.name): next(iter(pin.specifier))
        for pin in (Requirement(line) for line in lines if not line.startswith("#"))
    }
    assert {pin.operator for pin in pins.values()} == {"=="}
    wanted = [*CORE.values(), *EXTRAS["deploy"].values(), *EXTRAS["energy"].values()]
    wanted += EXTRAS["dev"].values()
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate():
            pin = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pin.version), requirement.name
