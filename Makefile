# `make demo` and `make test` do everything from a fresh clone; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= results/corruption
SEED ?= 1
TORCH := $(shell grep '^torch==' constraints.txt)
# Threads that wait asleep: on a busy machine spinning ones make small matrices ten times slower.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-all test-shuffled test-docs lint format types docs wheel bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "bayesgen needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	@echo "Installing bayesgen and its dependencies into $(VENV): torch (about 200 MB for CPUs; with CUDA,"
	@echo "some GB), and about 150 MB of other packages. pip keeps them; later starts download nothing."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/bayesgen corruption --out $(OUT) --overwrite

# Two worker processes with one thread each are faster than one process with two threads.
test test-all test-shuffled test-docs: export OMP_NUM_THREADS := 1
test test-all test-shuffled test-docs: export OPENBLAS_NUM_THREADS := 1

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -p no:randomly -m 'not slow'

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -p no:randomly

# In a random order, which takes longer because modules share fits; SEED=2 chooses another one.
test-shuffled: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --randomly-seed=$(SEED) -m 'not slow'

# The blocks of the documentation that are too slow for `make test`.
test-docs: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -p no:randomly -m slow tests/test_documentation.py tests/test_examples.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# The site in build/site. Examples of the gallery run again only where they or the package changed.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "Open build/site/index.html"

# A built wheel in an environment of its own: the README's regression and the command, elsewhere.
wheel: $(VENV)/.installed
	rm -rf build/wheel
	$(BIN)/python -m pip wheel -q --no-deps -w build/wheel .
	$(BIN)/python -m venv build/wheel/env
	build/wheel/env/bin/python -m pip install -q -c constraints.txt $(TORCH) build/wheel/*.whl
	$(BIN)/python docs/readme_block.py > build/wheel/readme.py
	cd build/wheel && env/bin/bayesgen --version && env/bin/python -I readme.py

# DATA is the folder with CIFAR-10's official binary files.
bench: $(VENV)/.installed-dev
	@test -n "$(DATA)" || { echo "make bench DATA=DIR, DIR with CIFAR-10's binary files" >&2; exit 2; }
	$(BIN)/python benchmarks/evidence_gradient.py
	$(BIN)/python benchmarks/model_selection.py
	$(BIN)/python benchmarks/corruption_study.py --data-dir $(DATA)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
