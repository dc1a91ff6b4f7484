# Everything a checkout needs. Each target sets up what it needs first: a virtual environment in .venv from
# requirements.lock (pinned, with hashes), and for the tests the real peers where they may be installed.

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := protocols storage proxy appliance
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup peers demo test check format bench deb lock clean

help:
	@echo "make demo    a whole outage on this machine, with a server, five copiers and Locum between them"
	@echo "make test    the whole test suite"
	@echo "make check   form, lint, types and the test suite"
	@echo "make format  put the code into our form"
	@echo "make bench   the figures of docs/operations.md, measured here"
	@echo "make deb     a Debian package for this release and processor, in dist/"
	@echo "make lock    resolve requirements.lock anew"
	@echo "make clean   remove what was built here"

setup: $(READY)

$(READY): requirements.lock pyproject.toml tools/set-up-python
	tools/set-up-python $(VENV)
	@touch $@

peers:
	@tools/set-up-peers

demo: $(READY)
	$(BIN)/locum demo $(ARGS)

test: $(READY) peers
	@tools/run-tests $(BIN)/python $(ARGS)

check: $(READY) peers
	$(BIN)/ruff format --check $(PACKAGES) tests
	$(BIN)/ruff check $(PACKAGES) tests
	$(BIN)/mypy
	@tools/run-tests $(BIN)/python $(ARGS)

format: $(READY)
	$(BIN)/ruff check --fix-only --quiet $(PACKAGES) tests
	$(BIN)/ruff format $(PACKAGES) tests

bench: $(READY) peers
	$(BIN)/python -m tests.benchmarks $(ARGS)

deb: $(READY)
	tools/build-deb $(BIN)/python $(ARGS)

lock: $(READY)
	test -x $(VENV)-lock/bin/uv || { $(BIN)/python -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install --quiet uv; }
	$(VENV)-lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  --quiet --output-file requirements.lock $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-lock build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -prune -exec rm -rf {} +
