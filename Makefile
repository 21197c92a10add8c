# The commands of this project. Each does its own set-up, in a virtual environment in this folder, once.

VENV ?= .venv
PORT ?=
DATABASE ?=
PYTHON ?=
# What is installed again after a change of it. It is empty where all is installed already, as in a container.
INSTALL_FROM ?= pyproject.toml
BENCH ?=
# What `make wheel` runs.
TESTS ?= tests/contract

bin := $(VENV)/bin
settings := $(if $(PORT),BENEFITS_PORT="$(PORT)") $(if $(DATABASE),BENEFITS_DATABASE="$(DATABASE)")
wheel := build/wheel
pip := $(bin)/python -m pip --disable-pip-version-check --quiet
# In processes, each with whole files, for many tests of a file share a service. Files with few tests may last long, so
# that the order stays that of their names: the contract first.
quickly := -m "not slow" --numprocesses auto --dist loadfile --no-loadscope-reorder
install := $(pip) install --no-warn-script-location
# Python 3.11 brings a pip that does not know dependency groups.
upgrade_pip := $(install) 'pip>=25.1'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run seed test coverage faults wheel watch lint format formatted check image screenshots bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s  %s\n", $$1, $$2}' Makefile

run: $(VENV)/service-installed ## install what is missing, fill an empty database from seed.json, serve on PORT=4000
	@$(settings) $(bin)/benefits seed --if-empty seed.json
	@$(settings) exec $(bin)/benefits serve

seed: $(VENV)/service-installed ## load seed.json into DATABASE=benefits.db again, after you changed it
	@$(settings) $(bin)/benefits seed seed.json

test: $(VENV)/dev-installed ## install what is missing and run the tests
	@$(bin)/python -m pytest $(quickly)

coverage: $(VENV)/dev-installed ## run the tests, half as fast, and fail if they leave out a line or a branch
	@$(bin)/python -m pytest $(quickly) --cov --cov-report=term

faults: $(VENV)/dev-installed ## kill the service again and again in a storm of orders, and look for each
	@$(bin)/python -m pytest -m slow

wheel: $(VENV)/dev-installed ## build the wheel, install it without the source tree, run the contract tests against it
	@rm -rf $(wheel) && mkdir -p $(wheel)
	@$(pip) wheel --no-build-isolation --no-deps --wheel-dir $(wheel) .
	@$(bin)/python -m venv --without-pip $(wheel)/venv
	@$(pip) --python $(wheel)/venv install --no-deps $(wheel)/*.whl
	@# Everything else comes from $(VENV). Python does not run the .pth files there, so the source tree stays out.
	@packages() { "$$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; } && \
	    packages $(VENV) > "$$(packages $(wheel)/venv)/dependencies.pth"
	@cd $(wheel) && venv/bin/python -c 'import benefits_core, sys; assert benefits_core.__file__.startswith(sys.prefix)'
	@$(wheel)/venv/bin/python -m pytest $(quickly) $(TESTS)

watch: $(VENV)/dev-installed ## run the fast tests again on every change
	@$(bin)/ptw --now --runner $(bin)/pytest --patterns '**/*.py' . tests/unit

lint: $(VENV)/dev-installed ## faults of style, types, and the dependency rule of the hexagon
	@$(bin)/ruff check
	@$(bin)/mypy
	@$(bin)/lint-imports

format: $(VENV)/dev-installed ## give the source its layout
	@$(bin)/ruff format

formatted: $(VENV)/dev-installed
	@$(bin)/ruff format --check

check: formatted lint coverage faults wheel ## all that has to be green before a change lands

image: ## build the image to deploy: docker run benefits
	@docker build --tag benefits .

screenshots: $(VENV)/dev-installed ## take the pictures of the README again, after a change of the page; they need Chromium
	@PYTHONPATH=tests $(bin)/python tests/contract/screenshots.py

bench: $(VENV)/bench-installed ## measure how fast it all is, in seven minutes, on a machine that does nothing else
	@$(bin)/python -m benchmarks $(BENCH)

clean: ## remove what these commands have made; databases stay
	rm -rf .venv* .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis benchmarks/build build dist
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/service-installed: $(INSTALL_FROM) | $(VENV)/bin/pip
	@echo "Installing what the service needs into $(VENV) ..."
	@$(install) --editable '.[service]'
	@touch $@

$(VENV)/dev-installed: $(INSTALL_FROM) | $(VENV)/bin/pip
	@echo "Installing what the tests need into $(VENV) ..."
	@$(upgrade_pip)
	@$(install) --editable '.[service]' --group dev
	@touch $@ $(VENV)/service-installed

$(VENV)/bench-installed: $(INSTALL_FROM) | $(VENV)/bin/pip
	@echo "Installing what the benchmarks need into $(VENV) ..."
	@$(upgrade_pip)
	@$(install) --editable '.[service]' --group bench
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
