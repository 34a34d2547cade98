# Every target works from a bare clone: it makes .venv, installs the package and its tools there, then runs.
PYTHON ?= python3
# Requirements to meet besides the package's own, for a CPU build of torch say: make test TORCH=torch==2.13.0
TORCH ?=
# More for pytest: make test ARGS="-k fog"
ARGS ?=
# Processes that run tests: auto is one per core, 0 none beside pytest itself.
WORKERS ?= auto

BIN := $(CURDIR)/.venv/bin
# A file stays in one process.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
QUICK := tests/test_architecture.py tests/test_images.py tests/test_registry.py tests/metrics tests/results
ENVIRONMENT := .venv/installed
TRAINED := demo/trained
WHEEL := build/wheel

.PHONY: help demo test test-quick test-all coverage-report check lint types format diagram goldens bench-corruptions bench-clustering bench-training bench-evaluation bench-reports bench-methods gallery mutants clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 26

demo: $(TRAINED) ## train ConCURL on digits, score it under 75 corruptions, in demo/
	cd demo && SHIFTBENCH_CACHE=$(CURDIR)/demo/cache $(BIN)/shiftbench evaluate --shift corruption

test: $(ENVIRONMENT) ## the fast tests
	$(PYTEST) -m "not slow" $(ARGS)

test-quick: $(ENVIRONMENT) ## the fast tests of the core: under a minute
	$(PYTEST) -m "not slow" $(QUICK) $(ARGS)

test-all: $(ENVIRONMENT) ## all tests
	$(PYTEST) $(ARGS)

coverage-report: $(ENVIRONMENT) ## the fast tests, and which lines of the package they run
	$(PYTEST) --cov -m "not slow" $(ARGS)

check: lint types test ## before a pull request: lint, types, fast tests

lint: $(ENVIRONMENT) ## format and style, in seconds
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(ENVIRONMENT) ## types of the installed package
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEEL) .
	$(BIN)/python -m pip install --quiet --no-deps --target $(WHEEL)/installed $(WHEEL)/*.whl
	cd $(WHEEL)/installed && MYPYPATH=. $(BIN)/mypy --config-file $(CURDIR)/pyproject.toml \
	    --cache-dir $(CURDIR)/.mypy_cache -p shiftbench

format: $(ENVIRONMENT) ## format the code, and mend what ruff can mend
	$(BIN)/ruff check --quiet --fix --exit-zero .
	$(BIN)/ruff format .

diagram: $(ENVIRONMENT) ## draw the folders and their imports anew, in CONTRIBUTING.md
	PYTHONPATH=tests/helpers $(BIN)/python tests/test_architecture.py

mutants: $(ENVIRONMENT) ## break the code in 200 places, one at a time, and list what no test notices: hours
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py $(ARGS)

goldens: $(ENVIRONMENT) ## compute the corruptions' reference outputs anew
	$(BIN)/python tests/corruptions/make_goldens.py

bench-corruptions: $(ENVIRONMENT) ## measure the corruptions' speed
	$(BIN)/python -m benchmarks.corruptions $(ARGS)

bench-clustering: $(ENVIRONMENT) ## measure the speed of k-means, and of agreement and consensus
	$(BIN)/python -m benchmarks.clustering $(ARGS)
	$(BIN)/python -m benchmarks.agreement

bench-training: $(ENVIRONMENT) ## measure the parts of a training step against the same written plainly
	$(BIN)/python -m benchmarks.training $(ARGS)

bench-evaluation: $(ENVIRONMENT) ## measure a whole evaluation against the usual parts (needs ARGS)
	$(BIN)/python -m benchmarks.evaluation $(ARGS)

bench-reports: $(ENVIRONMENT) ## measure a report of 200 encoders
	$(BIN)/python -m benchmarks.reports $(ARGS)

bench-methods: $(ENVIRONMENT) ## train all methods on a part of CIFAR-10 and score them: an hour on 2 cores (needs SHIFTBENCH_DATA)
	$(BIN)/python -m benchmarks.methods $(ARGS)

gallery: $(ENVIRONMENT) ## real reports in gallery/: methods on digits, and on CIFAR-10 where SHIFTBENCH_DATA is (hours)
	$(BIN)/python -m benchmarks.gallery $(ARGS)

clean: ## remove everything that these targets make
	rm -rf .venv build demo gallery data-unpacked *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ENVIRONMENT): pyproject.toml
	$(PYTHON) -m venv .venv
	@echo "Installing shiftbench and its tools into .venv: some minutes, the first time."
	$(BIN)/python -m pip install --quiet $(TORCH) -e '.[dev]'
	@touch $@

$(TRAINED): $(ENVIRONMENT)
	mkdir -p demo
	cd demo && $(BIN)/shiftbench train
	@touch $@
