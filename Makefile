# Every target sets up what it needs. `make` alone lists the targets; docs/running.md has the plain commands.

VENV := .venv
BIN := $(VENV)/bin
# The Python of the environment that is there, unless another is named: make PYTHON=python3.13 test
PYTHON ?= $(if $(wildcard $(VENV)/.python-*),$(BIN)/python,python3)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CREATED := $(VENV)/.python-$(VERSION)
# What is installed: the program; with the tools that test it; with PyTorch to compare with.
PROGRAM := $(VENV)/.program
TOOLS := $(VENV)/.tools
BENCH := $(VENV)/.bench
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt
LOWEST := $(VENV)/lowest
SMOKE := $(VENV)/smoke

.DEFAULT_GOAL := help
.PHONY: help setup train watch predict evaluate runs draw data reader kit demo test lowest check lint types smoke bench record judge clean

help: ## list the targets (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: $(PROGRAM) ## create the virtual environment (the other targets do this when needed)

train: $(PROGRAM) ## train on MNIST; pass options with make train ARGS="--epochs 3"
	@$(BIN)/python train.py $(ARGS)

watch: $(PROGRAM) ## train, and watch it in the browser: make watch ARGS="--network lenet"
	@$(BIN)/python train.py --watch $(ARGS)

predict: $(PROGRAM) ## read the digits in pictures: make predict ARGS="photo.jpg"
	@$(BIN)/python predict.py $(ARGS)

evaluate: $(PROGRAM) ## evaluate the newest weights: make evaluate ARGS="--dataset photos/"
	@$(BIN)/python evaluate.py $(ARGS)

runs: $(PROGRAM) ## list the runs and compare them: make runs ARGS="RUN RUN --plot both.png"
	@$(BIN)/python runs.py $(ARGS)

draw: $(PROGRAM) ## draw digits in the browser and watch the newest weights read them
	@$(BIN)/python draw.py $(ARGS)

data: $(PROGRAM) ## fetch MNIST now, to train without a network later
	@$(BIN)/python -m data $(ARGS)

reader: $(PROGRAM) ## train the network that comes with the package, and put it there
	rm -rf build/reader
	$(BIN)/python train.py --dataset mnist --network lenet --epochs 10 --seed 0 --threads 2 --output-dir build/reader
	$(BIN)/python -m app.reader build/reader/*

kit: $(PROGRAM) ## pack everything for a room without a network: a folder and a zip in build/kit
	$(BIN)/python -m app.kit $(ARGS)

demo: $(PROGRAM) ## show one training step on two images, with its gradient check
	@$(BIN)/python -m handcnn

test: $(TOOLS) ## run the tests, without the slow ones
	$(BIN)/python -m pytest --numprocesses auto $(ARGS)

lowest: ## run the tests with the lowest declared versions, in a separate environment
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt \
	    --editable '.[draw]' pytest pytest-xdist hypothesis
	$(LOWEST)/bin/python -m pytest --numprocesses auto --slow --kills 5 $(ARGS)

check: override ARGS += --slow
check: lint types test smoke ## run all that must pass before a merge: lint, types, tests, smoke

lint: $(TOOLS) ## check style, formatting and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(TOOLS) ## check the type hints
	$(BIN)/mypy

smoke: $(TOOLS) ## run every program once, briefly
	$(BIN)/python -m handcnn
	rm -rf $(SMOKE)
	$(BIN)/python train.py --epochs 1 --limit 1000 --output-dir $(SMOKE)
	$(BIN)/python train.py --resume latest --epochs 2 --quiet --output-dir $(SMOKE)
	$(BIN)/python predict.py docs/seven.jpg --weights $(SMOKE)/*/weights.npz --show $(SMOKE)/seen.png
	$(BIN)/python evaluate.py --weights $(SMOKE)/*/weights.npz --plots $(SMOKE)/plots --answers $(SMOKE)/answers.csv
	$(BIN)/python train.py --epochs 3 --limit 1000 --patience 1 --quiet --output-dir $(SMOKE) --name second
	$(BIN)/python train.py --dataset digits --limit 84 --epochs 1 --start-from handcnn/weights/reader.npz --also digits --quiet --output-dir $(SMOKE) --name further
	$(BIN)/python runs.py $(SMOKE)/2* --plot $(SMOKE)/both.png --output-dir $(SMOKE)
	$(BIN)/python draw.py --help
	$(BIN)/python -m benchmarks --quick
	$(BIN)/python -m benchmarks.record --quick
	$(BIN)/python -m benchmarks.estimators --quick
	$(BIN)/python -m examples.distorted_digits $(SMOKE)/distorted.png
	$(BIN)/python -m examples.grid_on_dask

bench: $(BENCH) ## measure speed against PyTorch
	$(BIN)/python -m benchmarks $(ARGS)

record: $(BENCH) ## measure accuracy and time of lenet and deep against PyTorch
	$(BIN)/python -m benchmarks.record $(ARGS)

judge: $(PROGRAM) ## train the judge of the number reader again, from its seed
	$(BIN)/python -m benchmarks.judge handcnn/pictures/numbers/judge.npz

clean: ## remove the virtual environment and the tools' caches; keep runs and data
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "handcnn needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(PROGRAM): $(CREATED) pyproject.toml constraints.txt
	@echo "Installing handcnn and the libraries it needs, once:"
	$(INSTALL) --editable '.[draw]'
	@touch $@

$(TOOLS): $(PROGRAM)
	@echo "Installing the tools that check and test handcnn, once:"
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(BENCH): $(TOOLS)
	@echo "Installing PyTorch, to compare with, once:"
	$(INSTALL) --editable '.[bench]' || \
	    echo "PyTorch could not be installed: the benchmarks run without it"
	@touch $@
