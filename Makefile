# Two environments: .venv holds what the CPU container and a client install, .venv-test all that tests, torch and builds need.
PYTHON ?= python3
RUN := .venv/bin
TEST := .venv-test/bin
PACKAGE := inference/sagerank_inference
IMAGE := $(PACKAGE)/image
PIP := -m pip install --quiet --disable-pip-version-check
COMPILE := uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links --python-version 3.11

.PHONY: audit demo test e2e test-env lint types bench synth pins micro

demo: .venv/ready  ## rerank real passages through boto3 and the container's server
	@$(RUN)/sagerank demo

.venv/ready: $(IMAGE)/requirements-cpu.txt requirements/cli.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make demo PYTHON=python3.11")'
	@echo "Setting up .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(RUN)/python $(PIP) --require-hashes -r $(IMAGE)/requirements-cpu.txt -r requirements/cli.txt
	@$(RUN)/python $(PIP) --no-deps -e .
	@touch $@

test-env: .venv-test/ready  ## install what tests, lint, types and builds need

.venv-test/ready: requirements/test.txt pyproject.toml
	@echo "Setting up .venv-test (once; PyTorch is large)"
	@$(PYTHON) -m venv .venv-test
	@$(TEST)/python $(PIP) -r requirements/test.txt
	@$(TEST)/python $(PIP) --no-deps -e .
	@touch $@

test: test-env  ## the whole suite, but for what deploys
	@$(TEST)/python -m pytest

e2e: test-env  ## deploy every mode to a local AWS with the CDK's command line, and destroy it: minutes, and Node.js
	@$(TEST)/python -m pytest -m e2e tests/sagerank/test_deploy_e2e.py

lint: test-env
	@$(TEST)/ruff check .
	@$(TEST)/ruff format --check .

types: test-env
	@$(TEST)/mypy

bench: test-env  ## memory of one 8,192-token pair, Tiny and Base shape
	@$(TEST)/sagerank bench memory --model random:tiny --tokens 8192
	@$(TEST)/sagerank bench memory --model random:base --tokens 8192

synth: test-env  ## synthesise every mode with every preset into cdk.out/, offline
	@CDK_VALIDATION=false $(TEST)/python -m sagerank_infra.app --every cdk.out

audit: synth .venv-audit/ready  ## checkov on what `make synth` wrote
	@.venv-audit/bin/checkov --quiet --compact --framework cloudformation --directory cdk.out --skip-download

# checkov pins what the test environment needs newer, so it has an environment of its own.
.venv-audit/ready:
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python $(PIP) checkov==3.3.30
	@touch $@

micro: test-env  ## write graph and manifest of the embedded model beside its weights
	@$(TEST)/sagerank build --model $(PACKAGE)/micro --output $(PACKAGE)/micro

pins:  ## resolve the extras again
	$(COMPILE) --universal --generate-hashes --extra cpu pyproject.toml -o $(IMAGE)/requirements-cpu.txt
	$(COMPILE) --universal --generate-hashes --extra cost --constraint $(IMAGE)/requirements-cpu.txt pyproject.toml -o requirements/cli.txt
	$(COMPILE) $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) --extra distil --extra eval-hf --extra infra --extra cost --group dev pyproject.toml -o requirements/test.txt
	$(COMPILE) --generate-hashes --python-platform x86_64-manylinux_2_28 --constraint $(IMAGE)/constraints-gpu.txt --extra gpu pyproject.toml -o $(IMAGE)/requirements-gpu.txt
	# The CPU build of PyTorch where pip finds one; elsewhere the registry's, with the CUDA packages it names itself.
	sed -i -E 's/^torch==.*/torch==2.13.0/; /^(nvidia-|cuda-|triton)/d' requirements/test.txt
