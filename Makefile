# make train   trains on Pong for about five minutes; ENV=, STEPS=, PRESET= and ARGS= pass through
# make test    lint, types and tests, as CI runs them

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENV ?= ALE/Pong-v5
STEPS ?= 40000
PRESET ?= quick
ARGS ?=
PACKAGES := agents envs networks scripts

.PHONY: train test lint types unit clean

train: $(VENV)/installed
	$(BIN)/pixelq train --env $(ENV) --steps $(STEPS) --preset $(PRESET) $(ARGS)

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
	$(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
