PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
PYTEST_FLAGS ?= -n 2

BIN := $(abspath $(VENV))/bin
TORCH := $(shell grep -o '^torch==[0-9.]*' constraints.txt)
# one thread for each of the processes that tests run in, so that they do not fight for cores
TEST_ENV := OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test slow vision launchers executorch gauntlet gauntlet-short lint types imports \
	examples conf check clean

help:
	@echo "make demo   install, then train, compress and deploy on the digits data (minutes)"
	@echo "make test   install, then all tests but the slow ones"
	@echo "make check  everything that CI runs"
	@echo "make gauntlet  kills, ranks, hostile input, strange networks, long runs: half an hour"

# Installing: torch first, by itself, so that nothing else chooses its build. Done once; each stamp is
# redone when what it was made from changes.
$(VENV)/.venv-made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.torch-installed: constraints.txt | $(VENV)/.venv-made
	$(BIN)/python -m pip install -q $(PIP_FLAGS) $(TORCH)
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch-installed
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e '.[deploy]'
	touch $@

$(VENV)/.dev-installed: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e '.[deploy,energy,dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/lightning-cost fit model.width=32

test: $(VENV)/.dev-installed
	$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not slow and not vision and not launchers"

slow: $(VENV)/.dev-installed
	$(TEST_ENV) $(BIN)/python -m pytest -m "slow and not vision and not launchers"

# a runtime for phones, in the same environment: run after everything else that uses it
executorch: $(VENV)/.executorch-installed
	$(TEST_ENV) $(BIN)/python -m pytest -m "slow or not slow" tests/quantization/test_executorch_file.py

$(VENV)/.executorch-installed: $(VENV)/.dev-installed
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e '.[deploy,executorch]'
	touch $@

# With the newest torch, which torchvision needs: networks of torchvision, timm and transformers, and the
# launchers of other machines, as Ray does not start beside the package that reads AMD's energy counters.
NEWEST := $(abspath $(VENV))-newest

vision: $(NEWEST)/.installed
	$(TEST_ENV) HF_HUB_OFFLINE=1 $(NEWEST)/bin/python -m pytest $(PYTEST_FLAGS) -m vision tests

launchers: $(NEWEST)/.installed
	$(TEST_ENV) $(NEWEST)/bin/python -m pytest -m launchers tests/sweep

$(NEWEST)/.installed: pyproject.toml constraints-newest.txt
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install -q $(PIP_FLAGS) $$(grep -E '^(torch|torchvision)==' constraints-newest.txt | cut -d+ -f1)
	$(NEWEST)/bin/python -m pip install -q $(PIP_FLAGS) -c constraints-newest.txt -e '.[deploy,dev,vision,joblib,slurm]' ray
	@# by itself: it asks for a cloudpickle older than the pinned joblib's, and works with the newer one
	$(NEWEST)/bin/python -m pip install -q $(PIP_FLAGS) -c constraints-newest.txt --no-deps hydra-ray-launcher
	touch $@

# everything that tries to break a run, with its own table: half an hour; the short form: minutes
gauntlet: $(VENV)/.dev-installed
	$(TEST_ENV) $(BIN)/python -m tests.gauntlet

gauntlet-short: $(VENV)/.dev-installed
	$(TEST_ENV) $(BIN)/python -m tests.gauntlet --short

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev-installed
	$(BIN)/mypy

imports: $(VENV)/.dev-installed
	$(BIN)/lint-imports

# from an empty directory, so that what they write does not land in the checkout
examples: $(VENV)/.dev-installed
	set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	for example in $(CURDIR)/examples/*.py; do \
		echo "== $$(basename $$example)"; (cd $$scratch && $(TEST_ENV) $(BIN)/python $$example); \
	done

conf: $(VENV)/.dev-installed
	$(TEST_ENV) $(BIN)/python tests/conf_runs.py

check: test lint types imports slow gauntlet-short launchers vision examples conf executorch

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
