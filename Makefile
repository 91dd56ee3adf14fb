# Every target sets itself up: a stamp in .venv records that the pinned packages are installed.
PYTHON ?= python3

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# After the installation nothing may reach for the network, not even by accident.
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1
export WANDB_MODE := disabled

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow fuzz lint bench notebooks

help: ## print this list
	@echo "Microtome: what a transformer computes, and why. Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "Each sets up $(VENV) first if it is missing; PYTHON=python3.12 names another interpreter for it."

demo: $(READY) ## compile a program, train beside exact Bayes, verify theorems; report in runs/demo
	@$(BIN)/microtome demo --out runs/demo

# Two processes with one thread each: threads of small products only get in each other's way.
test: export OMP_NUM_THREADS := 1
test: $(READY) ## the test suite
	@$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: export OMP_NUM_THREADS := 1
test-slow: $(READY) ## the tests that need more than the quick budget
	@$(BIN)/python -m pytest -n 2 -m slow

fuzz: export OMP_NUM_THREADS := 1
fuzz: export MICROTOME_FUZZ := 10000
fuzz: $(READY) ## the RASP compiler against its interpreter on 10,000 random programs
	@$(BIN)/python -m pytest --timeout=0 --hypothesis-show-statistics tests/lab/rasp/test_rasp_fuzz.py

lint: $(READY) ## ruff: rules and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

bench: $(READY) ## every comparison in benchmarks/, one after the other
	@scripts=$$(grep -ls '__main__' benchmarks/*.py) || echo "benchmarks/ holds no scripts yet."; \
	for script in $$scripts; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

notebooks: $(READY) ## execute every notebook in notebooks/, in place
	@$(BIN)/python notebooks/run.py

# setuptools comes first and the build is not isolated, so that the pins hold for building too.
$(READY): pyproject.toml setup.py constraints.txt
	@command -v $(PYTHON) > /dev/null || \
	{ echo "Microtome needs Python 3.11 or newer, and there is no '$(PYTHON)' here; name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Microtome needs Python 3.11 or newer, and this is $$($(PYTHON) --version); name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
	{ echo "$(PYTHON) cannot make virtual environments: install the package python3-venv (on Debian: apt install python3-venv)." >&2; exit 1; }
	@echo "Setting up $(VENV), once; this takes a few minutes."
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt setuptools && \
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]' || \
	{ echo "The installation stopped, see above; it needs the package index once and goes on when you call make again." >&2; exit 1; }
	@touch $@
