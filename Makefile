# `make demo` and `make test` do everything from a fresh clone; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= results/corruption
# Threads that wait asleep: on a busy machine spinning ones make small matrices ten times slower.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-all lint types bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "bayesgen needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/bayesgen corruption --out $(OUT)

# Two worker processes with one thread each are faster than one process with two threads.
test test-all: export OMP_NUM_THREADS := 1
test test-all: export OPENBLAS_NUM_THREADS := 1

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -m 'not slow'

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# DATA is the folder with CIFAR-10's official binary files.
bench: $(VENV)/.installed-dev
	@test -n "$(DATA)" || { echo "make bench DATA=DIR, DIR with CIFAR-10's binary files" >&2; exit 2; }
	$(BIN)/python benchmarks/evidence_gradient.py
	$(BIN)/python benchmarks/model_selection.py
	$(BIN)/python benchmarks/corruption_study.py --data-dir $(DATA)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
