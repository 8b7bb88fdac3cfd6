# .venv holds what the CPU container and a client install, .venv-test all that tests, types and builds need, PyTorch among it.
# `make test PYTHON=python3.12` makes and uses .venv-test-python3.12.
PYTHON ?= python3
OTHER := $(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
RUN := .venv$(OTHER)/bin
TEST := .venv-test$(OTHER)/bin
TOOLS := .venv-tools/bin
PACKAGE := inference/sagerank_inference
IMAGE := $(PACKAGE)/image
PIP := -m pip install --quiet --disable-pip-version-check
COMPILE := uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links --python-version 3.11

.DEFAULT_GOAL := help
.PHONY: audit bench chaos check clients container container-arm64 demo docs e2e format fuzz help hooks image image-arm64 lint micro notebooks pins release soak synth test test-env test-newest types updates

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv$(OTHER)/ready  ## rerank real passages through boto3 and the container's server
	@$(RUN)/sagerank demo

.venv$(OTHER)/ready: $(IMAGE)/requirements-cpu.txt requirements/cli.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make demo PYTHON=python3.11")'
	@echo "Setting up $(@D) (once)"
	@$(PYTHON) -m venv $(@D)
	@$(RUN)/python $(PIP) --require-hashes -r $(IMAGE)/requirements-cpu.txt -r requirements/cli.txt
	@$(RUN)/python $(PIP) --no-deps -e .
	@touch $@

test-env: .venv-test$(OTHER)/ready  ## install what tests, lint, types and builds need

.venv-test$(OTHER)/ready: requirements/test.txt pyproject.toml
	@echo "Setting up $(@D) (once; PyTorch is large)"
	@$(PYTHON) -m venv $(@D)
	@$(TEST)/python $(PIP) -r requirements/test.txt
	@$(TEST)/python $(PIP) --no-deps -e .
	@touch $@

check: lint types  ## lint, types, and the tests of what differs from main
	@tests=$$($(TEST)/python -m tests.affected) && $(TEST)/python -m pytest $$tests

format: test-env  ## put imports and layout in order
	@$(TEST)/ruff check --quiet --fix-only .
	@$(TEST)/ruff format .

# Two processes, each of which takes the next file of tests: fixtures of a file are made once.
HALVES := -n 2 --dist loadfile --no-loadscope-reorder

test: test-env  ## the whole suite on two cores, but for what deploys
	@$(TEST)/python -m pytest $(HALVES)

test-newest: .venv-newest/ready  ## the suite, or TESTS, on the newest Python, or NEWEST, no PyTorch
	@.venv-newest/bin/python -m pytest $(HALVES) $(TESTS)

# PyTorch has no wheel for a new Python for a while; everything else at the same versions, but what needs it.
.venv-newest/ready: requirements/test.txt pyproject.toml
	@python=$${NEWEST:-$$(.ci/newest)} && echo "Setting up $(@D) (once) with $$python" && $$python -m venv $(@D)
	@grep -vE '^(torch|transformers|sentence-transformers)==' requirements/test.txt > $(@D)/requirements.txt
	@$(@D)/bin/python $(PIP) --no-deps -r $(@D)/requirements.txt
	@$(@D)/bin/python $(PIP) --no-deps -e .
	@touch $@

container: test-env  ## the image with podman, under instances' limits: minutes, root
	@$(TEST)/python -m pytest -m container tests/containers

container-arm64: test-env  ## the same for Graviton, emulated: more minutes
	@SAGERANK_TEST_ARM64=1 $(TEST)/python -m pytest -m container tests/containers/test_arm64.py

e2e: test-env  ## deploy every mode to a local AWS, and destroy it: minutes, Node.js
	@$(TEST)/python -m pytest -m e2e tests/sagerank/test_deploy_e2e.py tests/sagerank/test_update_e2e.py tests/sagerank/test_template_e2e.py

updates: test-env node_modules/.bin/cdk  ## each working change of a deployment on a local AWS: an hour, MINUTES
	@CDK_VALIDATION=false $(TEST)/python -m tests.trials.updates --record build/updates.jsonl $(if $(MINUTES),--minutes $(MINUTES))

notebooks: test-env node_modules/.bin/cdk  ## run the walkthroughs into build/notebooks/: minutes, Node.js
	@$(TEST)/python -m tests.notebooks

# Options of the trials: MINUTES (of fuzz: of each of its two), SEED, BODIES, UNTIMED. docs/reliability.md has them all.
TRIAL = $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

fuzz: test-env  ## spoilt bodies of all dialects and an oracle: MINUTES, SEED, BODIES
	@$(TEST)/python -m tests.trials.fuzz --in-process $(TRIAL) $(if $(BODIES),--bodies $(BODIES))
	@$(TEST)/python -m tests.trials.fuzz $(TRIAL) $(if $(BODIES),--bodies $(BODIES)) $(if $(UNTIMED),--untimed)

clients: test-env  ## others' clients; WRITE=1 writes docs/api.md, PROXIED=1: `proxy`
	@$(TEST)/python -m tests.clients $(if $(WRITE),--write) $(if $(PROXIED),--proxied)

chaos: test-env  ## attacks on a server, then `kill -9` under load: ten minutes each
	@$(TEST)/python -m tests.trials.attacks
	@$(TEST)/python -m tests.trials.chaos $(TRIAL)

soak: test-env  ## mixed load for an hour or MINUTES: does anything grow?
	@$(TEST)/python -m tests.trials.soak $(TRIAL)

# Before the notebooks, which have no network.
node_modules/.bin/cdk: package-lock.json
	@npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier
	@touch $@

docs: test-env  ## the pages as a site in build/site/, notebooks as they are
	@NO_MKDOCS_2_WARNING=1 $(TEST)/python -m mkdocs build --quiet

lint: test-env  ## ruff: rules and layout (`make format` mends most)
	@$(TEST)/ruff check .
	@$(TEST)/ruff format --check .

types: test-env  ## mypy, strict
	@$(TEST)/mypy

bench: test-env  ## memory of one 8,192-token pair, Tiny and Base shape
	@$(TEST)/sagerank bench memory --model random:tiny --tokens 8192
	@$(TEST)/sagerank bench memory --model random:base --tokens 8192

synth: test-env  ## synthesise every mode with every preset into cdk.out/, offline
	@CDK_VALIDATION=false $(TEST)/python -m tests.infra.synth cdk.out

audit: synth .venv-audit/ready  ## checkov on what `make synth` wrote
	@.venv-audit/bin/checkov --quiet --compact --framework cloudformation --directory cdk.out --skip-download

# checkov pins what the test environment needs newer, so it has an environment of its own.
.venv-audit/ready:
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python $(PIP) checkov==3.3.30
	@touch $@

release: test-env .venv-tools/ready  ## sdist and wheel into dist/, the wheel tested on its own
	@rm -rf dist
	@$(TOOLS)/python -m build --outdir dist
	@$(TOOLS)/twine check --strict dist/*
	@$(TEST)/python -m pytest -m installed tests/test_installed.py

hooks: test-env .venv-tools/ready  ## run format, lint and types before every commit
	@$(TOOLS)/pre-commit install

# With Docker, else podman. KIND=gpu or proxy. BASE: another image in FROM; STAND_IN=1: one of Debian's packages, where no registry is reached.
BUILT = $(KIND) $(if $(BASE),--base $(BASE)) $(if $(STAND_IN),--stand-in)

image: .venv-tools/ready  ## build the image, and list what is in it: KIND, BASE, STAND_IN
	@image=$$($(TOOLS)/python -m containers.build $(BUILT)) && $(TOOLS)/python -m containers.sbom $$image && echo $$image

image-arm64: .venv-tools/ready  ## the same for Graviton; emulated: minutes, and with podman root
	@image=$$($(TOOLS)/python -m containers.build $(BUILT) --arch arm64) && $(TOOLS)/python -m containers.sbom $$image && echo $$image

.venv-tools/ready: requirements/tools.txt
	@echo "Setting up $(@D) (once)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP) --require-hashes -r requirements/tools.txt
	@touch $@

micro: test-env  ## write graph and manifest of the embedded model beside its weights
	@$(TEST)/sagerank build --model $(PACKAGE)/micro --output $(PACKAGE)/micro

pins:  ## resolve the extras again
	$(COMPILE) --universal --generate-hashes --extra cpu pyproject.toml -o $(IMAGE)/requirements-cpu.txt
	$(COMPILE) --universal --generate-hashes --extra cost --constraint $(IMAGE)/requirements-cpu.txt pyproject.toml -o requirements/cli.txt
	$(COMPILE) --universal --generate-hashes --extra proxy --constraint $(IMAGE)/requirements-cpu.txt --constraint requirements/cli.txt pyproject.toml -o requirements/proxy.txt
	$(COMPILE) $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) --extra notebooks --extra eval-hf --extra hf --extra langchain --extra llamaindex --extra haystack --group dev pyproject.toml -o requirements/test.txt
	$(COMPILE) --generate-hashes --python-platform x86_64-manylinux_2_28 --constraint $(IMAGE)/constraints-gpu.txt --extra gpu pyproject.toml -o $(IMAGE)/requirements-gpu.txt
	$(COMPILE) --universal --generate-hashes --group tools -o requirements/tools.txt
	for each in tests/clients/*.in; do $(COMPILE) --universal $$each -o $${each%.in}.txt || exit 1; done
	# The CPU build of PyTorch where pip finds one; elsewhere the registry's, with the CUDA packages it names itself.
	sed -i -E 's/^torch==.*/torch==2.13.0/; /^(nvidia-|cuda-|triton)/d' requirements/test.txt
