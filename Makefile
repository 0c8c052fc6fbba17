.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup venv demo test lint lock

BIN := .venv/bin
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: venv ## .venv with stint in it, a Docker engine that answers, a demo image
	@scripts/ensure-docker
	@scripts/ensure-image

venv:
	@scripts/setup

demo: setup ## run one sealed job on the embedded stack and show what happens
	@$(BIN)/python scripts/demo.py

test: setup lint ## lint, types and all tests; `make test ARGS="-k lease"` goes to pytest
	@scripts/ensure-registry
	$(BIN)/pytest $(ARGS)

lint: venv ## style, types, layers; no package index named anywhere
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/check-addresses

lock: venv ## rewrite requirements/*.txt from pyproject.toml; `make lock ARGS=--upgrade` takes newer versions
	@scripts/lock $(ARGS)
