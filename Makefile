# `make run` starts the bundle, `make test` runs every test; each builds .venv first. See README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# Builds the BPF objects in the tree anew; needs clang, llvm and libbpf-dev.
.PHONY: bpf
bpf:
	@for source in $$(find nattrav relay stun -name '*.bpf.c'); do sh deploy/build-bpf.sh $$source; done

.PHONY: generated run test lint type bench fuzz demo clean venv dev system-packages format

run: venv
	@exec $(BIN)/nattrav run $(ARGS)

venv: $(VENV)/.installed

$(VENV)/bin/python:
	@sh deploy/make-venv.sh $(PYTHON) $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

dev: $(VENV)/.developed

$(VENV)/.developed: pyproject.toml $(VENV)/.installed
	@$(BIN)/python deploy/dev-requirements.py | $(BIN)/pip install --quiet --disable-pip-version-check -r /dev/stdin
	@touch $@

system-packages:
	@sh tests/install-system-packages.sh

lint: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

type: dev
	$(BIN)/mypy

test: dev system-packages
	$(BIN)/pytest $(ARGS)

fuzz: dev
	$(BIN)/python -m tests.fuzz $(ARGS)

demo: dev system-packages
	$(BIN)/python -m tests.natlab.demo $(ARGS)

generated: dev
	$(BIN)/python docs/generate.py

bench: dev system-packages
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) .build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
