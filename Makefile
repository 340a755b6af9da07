# Everything a person does with this repository. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
DEMO_SECONDS ?= 0
CAMPAIGN_SECONDS ?= 14400
# Programs start in a second only with their libraries compiled; without, each start compiles them anew.
unexport PYTHONDONTWRITEBYTECODE
SOURCES := models sync edge cloud device-sim
TESTED := $(SOURCES) tests bench

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /|/' | column -t -s '|'

setup: .venv/.ready ## virtual environment with pinned, hash-checked packages

.venv/.ready: pyproject.toml requirements/dev.txt requirements/uv.txt deploy/dev/setup.sh
	@PYTHON="$(PYTHON)" bash deploy/dev/setup.sh
	@touch $@

demo: setup ## live twins of simulated devices; DEMO_SECONDS=60 ends by itself
	@$(BIN)/twinsim demo --seconds $(DEMO_SECONDS)

services: ## install mosquitto, Chromium, PostgreSQL, HAProxy and promtool from Debian, when root and missing
	@bash deploy/dev/services.sh

test: setup services ## all tests; a missing service skips loudly, and fails under CI=true
	@# Compiling steps aside for whatever else runs, so kernels are ready before the tests begin.
	@$(BIN)/twinedge warmup
	@$(BIN)/python -m pytest

check: setup ## formatting, lint, types, layers, protos
	$(BIN)/ruff format --check $(TESTED)
	$(BIN)/ruff check $(TESTED)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against tests/golden/protos.binpb
	$(BIN)/python -m pytest -q -n0 tests/arch

format: setup ## format and mend what can be mended
	$(BIN)/ruff format $(TESTED)
	$(BIN)/ruff check --fix $(TESTED)

wheelhouse: setup ## dist/wheelhouse: all a gateway without internet needs; PLATFORM=manylinux_2_28_aarch64 PYTHON_VERSION=3.11 for another one
	@PLATFORM="$(PLATFORM)" PYTHON_VERSION="$(PYTHON_VERSION)" bash deploy/wheelhouse/build.sh dist/wheelhouse

bench: setup ## quick figures as JSON; BENCH=wire for one of them
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/bench.txt
	$(BIN)/python -m bench $(BENCH) --quick --json

campaign: setup services ## hours: properties of codec, session, spool, store and models with up to 5,000 examples each, then real processes; CAMPAIGN_SECONDS for the sync layers, which write docs/reliability.md
	$(BIN)/python -m tests.campaign.soak --minutes $$(( $(CAMPAIGN_SECONDS) / 480 + 1 ))
	$(BIN)/python -m tests.campaign.day --hours 30
	$(BIN)/python -m tests.campaign.report --seconds $(CAMPAIGN_SECONDS)
	$(BIN)/python -m pytest -q --campaign --timeout 20000 tests/sync tests/edge/spool tests/edge/test_reload.py tests/contract tests/model tests/cloud/twins
	$(BIN)/python -m pytest -q --campaign --timeout 20000 tests/e2e tests/campaign/test_processes.py

protos: setup .tools/.ready ## stubs from protos/, with the oldest accepted tools
	PATH="$$PWD/.tools/bin:$$PATH" .tools/bin/python -m grpc_tools.protoc -Iprotos --python_out=sync --grpc_python_out=sync \
	  --mypy_out=sync --mypy_grpc_out=sync protos/twinsync/v1/*.proto

.tools/.ready: requirements/protos.txt
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --require-hashes -r requirements/protos.txt
	@touch $@

requirements: setup ## pin again: newest accepted versions, hashes, no addresses
	bash deploy/dev/pin.sh

clean: ## remove what the other targets made
	rm -rf .venv .tools build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis var

.PHONY: help setup demo services test check format bench campaign protos requirements wheelhouse clean
