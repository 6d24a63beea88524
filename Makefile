# Two commands for a newcomer: `make demo` and `make test`. Each makes what it needs.

PYTHON ?= python3
VENV := .venv/bin
BENCH := .bench/bin

.PHONY: help demo test lint docs journey storm hub-storm scaling-storm bench bench-quick bench-check clean

help:
	@echo "make demo     a hub on this machine, ready to log in (Ctrl-C stops it)"
	@echo "make test     all tests, with a real hub, real servers and real workers (TESTS=... for some)"
	@echo "make lint     style and types"
	@echo "make docs     write the references of spawner and workers from the code"
	@echo "make journey  log in, start a server, compute with Dask, stop: each step with its time"
	@echo "make storm    kill the backend and its launcher under load, ROUNDS=2000 times"
	@echo "make hub-storm  kill the hub while people start and stop servers, HUB_ROUNDS=100 times"
	@echo "make scaling-storm  scale workers at random under load, ROUNDS=1000 times"
	@echo "make bench    measure all beside peers and limits, into docs/performance.md, in 30 minutes (BENCHES=... for some)"
	@echo "make bench-quick   the same in short, in 5 minutes"
	@echo "make bench-check   whether a ratio of ours got worse than in the committed short run"
	@echo "make clean    remove what the others made"

demo:
	@$(PYTHON) examples/environment.py demo
	@exec $(VENV)/python examples/demo.py

# The processes that share the tests; a file is one process's, and 0 is none but pytest itself. The order of the
# files is ours: those that take long come first, so that nobody waits for one of them at the end.
WORKERS ?= 3
test: environment
	@$(VENV)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

journey: environment
	@$(VENV)/python examples/journey.py --fresh

ROUNDS ?= 2000
storm: environment
	@HUBFLEET_KILL_ROUNDS=$(ROUNDS) $(VENV)/python -m pytest -s --timeout=0 tests/backend/test_kill_storm.py

HUB_ROUNDS ?= 100
hub-storm: environment
	@HUBFLEET_HUB_KILL_ROUNDS=$(HUB_ROUNDS) $(VENV)/python -m pytest -s --timeout=0 tests/e2e/test_hub_storm.py

scaling-storm: ROUNDS := 1000
scaling-storm: environment
	@HUBFLEET_SCALINGS=$(ROUNDS) $(VENV)/python -m pytest -s --timeout=0 tests/workers/test_scaling_storm.py

docs: environment
	@$(VENV)/python docs/generate.py
	@$(VENV)/python docs/generate_workers.py

# The scripts to run, of those in bench/run.py; all, if none is named. PATIENCE is for a busy machine.
BENCHES ?=
PATIENCE ?= 1
bench: bench-environment
	@$(BENCH)/python bench/run.py --patience $(PATIENCE) $(BENCHES)

bench-quick: bench-environment
	@$(BENCH)/python bench/run.py --quick --patience $(PATIENCE) $(BENCHES)

bench-check: bench-environment
	@$(BENCH)/python bench/check.py --patience $(PATIENCE) $(BENCHES)

# mypy does not know setup.cfg's mapping of folders to packages, so it is shown links.
lint: environment
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@mkdir -p build/types/hubfleet
	@for room in api backend spawner workers; do ln -sfn ../../../$$room build/types/hubfleet/$$room; done
	@$(VENV)/python -m mypy

.PHONY: environment
environment:
	@$(PYTHON) examples/environment.py test

.PHONY: bench-environment
bench-environment:
	@$(PYTHON) examples/environment.py bench

clean:
	rm -rf .venv .bench .hubfleet build dist *.egg-info install.log .mypy_cache .pytest_cache .ruff_cache .hypothesis
