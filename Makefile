# Everything a checkout needs, from python3 and make alone. `make help` lists the targets.
# Paths are relative: make splits names at spaces, and the folder above may have some.

PYTHON ?= python3
BIN := .venv/bin
# The peers of the benchmarks have an environment of their own: they are no part of the one that is worked in and audited.
PEERS := .venv/peers
ARGS ?=
# Tests run in so many processes at once, each with a database of its own.
JOBS ?= auto

# An environment that was active, or another project's, is not ours.
unexport VIRTUAL_ENV UV_PROJECT_ENVIRONMENT UV_PYTHON PYTHONHOME PYTHONPATH

.PHONY: help environment peers up test lint types bench clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1#\2/p' Makefile | awk -F'#' '{ printf "%-14s %s\n", $$1, $$2 }'

up: environment ## set up all, serve on 127.0.0.1 (PORT=…), print address and password; Ctrl-C ends it
	@exec $(BIN)/python manage.py up

test: environment ## the whole test suite (ARGS=… for pytest, JOBS=0: in one process)
	@exec $(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 4 --dist worksteal $(ARGS)

lint: environment ## format, lint, imports between apps, templates, missing migrations
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/lint-imports --no-cache
	find . -name '*.html' -not -path './.venv/*' -exec $(BIN)/djade --check --target-version 5.2 {} +
	$(BIN)/python manage.py makemigrations --check --dry-run

types: environment ## mypy, strict
	@exec $(BIN)/python -m mypy

bench: peers ## the benchmarks, beside their peers (bench-NAME: one; ARGS=options)
	@exec $(PEERS)/bin/python -m benchmarks $(ARGS)

bench-%: peers
	@exec $(PEERS)/bin/python -m benchmarks $* $(ARGS)

clean: ## remove what can be made again; the database in .devdb stays (manage.py devdb reset)
	rm -rf .venv build dist staticfiles .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment: .venv/.complete ## .venv with everything in it

peers: environment
	@$(call sync,$(PEERS),--quiet --group bench)

sync = cache="$$($(BIN)/uv cache dir)"; { mkdir -p "$$cache" 2>/dev/null && test -w "$$cache"; } || cache=.venv/.uv-cache; \
	UV_CACHE_DIR="$$cache" UV_PROJECT_ENVIRONMENT=$(1) UV_PYTHON_DOWNLOADS=never $(BIN)/uv sync --locked --python $(BIN)/python $(2)

# The stamp holds the folder's path: scripts in .venv name it, so a folder that was moved gets a new .venv.
ifneq ($(shell test "$$(cat .venv/.complete 2>/dev/null)" = "$$(pwd -P)" && echo same),same)
.PHONY: .venv/.complete
endif

.venv/.complete: uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "'$(PYTHON)' is not Python 3.11 or newer: name one that is, as in make PYTHON=python3.12." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' has no module venv: install it (Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@if test -e .venv && ! { $(BIN)/python -c '' 2>/dev/null \
		&& test "$$(cat .venv/.complete 2>/dev/null || pwd -P)" = "$$(pwd -P)"; }; then rm -rf .venv; fi
	@test -x $(BIN)/uv || { echo "Making .venv …"; $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; }
	@$(call sync,.venv)
	@pwd -P > .venv/.complete
