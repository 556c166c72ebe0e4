# Everything a clone needs, with nothing but Python 3.11 or newer, make and git.
#
#   make demo    train a network on a remote kernel, headless
#   make test    all checks and all tests
#   make help    the rest
#
# Each recipe is a plain command: CONTRIBUTING.md lists them for use without make.

PYTHON ?= python3
VENV ?= .venv
# Index with CPU builds of torch, for machines whose default index has only the GPU build.
TORCH_INDEX ?=
PYTEST_ARGS ?=
# Tests mostly wait for other processes, so two files at a time suit two cores.
TEST_WORKERS ?= 2
BENCH_ARGS ?=
SECONDS ?= 60
FAULT_ARGS ?=

BIN := $(VENV)/bin
TORCH := 2.13.0
NVIDIA := $(wildcard /proc/driver/nvidia/version /dev/nvidiactl)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CHECKED := kernel_provider gateway_ext magics labextension tests tools bench
# Laptops also run macOS and Windows: what runs there is checked for them, too.
LOCAL_SIDE := kernel_provider/clouditia magics labextension

# Some runners have no home; tools that cache things below it then get one in the build folder.
ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/build/home
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow soak front-ends peers lint format docs bench mutants fuzz fault-table rows clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-demo ## train a small network on a remote kernel of a gateway on this machine
	@mkdir -p build
	@$(BIN)/clouditia run examples/train_digits.ipynb --target embedded -o build/train_digits.ipynb
	@$(BIN)/python tools/demo_summary.py build/train_digits.ipynb

test: lint ## all checks, then all tests but the slow ones; build/junit.xml
	$(BIN)/python -m pytest -m "not slow and not soak" -n $(TEST_WORKERS) --dist loadfile --junitxml=build/junit.xml $(PYTEST_ARGS)

test-slow: $(VENV)/.stamp-dev ## the tests that take minutes
	$(BIN)/python -m pytest -m "slow and not soak" --junitxml=build/junit-slow.xml $(PYTEST_ARGS)

soak: $(VENV)/.stamp-dev ## the tests that take many minutes: long cuts, 1 GB of output, thousands of cycles; about 25 min
	$(BIN)/python -m pytest -m soak -s --junitxml=build/junit-soak.xml $(PYTEST_ARGS)

front-ends: ## what the tests that stand in for VS Code need: node packages (node 20, about 20 s)
	cd tests/front_ends/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error

peers: $(VENV)/.stamp-venv ## other people's servers for the tests: Enterprise Gateway 3.3 in an environment of its own
	$(BIN)/python tools/peers.py build/peers

lint: $(VENV)/.stamp-dev ## ruff, mypy, import-linter, codespell, bandit
	@mkdir -p build
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(CHECKED)
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 $(LOCAL_SIDE)
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin $(LOCAL_SIDE)
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive kernel_provider gateway_ext magics labextension/clouditia_lab

format: $(VENV)/.stamp-dev ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.stamp-dev ## write docs/cli.md and the table of front ends, check every link in every page
	$(BIN)/python tools/cli_reference.py
	$(BIN)/python tools/front_end_table.py
	$(BIN)/python tools/check_links.py

bench: $(VENV)/.stamp-dev ## the benchmarks and their gates; build/bench.json
	@mkdir -p build
	$(BIN)/python -m bench.run --output build/bench.json $(BENCH_ARGS)

mutants: $(VENV)/.stamp-dev ## break the state machines one way at a time: the tests must notice each
	$(BIN)/python tests/protocol/mutants.py

fuzz: $(VENV)/.stamp-dev ## atheris on every decoder; SECONDS=60 for each of them
	$(BIN)/python -m tests.fuzz.fuzz --seconds $(SECONDS)

fault-table: $(VENV)/.stamp-dev ## docs/fault-table.md: what is lost here and elsewhere, about 15 minutes; needs `make peers`
	$(BIN)/python tools/fault_table.py --keep build/fault-table.json --output docs/fault-table.md $(FAULT_ARGS)

rows: $(VENV)/.stamp-dev ## feature rows without a passing test, from the last `make test`
	@$(BIN)/python tools/rows.py --report build/junit.xml

clean: ## what builds and checks leave behind; the environment stays
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# --- the environment ----------------------------------------------------------------------------
# One stamp per extra, made again when pyproject.toml changes. torch goes first and alone, so that
# nothing that depends on it can choose another build.

$(VENV)/.stamp-venv:
	@mkdir -p build "$(HOME)"
	@$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-venv
ifeq ($(NVIDIA),)
	@echo "Installing torch $(TORCH), the CPU build: no NVIDIA driver here (about 190 MB)."
	@$(PIP) torch==$(TORCH)+cpu $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) 2>/dev/null || { \
	  echo "No CPU build on this index (make TORCH_INDEX=URL names another): taking the default build, which may be over 2 GB."; \
	  $(PIP) torch==$(TORCH); }
else
	@echo "Installing torch $(TORCH) for the NVIDIA driver on this machine (over 2 GB)."
	@$(PIP) torch==$(TORCH)
endif
	@touch $@

# The files of the JupyterLab extension are copied into the environment when it is installed.
LABEXTENSION := labextension/clouditia_lab/labextension/stamp.json

$(VENV)/.stamp-demo: pyproject.toml $(LABEXTENSION) $(VENV)/.stamp-torch
	@echo "Installing Clouditia and what the example needs (about 105 MB)."
	@$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml $(LABEXTENSION) $(VENV)/.stamp-torch
	@echo "Installing Clouditia and what the tests and checks need (about 400 MB)."
	@$(PIP) --editable '.[dev]'
	@touch $(VENV)/.stamp-demo $@
