# `make demo` and `make test` each set everything up themselves; neither needs the other first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := cnnbench tests notebooks
# Processes that run tests, each with one thread: small networks gain nothing from a second.
WORKERS ?= 2
# Of each variant, in `make soak`.
KILLS ?= 20

.PHONY: help demo test test-all soak lint format costs clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

# The stamp is newer than pyproject.toml once everything in it is installed.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## train ConvNeXt on bundled handwritten digits, tracked and evaluated
	$(BIN)/python -m cnnbench fit --config configs/convnext_t.yaml

test: $(VENV)/.installed  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/.installed  ## run the slow tests too: the largest models, which need 20 GB of memory
	$(BIN)/python -m pytest -m "slow or not slow"

soak: $(VENV)/.installed  ## kill runs at random moments, resume them, and compare with runs that nobody killed
	OMP_NUM_THREADS=1 $(BIN)/python tests/cli/soak.py --kills $(KILLS)

lint: $(VENV)/.installed  ## check style and formatting
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

format: $(VENV)/.installed  ## apply style and formatting
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

costs: $(VENV)/.installed  ## count the parameters and multiply-adds that `models` lists
	$(BIN)/python -m cnnbench.cli.common.costs

clean:  ## remove the environment and caches, keep runs and data
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
