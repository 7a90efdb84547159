# Two commands are enough: `make run` serves sample 19.1, `make test` runs everything that must pass.
# `make check` is the part of it that takes less than a minute and starts no servers beside its own.

PYTHON ?= python3
PORT ?= 5000
# Many tests wait for a clock, so twice as many run at once as there are processors.
PYTEST_WORKERS ?= $(shell expr 2 '*' $$(nproc 2>/dev/null || echo 2))
GOLDEN ?= ../shared/golden

VENV := .venv
BIN := $(VENV)/bin
OLDEST := $(VENV)-oldest
ADDRESS := https://127.0.0.1:$(PORT)
CURL := curl -k -s -c jar.txt -b jar.txt

UNIT_TESTS := $(addprefix tests/,certificates cmdlets concurrency conversion counterparts data_protection hosting http \
	logging routing scripting serialization sessions test_generated.py test_guides.py test_host_registry.py \
	test_late_imports.py test_public_api.py test_reference.py test_services.py)
PYTEST := $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup

.PHONY: help run check test lint test-oldest golden bench generate docs packages clean

help:
	@echo "make run    serve sample 19.1 (sessions) on $(ADDRESS); PORT=5001 make run takes another port"
	@echo "make test   run ruff, mypy and pytest; installs the servers that the tests need where it may"
	@echo "make check  run ruff, mypy and the tests that need no servers, in less than a minute"
	@echo "make test-oldest  run pytest with the oldest versions that are supported"
	@echo "make golden compare the samples' answers with recorded ones of Kestrun's (GOLDEN=folder)"
	@echo "make bench  measure requests with and without sessions against bare aiohttp"
	@echo "make generate  write the cmdlets again that are made from the host's verbs"
	@echo "make docs   write the parts of docs/ again that are made from samples and docstrings"
	@echo "make clean  remove $(VENV) and everything built"

run: $(VENV)/installed
	@echo "Sample 19.1 answers on $(ADDRESS) (stop it with Ctrl+C). In another terminal:"
	@echo "  $(CURL) $(ADDRESS)/session/counter"
	@echo "  $(CURL) '$(ADDRESS)/session/login?user=max'"
	@echo "  $(CURL) $(ADDRESS)/session/whoami"
	@echo "  $(CURL) $(ADDRESS)/session/logout"
	@exec $(BIN)/kestrun sample 19.1 --port $(PORT)

check: lint
	$(PYTEST) -q $(UNIT_TESTS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@for file in $$(find tests -mindepth 2 -name conftest.py); do $(BIN)/mypy --no-error-summary $$file || exit 1; done

test: lint packages
	$(PYTEST)

# The oldest supported versions (constraints-oldest.txt), in a virtual environment of their own. The reference is not
# compared: it is made with the newest click, which writes some usage lines another way.
test-oldest: $(OLDEST)/installed packages
	$(OLDEST)/bin/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup --ignore tests/test_reference.py

golden: $(VENV)/installed-test packages
	$(PYTEST) -q tests/golden --golden $(GOLDEN) --golden-table

bench: $(VENV)/installed-test packages
	@scripts/debian-packages bench
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench

generate: $(VENV)/installed-test
	$(BIN)/python scripts/make_cmdlets.py

docs: generate
	$(BIN)/python scripts/include_sources.py
	$(BIN)/python scripts/make_reference.py
	$(BIN)/python scripts/make_tables.py

packages:
	@scripts/debian-packages tests

# Both stamps depend on pyproject.toml alone: the package is installed in place, so a change of code needs nothing.
$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $(VENV)/installed $@

$(OLDEST)/installed: pyproject.toml constraints-oldest.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt --editable ".[test]"
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@PYTHON=$(PYTHON) scripts/debian-packages venv
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

clean:
	rm -rf $(VENV) $(OLDEST) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
