# make demo and make test work on a fresh machine with Python 3.11 or newer: they make .venv and install into it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench clean

demo: .venv/installed
	$(BIN)/advrec demo

test: .venv/installed-dev check
	$(BIN)/pytest

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# torchattacks asks for a version of requests that others do not bear; it runs without.
bench: .venv/installed
	$(BIN)/pip install --quiet foolbox
	$(BIN)/pip install --quiet --no-deps torchattacks
	$(BIN)/python benchmarks/attacks.py
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/training.py

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
