.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup venv demo unit test soak coverage fuzz chaos bench docs lint lock up smoke down

BIN := .venv/bin
# Compiled modules are kept: without them each process compiles all of Stint, and pytest rewrites each test module again.
export PYTHONDONTWRITEBYTECODE :=
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: venv ## .venv with stint in it, a Docker engine that answers, a demo image
	@scripts/ensure-docker
	@scripts/ensure-image

venv:
	@scripts/setup

demo: setup ## run one sealed job on the embedded stack and show what happens
	@$(BIN)/stint demo

unit: venv ## the tests that need nothing but Python, but the long ones, with a fifth of the random examples, in seconds
	$(BIN)/pytest -n 3 --hypothesis-profile=quick -m "not soak" tests/unit $(ARGS)

test: setup lint ## lint, types, and all tests that are not marked `soak`; `make test ARGS="-k lease"` goes to pytest
	@scripts/ensure-registry
	@scripts/ensure-chromium
	$(BIN)/pytest -n 4 -m "not soak" $(ARGS)

soak: setup ## the tests that are long by nature: whole stacks, clusters, restarted engines, planted faults, and each fuzz target for FUZZ_SECONDS=600
	@scripts/ensure-registry
	@scripts/ensure-compose
	@scripts/ensure-chromium
	@scripts/ensure-python-image >/dev/null
	@scripts/ensure-languages
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} $(BIN)/pytest -n 3 -m soak $(ARGS)

coverage: setup ## lines and branches that unit and contract tests reach; `make coverage ARGS=tests/integration` for others
	$(BIN)/pytest -n 2 --cov --cov-report=term:skip-covered --cov-report=html -m "not soak" $(or $(ARGS),tests/unit tests/contract)

fuzz: setup ## hostile input for everything that reads bytes from outside, SECONDS=600 for each target, other inputs each time (FUZZ_SEED); `make fuzz ARGS="-k content"` one
	FUZZ_SECONDS=$(or $(SECONDS),600) FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s)} $(BIN)/pytest -n 2 -m soak tests/fuzz $(ARGS)

chaos: setup ## load and faults for CHAOS_SECONDS=300, then what must hold; CHAOS_SEED, _JOBS, _FAULTS, _ENGINE=scripted|docker, _SERVERS=1|3, _KEEP=folder
	@$(BIN)/python -m tests.chaos

bench: setup ## measure Stint beside the bare work; `make bench ARGS=--only=api` one group, `--write after` for docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(ARGS)

up: setup ## build and start all of it in containers; `make up ARGS="--scale runner=3"`
	@scripts/ensure-compose
	@PYTHON_IMAGE=$${PYTHON_IMAGE:-$$(scripts/ensure-python-image)} PIP_CONF="$$($(BIN)/python -m scripts.pip_conf)" \
	  DOCKER_GID=$${DOCKER_GID:-$$(stat -c %g /var/run/docker.sock)} docker compose up --build --wait $(ARGS)

smoke: venv ## run a job that reads a secret on what `make up` started
	@VAULT_TOKEN=$$(docker compose exec -T openbao cat /run/openbao/root-token) $(BIN)/stint run \
	  --queue smoke --image busybox --secret PASSWORD@kv/data/demo.password -- grep PASSWORD /secrets.yml

down: ## stop and remove all that `make up` started
	@docker compose down --volumes --remove-orphans --rmi local

lint: venv ## style, types, layers; no package index named anywhere
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/check-addresses

docs: venv ## write the generated references again, and build the documentation as a web site in site/
	@$(BIN)/python -m scripts.references
	@$(BIN)/mkdocs build --strict

lock: venv ## rewrite requirements/*.txt from pyproject.toml; `make lock ARGS=--upgrade` takes newer versions
	@scripts/lock $(ARGS)
