# make train       trains on Pong for about five minutes; ENV=, STEPS=, PRESET= and ARGS= pass through
# make test        lint, types and tests, as CI runs them
# make test-slow   the full forms of the tests that CI runs in short: hours
# make coverage    which lines and branches the tests run; the pages are in build/coverage

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENV ?= ALE/Pong-v5
STEPS ?= 40000
PRESET ?=
ARGS ?=
PACKAGES := agents envs networks scripts
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=worksteal

.PHONY: train test test-slow coverage lint types unit clean

train: $(VENV)/installed
	$(BIN)/pixelq train --env $(ENV) --steps $(STEPS) $(if $(PRESET),--preset $(PRESET)) $(ARGS)

test: lint types unit

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not follow the mapping of package-dir, so it is given the packages where they are imported from.
types: $(VENV)/installed
	mkdir -p build/types/pixelq
	for package in $(PACKAGES); do ln -sfn ../../../$$package build/types/pixelq/$$package; done
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache \
		--namespace-packages --explicit-package-bases $(PACKAGES:%=-p pixelq.%)

unit: $(VENV)/installed
	$(BIN)/pytest $(SIDE_BY_SIDE)

# One test at a time, as some of them measure memory and speed.
test-slow: $(VENV)/installed
	PIXELQ_FULL=1 PIXELQ_FUZZ=100000 $(BIN)/pytest -m 'not gpu' --durations=20

coverage: $(VENV)/installed
	$(BIN)/pytest $(SIDE_BY_SIDE) --cov --cov-report=term-missing:skip-covered --cov-report=html

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
