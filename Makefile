# podcidr: `make` prints this help.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.stamp
PLUGIN_SOURCES := $(shell find plugin -name '*.go' -not -name '*_test.go' 2>/dev/null) plugin/go.mod plugin/go.sum
# Which build it is: the version, and the commit where git knows it.
RELEASE = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' operator/podcidr/__init__.py)$(addprefix +,$(shell git describe --always --dirty --exclude '*' 2>/dev/null))
# A module of this tree must never shadow a standard one, whatever the current folder is.
export PYTHONSAFEPATH := 1
export PYTHONPATH := $(CURDIR)/operator:$(CURDIR)

.PHONY: help demo demo-network test test-fast coverage mutants mutants-quick mutation-score simulate faults lint generate check-generate model bench bench-plan bench-smoke bench-agent bench-latency bench-plugin bench-scarcity bench-forecast storm plugin assets requirements clean

help: ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml
	@echo "setting up $(VENV) from requirements/dev.txt (about a minute, once)"
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "podcidr needs Python 3.11 or newer: python3 is $$(python3 --version)"; exit 2; }
	@test -x $(PY) || python3 -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

build/podcidr-ipam: $(PLUGIN_SOURCES)
	@command -v go >/dev/null || { echo "the CNI plugin is built with Go $$(awk '/^go /{print $$2}' plugin/go.mod) or newer: install Go first"; exit 2; }
	@mkdir -p build && echo "building $@" && cd plugin && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.release=$(RELEASE)' -o ../build/podcidr-ipam .

plugin: build/podcidr-ipam ## build the CNI plugin to build/podcidr-ipam

assets: ## build kube-apiserver, etcd and kubectl once, into a cache outside the tree
	@python3 tools/assets.py

demo: $(STAMP) plugin assets ## the main job on a real API server, in two minutes (KEEP=1 leaves it running)
	@KUBEBUILDER_ASSETS=$$(python3 tools/assets.py --print-dir) $(PY) -m demo $(if $(KEEP),--keep)

demo-network: $(STAMP) plugin assets ## pods on two nodes, attached by ptp, that reach each other (root)
	@KUBEBUILDER_ASSETS=$$(python3 tools/assets.py --print-dir) $(PY) -m demo.network

test: $(STAMP) plugin assets lint check-generate coverage mutants-quick ## everything: lint, generated files, coverage, mutants, Go and Python tests
	@python3 model/check.py --level smoke --if-present
	@cd plugin && go test -count=1 ./...
	@KUBEBUILDER_ASSETS=$$(python3 tools/assets.py --print-dir) $(PY) -m pytest -q

test-fast: $(STAMP) ## unit tests, and a part of the property tests (EFFORT_PERCENT=40 of their examples), under a minute
	@EFFORT_PERCENT=$(or $(EFFORT_PERCENT),40) $(PY) -m pytest -q -m 'not cluster and not slow' tests/unit tests/property

coverage: $(STAMP) ## every branch of the core is reached by its unit tests and the golden twin, or this fails
	@$(PY) -m pytest -q tests/unit/core tests/property/test_twin.py --cov=podcidr.core --cov-branch --cov-fail-under=100 --cov-report=term-missing:skip-covered

simulate: $(STAMP) ## operators, agents and plugin on virtual time under faults (SEEDS=1000 SEED_START=0, or SECONDS=n)
	@$(PY) -m tests.simulation --seeds $(or $(SEEDS),1000) --start $(or $(SEED_START),0) --seconds $(or $(SECONDS),0) $(if $(MUTANT),--mutant $(MUTANT))

mutants: $(STAMP) plugin assets ## deliberate bugs, each in a copy of the tree: which check kills it (ONLY=NAME, half an hour for all)
	@KUBEBUILDER_ASSETS=$$(python3 tools/assets.py --print-dir) $(PY) -m tests.mutants $(ONLY)

mutants-quick: $(STAMP) ## a few of them, in a minute
	@$(PY) -m tests.mutants --quick

MUTATION := build/mutation-venv
$(MUTATION)/.stamp: requirements/mutation.txt
	@echo "setting up $(MUTATION) from $< (a minute, once)"
	@test -x $(MUTATION)/bin/python || python3 -m venv $(MUTATION)
	@$(MUTATION)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

mutation-score: $(MUTATION)/.stamp ## every mutant that mutmut makes of the core, an hour or two (EVERY=n: one in so many, AGAIN=1: only what survived)
	@$(MUTATION)/bin/python -m tests.mutants.score $(if $(EVERY),--every $(EVERY)) $(if $(AGAIN),--again)

