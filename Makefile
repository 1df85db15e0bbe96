# The two commands of the README, and what a developer needs. Everything installs what it lacks.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: help demo test setup check unit vm test-vm agent deb lock clean

demo: setup  ## the main job: one fix from source to a running container host; DEMO="--fix NAME" and the like
	$(BIN)/kmend demo $(DEMO)

test: setup check  ## all tests, real kernels included
	$(BIN)/pytest

setup: $(STAMP)  ## .venv with every library, and the Debian packages that are missing

$(STAMP): requirements.txt pyproject.toml packaging/setup
	packaging/setup $(PYTHON) $(VENV)
	touch $@

check: setup  ## style, types, the import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup  ## the fast tests only
	$(BIN)/pytest tests/unit tests/flow

vm: setup  ## the tests that boot kernels
	$(BIN)/pytest tests/vm

test-vm: setup  ## the long ones: three hosts under one server, facts and audit of a real host; half an hour, root
	$(BIN)/pytest -s -m long tests/vm tests/vm_long --durations=0

agent: setup  ## dist/kmend-agent.pyz: the agent as one file
	$(BIN)/python packaging/make-agent-pyz

deb: setup  ## build/kmend-agent_VERSION_all.deb: the agent, its services and settings as a Debian package
	$(BIN)/python packaging/make-agent-deb

lock:  ## write requirements.txt anew from pyproject.toml: hashes, no addresses
	$(PYTHON) -m venv $(VENV) && $(BIN)/pip install -q uv
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --extra build --extra fleet --extra dev pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header -c requirements.txt pyproject.toml -o requirements-agent.txt

clean:  ## remove build/ and dist/; .venv and downloads stay
	rm -rf build dist
