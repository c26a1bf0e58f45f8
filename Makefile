# Three targets, each doing all of its own set-up in .venv; a second run installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints/main.txt
# Byte code makes each start of a client several times faster.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup loop test
setup: $(VENV)/.dev $(VENV)/.clients

loop: $(VENV)/.loop
	$(BIN)/inv loop

test: $(VENV)/.dev $(VENV)/.clients
	$(BIN)/inv check
	$(BIN)/inv test

$(BIN)/uv: constraints/main.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints/main.txt uv
	@touch $@

$(VENV)/.loop: $(BIN)/uv pyproject.toml constraints/main.txt constraints/images.txt constraints/components.txt emulator/core/generate.py \
    emulator/runners/images.toml
	$(UV) --compile-bytecode --requirements pyproject.toml
	$(BIN)/python -m emulator setup
	@touch $@

$(VENV)/.dev: $(VENV)/.loop
	$(UV) --compile-bytecode --requirements pyproject.toml --extra dev
	$(BIN)/python -m emulator setup --stubs --environment python.3-11 \
	    --environment google-cloud-pipeline-components.2-22
	@touch $@

# dvc and what else tests drive as a user would: in an environment of its own, for it brings a hundred packages.
$(VENV)/.clients: $(BIN)/uv constraints/clients.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/clients
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(VENV)/clients/bin/python --requirements constraints/clients.txt
	@touch $@
