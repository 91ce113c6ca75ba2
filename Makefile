# Everything below sets itself up: a virtual environment in .venv, with the package and what the target needs.
# `make` lists the targets.

PYTHON ?= python3
VENV ?= .venv
# What pip is asked for as torch; TORCH= (empty) leaves the choice to pip.
TORCH ?= $(shell sed -n '/^torch==/p' constraints.txt)
# The script in benchmarks/ that `make bench` runs.
SCRIPT ?= gram
# Options handed on, as in `make test ARGS="-k heatmap"` or `make demo ARGS="--model cnn"`.
ARGS ?=

BIN := $(VENV)/bin
# The set-up is good for one Python, one torch and one place of this folder; any other makes it anew.
KEY := $(shell { $(PYTHON) -VV; echo "$(TORCH) $(CURDIR)"; } 2>&1 | cksum | cut -d ' ' -f 1)
DEMO_READY := $(VENV)/.ready-demo-$(KEY)
DEV_READY := $(VENV)/.ready-dev-$(KEY)
BENCH_READY := $(VENV)/.ready-bench-$(KEY)
DOCS_READY := $(VENV)/.ready-docs-$(KEY)
MADE_FROM := setup.cfg pyproject.toml constraints.txt Makefile
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint $(VENV)/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench docs tensorboard clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done
	@echo '  Settings: PYTHON (now $(PYTHON)), TORCH (now $(TORCH)), VENV (now $(VENV)), ARGS (options handed on)'

demo: $(DEMO_READY)  ## train on handwritten digits for a few epochs, with logs under runs/
	$(BIN)/python examples/mnist.py --max_epochs 5 --log_dir runs $(ARGS)
	@echo
	@echo 'Next: `make tensorboard` shows the run in the browser (the tabs Stiffness, Scalars and Images);'
	@echo '      `make demo ARGS="--model cnn --lr 3e-3"` trains another network, ARGS=--help lists the options;'
	@echo '      README.md says how to watch your own model.'

# A process for each core, of one thread: together twice as fast as one that has all of them.
test: $(DEV_READY)  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(DEV_READY)  ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy --strict --follow-imports=silent lightning_stiffness/functional lightning_stiffness/gram

format: $(DEV_READY)  ## put the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH_READY)  ## time the engines against each other and against other packages
	$(BIN)/python benchmarks/$(SCRIPT).py $(ARGS)

docs: $(DOCS_READY)  ## build the documentation site into docs/_build
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html docs docs/_build/html $(ARGS)
	@echo 'Open docs/_build/html/index.html'

tensorboard: $(DEMO_READY)  ## show the logs under runs/ in the browser
	@[ -d runs ] || { echo 'There are no logs yet: run `make demo` first.' >&2; exit 1; }
	$(BIN)/tensorboard --logdir runs $(ARGS)

clean:  ## remove the environment and whatever can be made again, but not the logs in runs/
	@[ ! -e $(VENV) ] || [ -e $(VENV)/.made-by-make ] || echo '$(VENV) was made by something else and is left alone.'
	[ ! -e $(VENV)/.made-by-make ] || rm -rf $(VENV)
	rm -rf docs/_build docs/gallery_built build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps are written last, and an environment whose set-up was broken off is made again from nothing.
ifneq ($(wildcard $(VENV)/.unfinished),)
.PHONY: broken-off
$(DEMO_READY): broken-off
endif

$(DEMO_READY): $(MADE_FROM)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo 'Python 3.10 or newer is needed, but $(PYTHON) is' "$$($(PYTHON) --version 2>&1)." \
	    'Name another: make $(MAKECMDGOALS) PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '$(PYTHON) lacks the module venv or ensurepip, which make the virtual environment.' \
	    'Install it (on Debian and Ubuntu: apt install python3-venv), or name another Python:' \
	    'make $(MAKECMDGOALS) PYTHON=python3.12' >&2; exit 1; }
	@if [ -e $(VENV) ] && [ ! -e $(VENV)/.made-by-make ]; then \
	  echo '$(VENV) was made by something else and is left alone. Remove it,' \
	    'or name another folder: make $(MAKECMDGOALS) VENV=.venv-make' >&2; exit 1; fi
	@rm -f $(VENV)/.ready-*
	@if [ "$$(cat $(VENV)/.made-by-make 2>/dev/null)" != "$(KEY)" ] || [ -e $(VENV)/.unfinished ]; then \
	  echo 'Making the virtual environment $(VENV) …'; \
	  rm -rf $(VENV) && mkdir -p $(VENV) && touch $(VENV)/.made-by-make $(VENV)/.unfinished && \
	  $(PYTHON) -m venv $(VENV) && echo '$(KEY)' > $(VENV)/.made-by-make; fi
	@touch $(VENV)/.unfinished
	@{ sed '/^torch==/d' constraints.txt; echo '$(TORCH)'; } > $(VENV)/constraints.txt
	@echo 'Installing $(or $(TORCH),torch) into $(VENV) (a minute or two) …'
	@$(PIP_INSTALL) torch
	@echo 'Installing the package, with Lightning, TensorBoard and matplotlib (a minute or two) …'
	@$(PIP_INSTALL) --editable '.[examples]'
	@rm -f $(VENV)/.unfinished
	@touch $@

$(DEV_READY): $(DEMO_READY)
	@echo 'Installing what tests and checks need …'
	@touch $(VENV)/.unfinished
	@$(PIP_INSTALL) --editable '.[dev]'
	@rm -f $(VENV)/.unfinished
	@touch $@

$(DOCS_READY): $(DEMO_READY)
	@echo 'Installing what builds the documentation …'
	@touch $(VENV)/.unfinished
	@$(PIP_INSTALL) --editable '.[docs]'
	@rm -f $(VENV)/.unfinished
	@touch $@

# Some of the other packages ask for torchvision and do not use it here: they come without their requirements.
$(BENCH_READY): $(DEMO_READY) benchmarks/peers.txt
	@echo 'Installing the packages that are compared …'
	@touch $(VENV)/.unfinished
	@$(PIP_INSTALL) --editable '.[bench]'
	@$(PIP_INSTALL) --no-deps --requirement benchmarks/peers.txt
	@rm -f $(VENV)/.unfinished
	@touch $@
