# The commands of the book. Each sets up what it needs in .venv (plain pip, pinned by
# constraints.txt) and can be repeated. PYTHON=... names another interpreter, 3.11 to 3.13.

PYTHON ?=
PRESET ?= laptop
ARGS ?=
CHANGED ?=
WITNESSES ?=

BIN := .venv/bin
SETUP = @LLMLIB_PYTHON="$(PYTHON)" $(or $(PYTHON),python3) tools/setup_env.py

.DEFAULT_GOAL := help
.PHONY: help book test check lab capstone bench notebooks records versions clean setup
MAKEFLAGS += --no-print-directory

help:  ## list these commands
	@echo "make ...     (PYTHON=python3.12 names another interpreter)"
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)$$/  \1|\2/p' Makefile \
	  | while IFS='|' read -r name what; do printf '%-12s %s\n' "$$name" "$$what"; done

setup:  ## make the environment and nothing else
	$(SETUP) all

book: ## render the book into build/book and say where to open it
	$(SETUP) all
	@$(BIN)/python tools/book/build.py

test:  ## prove everything: what continuous integration runs
	$(SETUP) all
	@exec $(BIN)/python tools/stages.py test

check:  ## lint, types, imports, notebooks' form and the fast tests
	$(SETUP) all
	@exec $(BIN)/python tools/stages.py check $(if $(CHANGED),--changed)

lab:  ## open the chapters in JupyterLab
	$(SETUP) all
	@exec $(BIN)/jupyter lab chapters

capstone:  ## train the small language model (PRESET=tiny takes a minute)
	$(SETUP) core
	@exec $(BIN)/python -m llmlib.capstone run --preset $(PRESET) $(ARGS)

bench:  ## measure speed against the peer libraries
	$(SETUP) all
	@exec $(BIN)/python tools/run_benchmarks.py $(ARGS)

notebooks:  ## run every notebook again and store its outputs
	$(SETUP) all
	@exec $(BIN)/python tools/execute_notebooks.py $(if $(CHANGED),--changed) $(ARGS)

records:  ## make those runs again whose record a check found stale
	$(SETUP) all
	@exec $(BIN)/python -m llmlib.experiments --renew $(ARGS)

versions:  ## try the torch-free part on each Python 3.11 to 3.13 found
ifeq ($(WITNESSES),newest)
	$(SETUP) all
	@exec $(BIN)/python tools/witnesses.py
else ifeq ($(WITNESSES),)
	$(SETUP) core
	@exec $(BIN)/python tools/versions.py
else
	$(error WITNESSES=$(WITNESSES) is unknown: write WITNESSES=newest)
endif

clean:  ## remove what was built (not .venv, not runs)
	rm -rf build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find llmlib tests tools book chapters -name __pycache__ -prune -exec rm -rf {} +
