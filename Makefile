# Everything needs only make and Python 3.11 or newer: each target makes the .venv it runs in.

# The first interpreter that runs, is new enough and can make a virtual environment. They are
# tried, not looked up: a pyenv shim is on PATH even where it only says "command not found".
USABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$python -c '$(USABLE)' 2>/dev/null && echo $$python && break; done)

VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# Containers often forbid to write bytecode. Then each of the tests' workers rewrites the assertions
# of all tests, and each process that they start compiles gymhost.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help serve demo test lint format types bench bench-compare clean

help: ## print this
	@echo "gymhost: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

# exec, so that make's child is the server itself: Ctrl-C and SIGTERM reach it, and its exit
# status is what make sees.
serve: $(VENV)/.runs ## serve every installed environment; ARGS="--port 9000" goes to gymhost serve
	@exec $(BIN)/gymhost serve $(ARGS)

demo: $(VENV)/.runs ## let a scripted agent attempt the weather tasks; ARGS goes to gymhost rollout
	@folder=$$(mktemp -d) && exec $(BIN)/gymhost rollout weather -o "$$folder/rollouts.jsonl" $(ARGS)

test: $(VENV)/.runs ## run the tests; fail under 95 % coverage, or 85 % in any one file
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist worksteal
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage json --quiet
	$(BIN)/coverage report --fail-under=95
	$(BIN)/python scripts/coverage_floor.py 85

lint: $(VENV)/.checks ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.checks ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: $(VENV)/.checks ## check types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright

bench: $(VENV)/.runs ## measure what episodes cost (10 minutes); ARGS="--help" shows what else there is
	@exec $(BIN)/python -m benchmarks $(ARGS)

# make takes the two files for targets: so they are some, and making them is nothing to do.
ifeq ($(firstword $(MAKECMDGOALS)),bench-compare)
REPORTS := $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
.PHONY: $(REPORTS)
$(REPORTS): ; @:
endif

bench-compare: $(VENV)/.runs ## compare two reports of make bench: make bench-compare A B
	@exec $(BIN)/python -m benchmarks compare $(REPORTS)

clean: ## remove what make and the tests made
	rm -rf $(VENV) .cache .coverage .coverage.* coverage.json htmlcov dist \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache

# Two stamps: the checkers are half of the download, and serving and testing don't need them.
$(VENV)/.runs: pyproject.toml constraints.txt $(PLUGINS:=/pyproject.toml) | $(BIN)/pip
	@echo "make: installing gymhost into $(VENV) (again only when its requirements change)"
	@$(INSTALL) -e '.[test]' $(addprefix -e ,$(PLUGINS))
	@touch $@

$(VENV)/.checks: $(VENV)/.runs
	@echo "make: installing the checkers into $(VENV)"
	@$(INSTALL) -e '.[dev]'
	@touch $@

# pip comes last into a virtual environment, so one that was interrupted is made again.
$(BIN)/pip:
	@'$(PYTHON)' -c '$(USABLE)' 2>/dev/null || { echo "make: no Python 3.11 or newer with venv found \
	$(if $(PYTHON),at '$(PYTHON)',on PATH). Try: make PYTHON=/path/to/python3.13" >&2; exit 1; }
	@echo "make: creating $(VENV) with $$('$(PYTHON)' --version)"
	@'$(PYTHON)' -m venv $(VENV)
