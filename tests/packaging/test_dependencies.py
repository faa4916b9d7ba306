import ast
import re
import sys
from importlib import metadata
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


def private_names(folder):
    """The distributions of whose private names a module in ``folder`` imports one, with a place."""
    places = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                parts = [*node.module.split("."), *(alias.name for alias in node.names)]
                if any(re.match("_(?!_)", part) for part in parts) and not _is_own(parts[0], path):
                    name = canonicalize_name(DISTRIBUTION_OF.get(parts[0], parts[0]))
                    places[name] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return places


def test_what_is_used_by_private_names_is_bounded_above():
    used = private_names(ROOT / "lightning_cost")
    declared = {**EXTRAS["deploy"], **EXTRAS["sweep"], **CORE}
    unbounded = {
        name: place
        for name, place in used.items()
        if not {"<", "<="} & {each.operator for each in declared[name].specifier}
    }
    assert "torch" in used
    assert unbounded == {}


def pins_in(name):
    """What a file of constraints pins, on the Python that it is for."""
    lines = (ROOT / name).read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert {entry.operator for pin in pins for entry in pin.specifier} == {"=="}
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}


# peers choose torch for themselves
PINNED = {
    "constraints.txt": sorted(EXTRAS.keys() - {"vision", "peers"}),
    "constraints-newest.txt": ["deploy", "dev", "vision", "joblib", "ray", "slurm"],
}


@pytest.mark.parametrize("name", PINNED)
def test_what_ci_uses_is_pinned_and_allowed(name):
    pins = pins_in(name)
    wanted = [*CORE.values(), *(each for extra in PINNED[name] for each in EXTRAS[extra].values())]
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate():
            pin = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pin), requirement.name


# versions that are known to be bad, with where it is said, beneath github.com/advisories
WITHDRAWN = {
    # they ran a thief of credentials when they were imported
    "GHSA-w37p-236h-pfx3": Requirement("pytorch-lightning==2.6.2"),
    "GHSA-w37p-236h-pfx3 too": Requirement("pytorch-lightning==2.6.3"),
}
DANGEROUS = {
    # hyperparameters in a checkpoint run code in load_from_checkpoint, which nothing here calls
    "GHSA-qqmf-gpg7-g8gw": Requirement("pytorch-lightning<2.6.6"),
}


@pytest.mark.parametrize("source", WITHDRAWN)
def test_withdrawn_releases_are_refused(source):
    bad = WITHDRAWN[source]
    version = next(iter(bad.specifier)).version
    assert not CORE[bad.name].specifier.contains(version)


@pytest.mark.parametrize("source", WITHDRAWN | DANGEROUS)
@pytest.mark.parametrize("name", PINNED)
def test_no_pin_is_known_to_be_bad(name, source):
    bad = (WITHDRAWN | DANGEROUS)[source]
    assert not bad.specifier.contains(pins_in(name)[bad.name])


def test_what_is_installed_fits_together():
    """What is reached from the project's own requirements, as ``pip check`` looks at it."""
    waiting = [(requirement, "lightning-cost") for requirement in CORE.values()]
    seen, wrong = set(), []
    while waiting:
        requirement, asked_by = waiting.pop()
        found = metadata.version(requirement.name)
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{asked_by} asks for {requirement}, and {found} is there")
        name = canonicalize_name(requirement.name)
        if name in seen:
            continue
        seen.add(name)
        asked = map(Requirement, metadata.requires(name) or [])
        waiting += [
            (each, name)
            for each in asked
            if each.marker is None or each.marker.evaluate({"extra": ""})
        ]
    assert len(seen) > len(CORE)
    assert wrong == []
