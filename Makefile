# make install     sets up .venv for development, with pinned versions
# make train       trains on Pong for five minutes, evaluates and films; ENV=, STEPS=, PRESET= and ARGS= pass through
# make test        lint, types and tests, as CI runs them
# make test-slow   the full forms of the tests that CI runs in short: hours
# make docs        the manual as a site, in build/site; fails on a link or an anchor that leads nowhere
# make coverage    which lines and branches the tests run; the pages are in build/coverage

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENV ?= ALE/Pong-v5
STEPS ?= 200000
PRESET ?=
ARGS ?=
# Evaluations are kept short: games of up to five minutes of play, and up to three of one in a film.
END := --film --evaluation-episode-steps 4500
PACKAGES := agents envs networks scripts
LINKS := build/types/pixelq
# Python compiles what is imported, once: an installation that compiles all of its packages takes a minute longer.
export PYTHONDONTWRITEBYTECODE :=
INSTALL = $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=worksteal

.PHONY: train install test test-slow coverage docs lint types unit clean

train: $(VENV)/installed
	$(BIN)/pixelq train --env $(ENV) --steps $(STEPS) $(END) $(if $(PRESET),--preset $(PRESET)) $(ARGS)

install: $(VENV)/installed

# Types are checked on what the tests leave idle of the cores.
test: lint
	+$(MAKE) --no-print-directory --jobs=2 types unit

lint: $(VENV)/engines
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/engines $(LINKS)
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache \
		--namespace-packages --explicit-package-bases $(PACKAGES:%=-p pixelq.%)

unit: $(VENV)/engines
	$(BIN)/pytest $(SIDE_BY_SIDE)

# One test at a time, as some of them measure memory and speed.
test-slow: $(VENV)/installed
	$(INSTALL) '.[slow]'
	PIXELQ_FULL=1 PIXELQ_FUZZ=100000 $(BIN)/pytest -m 'not gpu' --durations=20

# The reference is read from the sources, which mkdocs finds by the links.
docs: $(VENV)/installed $(LINKS)
	$(INSTALL) '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

coverage: $(VENV)/engines
	$(BIN)/pytest $(SIDE_BY_SIDE) --cov --cov-report=term-missing:skip-covered --cov-report=html

# Type checkers do not follow the mapping of package-dir, nor the import hook of an editable install. They follow a folder
# of links to the packages that is on the path: here, and in any project that uses this environment.
define install
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[$(EXTRAS)]'
	echo '$(CURDIR)/build/types' > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pixelq.pth"
	touch $(VENV)/installed
endef

$(VENV)/installed: EXTRAS := dev
$(VENV)/installed: pyproject.toml constraints.txt | $(LINKS)
	$(install)

# The same with large packages that training does without, so that make train does not wait for them.
$(VENV)/engines: EXTRAS := dev,engines
$(VENV)/engines: pyproject.toml constraints.txt | $(LINKS)
	$(install)
	touch $@

$(LINKS):
	mkdir -p $@
	for package in $(PACKAGES); do ln -sfn ../../../$$package $@/$$package; done

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
