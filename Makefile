# What people run. Needs python3 (3.11 or newer), make and a package index that pip knows; everything else is
# installed into environments inside this folder.

PYTHON ?= python3
PINS := --constraint constraints.txt
PLUGINS := cola-gpu cola-gp cola-pde cola-emlp
SOURCES := $(shell find packages -path '*/src/*' -type f ! -name '*.pyc') $(wildcard packages/*/pyproject.toml)

# make test ENVS=core,lint    make test JOBS=4    make demo OUT=folder
ENVS ?=
JOBS ?= 2
OUT ?= demo-report

.PHONY: help demo test dev bench lint format types clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo    install the packages, run the main job, write a report to $(OUT)/'
	@echo 'make test    every environment of tox.ini; ENVS=core,lint for some of them'
	@echo 'make dev     everything, editable, in .venv'
	@echo 'make bench   the short benchmarks'
	@echo 'make lint    ruff; make format lets it rewrite; make types runs mypy'
	@echo 'make clean   remove environments, caches and reports'

# The packages without torch and without jax. One pip command: they require each other, and by path, because
# what an index has under these names need not be ours.
demo: .venv-demo/installed
	.venv-demo/bin/python examples/demo/run.py --out $(OUT)

.venv-demo/installed: constraints.txt $(SOURCES)
	$(call environment,.venv-demo)
	.venv-demo/bin/python -m pip install $(PINS) './packages/cola-core[demo]' $(PLUGINS:%=./packages/%)
	@touch $@

test: .venv-tox/installed
	@rm -f .tox/result.json
	@begin=$$(date +%s); \
	.venv-tox/bin/python -m tox run-parallel --parallel $(JOBS) --parallel-no-spinner \
	    --result-json .tox/result.json $(if $(ENVS),-e $(ENVS)); status=$$?; \
	.venv-tox/bin/python .ci/report.py .tox/result.json $$(( $$(date +%s) - begin )) $(subst $(comma), ,$(ENVS)) \
	    && exit $$status

.venv-tox/installed: constraints.txt
	$(call environment,.venv-tox)
	.venv-tox/bin/python -m pip install --quiet $(PINS) tox
	@touch $@

dev: .venv/installed

.venv/installed: constraints.txt $(wildcard packages/*/pyproject.toml)
	$(call environment,.venv)
	.venv/bin/python -m pip install $(PINS) -e './packages/cola-core[all,testing,demo]' \
	    $(PLUGINS:%=-e ./packages/%) scikit-fem scikit-learn hatchling mypy ruff pytest-xdist tox
	@touch $@

bench: .venv/installed
	.venv/bin/python -m benchmarks --short

lint: .venv/installed
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check

format: .venv/installed
	.venv/bin/python -m ruff check --fix
	.venv/bin/python -m ruff format

types: .venv/installed
	.venv/bin/python -m mypy

clean:
	rm -rf .venv .venv-demo .venv-tox .tox build dist $(OUT) bench-report
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

comma := ,

# an environment with nothing but pip, on a Python that is new enough
define environment
@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; $(PYTHON) is " + sys.version.split()[0] + " (make PYTHON=...)" if sys.version_info < (3, 11) else 0)'
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef
