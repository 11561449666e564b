# Every target makes what it needs; a second call is quick. No network is used beyond pip's registry, except by `demo`
# where the small model isn't in the cache yet.
#
#   make setup TORCH_INDEX=URL   take torch from this index (one with CPU builds)
#   make setup CONSTRAINTS=      take the newest versions that fit instead of the pinned ones
#   make setup VLLM=none         without vLLM
#   make test PYTEST="-k store"  more arguments for pytest
#   make fuzz FUZZ=5000          examples of each kind
#   make test WORKERS=1          one test process instead of one a core (four at most)

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
CONSTRAINTS ?= constraints.txt
VLLM ?=
PYTEST ?=
FUZZ ?= 1000
WORKERS ?= auto

BIN := $(VENV)/bin
# tests/conftest.py says which tests stay together.
TESTS = $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4
FOLDERS := selftrain pipelines verifiers data tests benchmarks tools
# mypy refuses a folder without a Python file.
TYPED = $(foreach folder,$(FOLDERS),$(if $(shell find $(folder) -name '*.py' -print -quit 2>/dev/null),$(folder)))
DEMO = $(BIN)/selftrain run rest_em --preset demo --out runs/demo

.PHONY: setup demo test test-slow test-gpu faults fuzz soak audit lint types format doctor ci clean help
.DEFAULT_GOAL := help

help:  ## these lines
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup:  ## the virtual environment with everything in it
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "setup: Python 3.11 or newer is needed, but $(PYTHON) is: $$($(PYTHON) --version 2>&1);" \
	       "name another with make setup PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) tools/install.py --venv "$(VENV)" --torch-index "$(TORCH_INDEX)" --constraints "$(CONSTRAINTS)" \
	  --vllm "$(VLLM)"

demo: setup  ## self-train a real model over several rounds
	$(DEMO)
	@[ -e runs/demo-model ] || $(BIN)/selftrain export runs/demo --to runs/demo-model --merge
	$(BIN)/selftrain report runs/demo

test: setup  ## the fast tests
	$(TESTS) -m "not slow and not gpu" $(PYTEST)

test-slow: setup  ## the slow tests
	$(TESTS) -m "slow and not gpu" $(PYTEST)

test-gpu: setup  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -n 0 -m gpu $(PYTEST)

faults: setup  ## inject every fault into runs of its own, and write the table (docs/reliability.md)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.campaign --write

fuzz: setup  ## many more wrong run files, data, runs, responses and command lines (FUZZ examples of each)
	SELFTRAIN_FUZZ=$(FUZZ) $(BIN)/python -m pytest -n 0 tests/input/test_fuzz.py $(PYTEST)

soak: setup  ## two hundred rounds: do memory, handles, processes, disk or the time of a round grow?
	$(BIN)/python -m benchmarks.soak --work runs/soak

audit:  ## known faults of the pinned dependencies (docs/security.md); needs the vulnerability database of PyPI
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install -q pip-audit
	build/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

lint: setup  ## format, lint and types, as CI checks them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(TYPED)

types: setup  ## the types alone
	$(BIN)/mypy $(TYPED)

format: setup  ## write what lint can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

doctor: setup  ## what this machine has, and what is missing
	$(BIN)/selftrain doctor

ci:  ## everything that must pass before a change is merged
	.ci/run

clean:  ## remove the environment, caches and built files; runs/ and exports/ stay
	rm -rf "$(VENV)" build dist selftrain.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
