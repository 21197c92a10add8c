# The commands of this project. Each does its own set-up, in a virtual environment in this folder, once.

VENV ?= .venv
PORT ?=
DATABASE ?= $(or $(BENEFITS_DATABASE),benefits.db)
PYTHON ?=

bin := $(VENV)/bin
# pip's own notices and settings are of no use to whoever types `make run`.
pip := $(bin)/python -m pip --disable-pip-version-check --quiet install --no-warn-script-location

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run seed test faults watch lint check bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s  %s\n", $$1, $$2}' Makefile

run: $(VENV)/service-installed ## install what is missing, fill an empty database from seed.json, serve on PORT=4000
	@$(bin)/benefits seed --if-empty seed.json --database "$(DATABASE)"
	@exec $(bin)/benefits serve $(if $(PORT),--port "$(PORT)") --database "$(DATABASE)"

seed: $(VENV)/service-installed ## load seed.json into DATABASE=benefits.db again, after you changed it
	@$(bin)/benefits seed seed.json --database "$(DATABASE)"

test: $(VENV)/dev-installed ## install what is missing and run the tests, with their coverage
	@$(bin)/python -m pytest -m "not slow" --cov --cov-report=term

faults: $(VENV)/dev-installed ## kill the service again and again in a storm of orders, and look for each
	@$(bin)/python -m pytest -m slow

watch: $(VENV)/dev-installed ## run the fast tests again on every change
	@$(bin)/ptw --now . tests/unit

lint: $(VENV)/dev-installed ## style, types, and the dependency rule of the hexagon
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy
	@$(bin)/lint-imports

check: lint test faults ## all that has to be green before a change lands

bench: $(VENV)/bench-installed ## measure how fast it all is, in five minutes, on a machine that does nothing else
	@$(bin)/python -m benchmarks

clean: ## remove what these commands have made; databases stay
	rm -rf .venv* .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis benchmarks/build dist
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/service-installed: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing what the service needs into $(VENV) ..."
	@$(pip) --editable '.[service]'
	@touch $@

$(VENV)/dev-installed: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing what the tests need into $(VENV) ..."
	@$(pip) --editable '.[dev]'
	@touch $@ $(VENV)/service-installed

$(VENV)/bench-installed: pyproject.toml | $(VENV)/bin/pip
	@echo "Installing what the benchmarks need into $(VENV) ..."
	@$(pip) --editable '.[bench]'
	@touch $@ $(VENV)/service-installed

# The newest Python that can do it, or one line that says what is missing.
$(VENV)/bin/pip:
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	    python=; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! $$python -c 'import sqlite3, sys; sys.exit(sqlite3.sqlite_version_info < (3, 37))' 2>/dev/null; then \
	    echo "SQLite 3.37 or newer is needed, and $$python has none" >&2; exit 1; \
	fi; \
	if ! $$python -m venv --clear $(VENV) >/dev/null 2>&1; then \
	    rm -rf $(VENV); \
	    echo "$$python can't make a virtual environment; install its venv module (python3-venv on Debian)" >&2; exit 1; \
	fi