lint: $(STAMP) ## ruff, mypy --strict, import-linter, gofmt, go vet, staticcheck
	@test -z "$$(ls operator/*.py 2>/dev/null)" || { echo "a .py file directly in operator/ shadows the standard module: move it into operator/podcidr"; exit 1; }
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@cd plugin && test -z "$$(gofmt -l .)" || { echo "gofmt -w plugin"; exit 1; }
	@cd plugin && go vet ./... && go tool staticcheck ./...

generate: $(STAMP) ## write crds/, charts/podcidr/crds, deploy/podcidr.yaml, docs/cli.md and docs/pools.md's tables anew
	@$(PY) -m podcidr.api.crd --out crds
	@$(PY) -m podcidr.cli.page docs/cli.md
	@$(PY) -m tests.contract.bad_input_page docs/pools.md
	@python3 tools/render.py

check-generate: $(STAMP) ## fail if a generated file is not what generate writes
	@$(PY) -m podcidr.api.crd --out crds --check
	@$(PY) -m podcidr.cli.page --check docs/cli.md
	@$(PY) -m tests.contract.bad_input_page --check docs/pools.md
	@python3 tools/render.py --check

model: ## check the models of the protocol with spin, and that each rule is needed (FULL=1: larger bounds)
	@python3 model/check.py --level $(if $(FULL),full,quick)

faults: $(STAMP) plugin assets ## kill -9, SIGSTOP, restored etcd, full disk: half an hour on real processes (ARGS=--help)
	@KUBEBUILDER_ASSETS=$$(python3 tools/assets.py --print-dir) $(PY) -m tests.faults $(ARGS)


bench: bench-plan bench-latency bench-smoke bench-agent bench-plugin bench-scarcity bench-forecast ## all benchmarks

bench-plan: $(STAMP) ## plan() over 5,000 nodes and 25,000 blocks
	@$(PY) -m bench.plan

bench-latency: $(STAMP) plugin assets ## first block of a node, and a waiting ADD, end to end
	@KUBEBUILDER_ASSETS=$$(python3 tools/assets.py --print-dir) $(PY) -m bench.latency

build/bench/podcidr-ipam: $(PLUGIN_SOURCES) tools/hostlocal/go.mod tools/hostlocal/go.sum
	@mkdir -p build/bench
	@cd plugin && export CGO_ENABLED=0 && go build -trimpath -ldflags '-s -w' -o ../build/bench/empty ./bench/empty && \
	  go build -trimpath -o ../build/bench/bench ./bench
	@cd tools/hostlocal && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ../../build/bench/host-local github.com/containernetworking/plugins/plugins/ipam/host-local
	@cd plugin && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ../$@ .

bench-plugin: build/bench/podcidr-ipam ## the CNI plugin beside host-local and an empty program, as processes
	@cd build/bench && ./bench -plugin ./podcidr-ipam -host-local ./host-local -empty ./empty -runs 200 -out ../../bench/results/plugin.md

storm: ## kill -9 at random, 20,000 calls from 64 workers, checked offline
	@cd plugin && go test -count=1 -run TestStorm -v -timeout 40m . -storm.operations 20000 -storm.report "$(CURDIR)/bench/results/storm.md"

bench-agent: $(STAMP) plugin assets ## what an agent costs its node while 110 pods churn, and idle (11 min)
	@KUBEBUILDER_ASSETS=$$(python3 tools/assets.py --print-dir) $(PY) -m bench.agent --write

bench-smoke: $(STAMP) assets ## 1,000 and 2,000 Nodes created at once
	@KUBEBUILDER_ASSETS=$$(python3 tools/assets.py --print-dir) $(PY) -m bench.smoke

bench-scarcity: $(STAMP) plugin assets ## a pool of 16 blocks, 20 nodes and a burst (TRACES=folder for recorded demand)
	@KUBEBUILDER_ASSETS=$$(python3 tools/assets.py --print-dir) $(PY) -m bench.scarcity --real $(if $(TRACES),--traces $(TRACES))

bench-forecast: $(STAMP) ## errors of the forecast of a pool's exhaustion (TRACES=folder)
	@$(PY) -m bench.forecast $(if $(TRACES),--traces $(TRACES))

requirements: $(STAMP) ## compile the hashed requirement files anew
	@for what in agent: operator:--extra=operator dev:--extra=dev mutation:--extra=mutation; do \
	  $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	    --python-version 3.11 $${what#*:} pyproject.toml -o requirements/$${what%%:*}.txt; done

clean: ## remove what make made in the tree (the cache of assets stays)
	rm -rf build $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
