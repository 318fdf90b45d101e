# Every target installs what it needs into .venv by itself: Python 3.11+, make and git are enough.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# The first that will do; where none does, `make python` says what is needed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(WILL_DO)' 2>/dev/null && echo $$p && exit; done; echo python3)
WILL_DO := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DAYS ?= 30
ROWS ?= 100000
REPEATS ?= 7

.PHONY: help demo test verify check dev mlflow bench pictures spark clean lock install python

help: ## show the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

install: $(INSTALLED) ## create .venv from requirements.lock

$(INSTALLED): requirements.lock pyproject.toml
	@echo "Installing into $(VENV) (once)"
	@$(MAKE) --no-print-directory python PYTHON=$(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@awk '/^[a-z]/ {take = /^uv==/} take' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --compile-bytecode --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c "from fraud_assets.model import ranker_kernels, scorer; scorer.warm(); ranker_kernels.warm()" # so that no run waits for a compiler
	@grep -q DAGSTER_HOME $(BIN)/activate || { echo '$(AT_ACTIVATE)' >> $(BIN)/activate; \
	    sed -i.orig 's/^    unset VIRTUAL_ENV$$/&; $(AT_DEACTIVATE)/' $(BIN)/activate; }
	@touch $@

python:
	@$(PYTHON) -c '$(WILL_DO)' || { echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is" \
	    "$$($(PYTHON) -V 2>&1). Install one, and name it where it is not found: make PYTHON=/usr/bin/python3.12"; exit 1; }

# Half of Dagster's commands demand DAGSTER_HOME: the activated shell has it, unless another one is set already.
AT_ACTIVATE = [ -n "$${DAGSTER_HOME:-}" ] || { _OUR_HOME=1; export DAGSTER_HOME="$${VIRTUAL_ENV%/*}/dagster_home"; }
AT_DEACTIVATE = [ -z "$${_OUR_HOME:-}" ] || unset DAGSTER_HOME _OUR_HOME

lock: $(INSTALLED) ## resolve requirements.lock anew: names, versions, hashes
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
	    --no-header --no-emit-index-url --no-emit-find-links --upgrade pyproject.toml --output-file requirements.lock

demo: export DAGSTER_HOME ?= $(CURDIR)/dagster_home
demo: $(INSTALLED) ## land 30 synthetic days, train a model, score them, show the result
	@$(BIN)/fraud-assets simulate --days $(DAYS) --dirt
	@$(BIN)/fraud-assets run
	@$(BIN)/fraud-assets status

dev: PORT = 3000
# What trains while it runs links to it; elsewhere FRAUD_DAGSTER_URL and FRAUD_MLFLOW_URL say where people look.
dev: LINKS = $(if $(filter-out 3000,$(PORT)),FRAUD_DAGSTER_URL=http://127.0.0.1:$(PORT))
dev: $(INSTALLED) ## the Dagster UI on http://127.0.0.1:3000 (or PORT=...), with the sensors on
	@echo "Dagster UI: http://127.0.0.1:$(PORT)      MLflow UI: make mlflow, in another terminal"
	@. $(BIN)/activate && $(LINKS) dagster dev --host 127.0.0.1 --port $(PORT) --log-level warning

mlflow: PORT = 5000
mlflow: $(INSTALLED) ## the MLflow UI on http://127.0.0.1:5000 (or PORT=...)
	@uri="$$($(BIN)/fraud-assets mlflow-uri)" && MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow server \
	    --host 127.0.0.1 --port $(PORT) --backend-store-uri "$$uri"

spark: $(INSTALLED) ## install Spark, some 400 MB, for `fraud-assets spark` and its tests (needs Java 17)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --extra spark -r pyproject.toml

check: $(INSTALLED) ## lint, types, import rules, pins, definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --warnings
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/uv pip check --quiet --python $(BIN)/python
	env -u FRAUD_SOURCE -u FRAUD_DATA_DIR $(BIN)/dagster definitions validate

# DuckDB's binding reports its own types as leaked when Python exits; pytest's summary shall stay the last line.
QUIET_EXIT := 2> >(grep -v -e nanobind -e '^ - ' >&2)
# A core per worker, and a worker more than there are cores, since many tests wait for processes of their own; more than a
# few would fight over memory. Files go in the order of conftest.py: those of most tests would else come first.
WORKERS := --numprocesses $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# In memory where there is room: else each commit of Dagster's and MLflow's sqlite files waits for the disk.
IN_MEMORY := $(shell df --output=avail --block-size=G /dev/shm 2>/dev/null | awk '+$$1 >= 8 {print "PYTEST_DEBUG_TEMPROOT=/dev/shm"}')
PYTEST := $(IN_MEMORY) OMP_NUM_THREADS=1 $(BIN)/pytest $(WORKERS)

test: $(INSTALLED) ## the test suites, 10 minutes at most
	$(PYTEST) $(QUIET_EXIT)

verify: DEPTH = full
verify: $(INSTALLED) ## the same suites with all their histories and cases, in another time zone
	TZ=Pacific/Auckland FRAUD_TEST_DEPTH=$(DEPTH) $(PYTEST) $(QUIET_EXIT)

bench: $(INSTALLED) ## speed and memory, beside a control in the same run
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --extra bench -r pyproject.toml
	REPEATS=$(REPEATS) $(BIN)/python -m benchmarks $(ROWS)

pictures: $(INSTALLED) ## the pictures of the README, from the running demo (needs Debian's chromium)
	@$(BIN)/python docs/pictures/make.py

clean: ## forget the demo's data and its runs
	rm -rf data/simulated dagster_home/[!d]* dagster_home/.[!.]*
