# Everything starts here: a bare Python (3.11 or later) and make are enough.
#
#   make demo       train on the bundled digits and write a report (under two minutes)
#   make test       the test suite without the slow statistical and training tests
#   make test-all   all tests
#   make lint       ruff, pyright
#   make rules      list the JAX operations that the graph has no rule for
#   make docs       the documentation, into site/
#   make bench      the benchmarks, into benchmarks/results/
#   make bench-libraries   those that compare with Pyro and Storchastic (installs PyTorch)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
OUT ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo test test-all lint rules docs bench bench-libraries clean help

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/elbax fit vae --data digits --out $(OUT)

test: $(VENV)/.installed-tests
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist worksteal

test-all: $(VENV)/.installed-tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.installed-lint $(VENV)/.installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

rules: $(VENV)/.installed-tests
	$(BIN)/python -m tests.graph.coverage

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.installed-tests
	$(BIN)/python -m benchmarks

bench-libraries: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks sbn_libraries

# Each group of dependencies is installed on first use, and again when pyproject.toml changes.
$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "elbax needs Python 3.11 or later; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-%: pyproject.toml $(VENV)/.installed | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --group $*
	@touch $@

clean:
	rm -rf $(VENV) site .pytest_cache .ruff_cache .hypothesis
