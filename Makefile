# Two commands do everything on a fresh Debian machine, as root: `make demo` and `make test`.

PYTHON ?= python3
LAB ?= demo
NODES ?= 2
# Labs that the system tests are spread over: they wait more than they work.
LABS ?= 3
PROMETHEUS ?=

lab := $(PYTHON) -m lab
tools := $(lab) python --
promtool := $(lab) tool promtool --
kubectl := $(lab) tool kubectl --
compile := $(lab) tool uv -- pip compile --quiet --universal --python-version=3.11 \
	--generate-hashes --custom-compile-command='make lock'
scripts := $(shell git grep --files-with-matches '^\#!/bin/\(ba\)\?sh$$')

.DEFAULT_GOAL := help
.PHONY: help demo down test lint format unit system system-machine system-machines bench crds manifests docs argocd image sbom lock recording

help: ## Show this help.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

demo: ## Make a cluster on this machine, checkpoint a shop, and restore a demo of it on another node.
	@PYTHON=$(PYTHON) $(lab) demo --name $(LAB) --nodes $(NODES) $(if $(PROMETHEUS),--prometheus)

down: ## Remove the demo's cluster and every trace of it.
	@$(lab) down --name $(LAB)

test: lint unit system ## Everything CI runs.

lint: ## Check style, types, imports, alerts, the chart, and that all generated files are up to date.
	$(tools) -m ruff check .
	$(tools) -m ruff format --check .
	$(tools) -m mypy operator/tryitnow lab charts bench tests image
	PYTHONPATH=operator $(tools) -c 'import sys; from importlinter.cli import lint_imports_command; sys.argv = ["lint-imports"]; lint_imports_command()'
	PYTHONPATH=operator $(tools) -m tryitnow.api.schema build/crds
	diff -r --exclude=kustomization.yaml crds build/crds
	diff -r charts/try-it-now/files/crds build/crds
	PYTHONPATH=operator $(tools) -m tryitnow.metrics.page build/metrics.md
	diff docs/metrics.md build/metrics.md
	$(tools) -m charts.values_page build/values.md
	diff docs/values.md build/values.md
	$(tools) -m charts.render build/manifests
	for file in build/manifests/*; do diff "manifests/$${file##*/}" "$$file" || exit 1; done
	$(tools) -m charts.check
	$(kubectl) kustomize manifests/argocd > build/argocd-cm.yaml
	diff manifests/argocd/argocd-cm.yaml build/argocd-cm.yaml
	$(promtool) check rules --lint=all --lint-fatal charts/try-it-now/files/rules.yaml
	$(promtool) test rules manifests/prometheus/rules.test.yaml
	! gofmt -d lab | grep .
	cd lab/kubelet-api && go vet .
	cd lab/machines/guest && go vet ./...
	$(lab) tool hadolint -- Containerfile
	$(lab) tool shellcheck -- $(scripts)
	$(tools) -m tests.specification
	$(tools) -m tests.unit.metrics.documented_queries build/documented_queries.yaml
	$(promtool) check rules build/documented_queries.yaml

format: ## Format the code.
	$(tools) -m ruff format .
	$(tools) -m ruff check --fix .

unit: ## Run the unit tests; no cluster.
	$(tools) -m pytest tests/unit --numprocesses=2 --dist=worksteal

system: ## Run the tests on real parts: a control plane, two nodes, Podman, CRIU.
	$(tools) -m pytest tests/system --numprocesses=$(LABS) --dist=loadfile --no-loadscope-reorder

system-machine: ## Run the main job on a virtual machine: a real kubelet, limits, a reboot, a power loss.
	$(tools) -m pytest tests/machines/test_one_machine.py --capture=no

system-machines: ## Run all tests on virtual machines.
	$(tools) -m pytest tests/machines --capture=no

bench: ## Measure each way to a running copy on a lab of its own; draws docs/benchmarks.svg.
	$(tools) -m bench

recording: ## Record the main job in a terminal, on a lab of its own; draws docs/demo.svg.
	$(tools) -m lab.recording docs/demo.svg

crds: ## Generate crds/, and the chart's copy of it, from the models.
	PYTHONPATH=operator $(tools) -m tryitnow.api.schema crds
	PYTHONPATH=operator $(tools) -m tryitnow.api.schema charts/try-it-now/files/crds

manifests: ## Render manifests/ from the chart.
	$(tools) -m charts.render manifests

docs: ## Generate docs/metrics.md and docs/values.md.
	PYTHONPATH=operator $(tools) -m tryitnow.metrics.page docs/metrics.md
	$(tools) -m charts.values_page docs/values.md

argocd: ## Render manifests/argocd/argocd-cm.yaml from the health checks.
	$(kubectl) kustomize manifests/argocd > manifests/argocd/argocd-cm.yaml

image: ## Build the operator's image; writes build/try-it-now.tar. BASE=… builds from another base.
	$(lab) operator-image $(if $(BASE),--base=$(BASE)) build/try-it-now.tar

sbom: ## Build the image and write its bill of materials to build/try-it-now.cdx.json.
	$(tools) -m lab.sbom build/try-it-now.cdx.json

lock: ## Pin what the image's build takes from PyPI: pyproject.toml to requirements*.txt.
	$(compile) --output-file=requirements.txt pyproject.toml
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(compile) --output-file=requirements-build.txt -
