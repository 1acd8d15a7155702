# `make demo` looks, `make test` checks, `make test-all` checks what takes long, too.
# All set up their environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all test-oldest test-newest lint format catalog clean

demo: $(VENV)/.user
	$(BIN)/anojax demo --output demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto

test-all: $(VENV)/.dev
	ANOJAX_FUZZ_ROUNDS=400 $(BIN)/python -m pytest -n auto -m ''

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright -p . --pythonpath $(BIN)/python --level error

# For CI, a matrix of two: the oldest JAX that is supported, and the newest there is.
test-oldest test-newest: test-%: .venv-%/.dev
	.venv-$*/bin/python -m pytest -n auto

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

catalog: $(VENV)/.dev
	$(BIN)/python -m anojax.report.catalog README.md

clean:
	rm -rf $(VENV) demo

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "anojax needs Python 3.11 or newer; run: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

.venv-oldest/.dev: JAX := 'jax==0.10.0' 'jaxlib==0.10.0'
.venv-newest/.dev: JAX := --upgrade jax jaxlib
.venv-%/.dev: pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --editable '.[dev]'
	.venv-$*/bin/python -m pip install --quiet $(JAX)
	touch $@

$(VENV)/.user: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.user
