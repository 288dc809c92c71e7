# `make help` says what there is. Every tool runs from .venv, at the versions of the lock files.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv

# A mirror that pip is told of is uv's too.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# Stamps: what the environment holds. All tools include what running needs, never the other way round.
RUNTIME := .venv/.runtime
TOOLS := .venv/.tools

# Linting reads the shipped profile and a database in memory: neither the developer's own profiles.yml nor a
# warehouse that is missing or in use can change what it finds.
LINT := .cache/lint
DBT_FOR_LINT := DBT_PROFILES_DIR=$(LINT) DBT_TARGET_PATH=$(LINT) DBT_LOG_PATH=$(LINT) \
	CDW_TARGET=duckdb CDW_DUCKDB_PATH=:memory:

DOCS := .cache/docs
DBT_FOR_DOCS := DBT_PROFILES_DIR=$(DOCS) CDW_TARGET=duckdb CDW_DUCKDB_PATH=$(DOCS)/warehouse.duckdb

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(TOOLS) profiles.yml ## Make .venv with all tools, and profiles.yml (done once, again when a lock changes)

.PHONY: demo
demo: $(RUNTIME) profiles.yml ## Simulate a small hospital, load it, build the marts, print what was found
	$(BIN)/cdw demo

.PHONY: test
test: lint ## Lint, then every test, on DuckDB and a real Postgres
	$(BIN)/pytest

.PHONY: lint
lint: lint-python lint-sql lint-dbt lint-files ## All linters; the next four are its parts

.PHONY: lint-python
lint-python: setup ## ruff (format and rules) and mypy
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

.PHONY: lint-sql
lint-sql: setup $(LINT)/sql ## sqlfluff on models and singular tests; only when one of their files has changed

# It parses what the macros expand to, which is long and slow: once for each state of these files is enough.
SQL := $(shell find models macros seeds tests/singular -type f) .sqlfluff dbt_project.yml requirements-dev.lock
$(LINT)/sql: $(SQL) | $(TOOLS) $(LINT)/profiles.yml
	! grep -rnE '.{121}' models --include='*.sql'
	$(DBT_FOR_LINT) $(BIN)/sqlfluff lint --processes 0 --disable-progress-bar models tests/singular
	@touch $@

.PHONY: lint-dbt
lint-dbt: setup $(LINT)/profiles.yml ## dbt parse, then dbt-bouncer on its manifest
	$(DBT_FOR_LINT) $(BIN)/dbt --quiet --warn-error parse
	$(BIN)/dbt-bouncer run --config-file dbt-bouncer.yml

.PHONY: lint-files
lint-files: setup ## pre-commit's own configuration; no host in a lock file
	$(BIN)/pre-commit validate-config .pre-commit-config.yaml
	! grep -nE '://|^ *-(-index-url|-extra-index-url|-find-links|-trusted-host|i|f) ' requirements*.lock

.PHONY: format
format: setup $(LINT)/profiles.yml ## Mend what ruff and sqlfluff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(DBT_FOR_LINT) $(BIN)/sqlfluff fix --processes 0 --disable-progress-bar models tests/singular

.PHONY: docs
docs: $(RUNTIME) $(DOCS)/profiles.yml ## Build the documentation site: lineage, models, columns
	@rm -rf $(DOCS)/topics $(DOCS)/warehouse.duckdb
	$(BIN)/cdw simulate --out $(DOCS)/topics --patients 2 --hours 2
	$(DBT_FOR_DOCS) $(BIN)/cdw load --from $(DOCS)/topics
	$(DBT_FOR_DOCS) $(BIN)/dbt --quiet build --exclude-resource-type test --exclude-resource-type unit_test
	$(DBT_FOR_DOCS) $(BIN)/dbt --quiet docs generate --static
	@echo "open $(CURDIR)/target/static_index.html"

.PHONY: dictionary
dictionary: setup ## Make the HL7 dictionary and its seed anew, after a change of hl7apy or of the overlay
	$(BIN)/python scripts/make_hl7_dictionary.py

FUZZ_SECONDS ?= 600
.PHONY: fuzz
fuzz: setup ## Fuzz the HL7 decoder for FUZZ_SECONDS (600), led by coverage (Linux on x86-64)
	$(BIN)/python -m tests.fuzz.fuzz_hl7 $(FUZZ_SECONDS)

.PHONY: bench-decode
bench-decode: setup ## Measure the HL7 decoder beside hl7apy and python-hl7, on 1 GB too (some minutes)
	$(BIN)/python benchmarks/decode.py

KILLS ?= 200
.PHONY: soak
soak: setup ## Kill loaders KILLS (200) times on each warehouse, under load; SEED=… makes the same decisions again
	$(BIN)/python -m tests.faults.soak --kills $(KILLS) $(if $(SEED),--seed $(SEED))

.PHONY: bench-load
bench-load: setup ## Measure cdw load from a real Kafka beside the Debezium JDBC sink and bare appends (some minutes)
	$(BIN)/python -m benchmarks.load

COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
.PHONY: lock upgrade
lock: $(UV) ## Regenerate the lock files after a change of pyproject.toml, versions kept where they still fit
upgrade: $(UV) ## Regenerate the lock files with the newest versions that pyproject.toml allows
upgrade: COMPILE += --upgrade
lock upgrade:
	$(COMPILE) --group uv --output-file requirements-uv.lock
	$(COMPILE) pyproject.toml --group build --group dev --output-file requirements-dev.lock
	$(COMPILE) pyproject.toml --group build --constraints requirements-dev.lock --output-file requirements.lock

.PHONY: clean
clean: ## Remove what can be made again: .venv, caches, dbt's target (no warehouse, no topics)
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis target logs

$(UV): requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
		|| { echo 'make: Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.12 …' >&2; exit 1; }
	@echo 'making .venv'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

INSTALL := $(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .

$(RUNTIME): requirements.lock pyproject.toml $(UV)
	@rm -f $(TOOLS)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(INSTALL)
	@touch $@

$(TOOLS): requirements-dev.lock pyproject.toml $(UV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock
	$(INSTALL)
	@touch $(RUNTIME) $@

profiles.yml:
	cp profiles.yml.example $@

$(LINT)/profiles.yml $(DOCS)/profiles.yml: profiles.yml.example
	@mkdir -p $(@D)
	cp $< $@
