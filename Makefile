# Everything a developer or a new user needs; `make help` lists it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
INIT   := hatch_build.py tools/compile_init.py reconciler/runtime/launcher/init/init.c
EXAMPLE := /var/lib/reconciler-examples/box
PACKAGES := busybox-static catatonit containernetworking-plugins docker.io docker-registry gcc git gnupg iproute2 libseccomp2 linux-libc-dev mmdebstrap nftables openssh-client openssh-server openssl procps rsync strace util-linux vim xfsprogs

.DEFAULT_GOAL := help
.PHONY: help setup run stop lint test test-unit test-integration e2e fault bench test-vm test-image image clean packages

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

setup: packages $(STAMP) ## make .venv with the `reconciler` command; as root also the Debian packages that tests need

$(STAMP): pyproject.toml Makefile $(INIT)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say which with PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

packages:
	@tools/packages $(PACKAGES)

run: setup ## start the agent on specs/examples; Ctrl-C leaves the containers
	$(BIN)/python tools/example_image.py $(EXAMPLE)
	exec $(BIN)/reconciler run --networks specs/networks.yaml specs/examples

stop: $(STAMP) ## end the agent and every container, and leave nothing
	$(BIN)/reconciler destroy --all

lint: setup ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# what launches containers waits more than it works: one more at a time than this kind of machine has cores
test: setup ## every suite that fits this machine; says what was skipped and why
	@failed=0; \
	$(BIN)/pytest -q -n 2 tests/unit || failed=1; \
	$(BIN)/pytest -q -n 3 --dist loadfile tests/integration tests/e2e || failed=1; \
	exit $$failed

test-unit: setup ## the unit tests: seconds, no privileges
	$(BIN)/pytest -q -n 2 tests/unit

test-integration: setup ## against the real kernel, room by room
	$(BIN)/pytest -q tests/integration

e2e: setup ## through the command line only
	$(BIN)/pytest -q tests/e2e

fault: setup ## random edits, crashes and restarts against the real kernel, other ones each time; 200 pods on a network (some minutes)
	FAULT_HISTORIES=$${FAULT_HISTORIES:-40} FAULT_PODS=200 $(BIN)/pytest -q tests/e2e/test_random.py tests/e2e/test_network_leftovers.py

bench: setup ## launches, crowds and memory beside runc, crun, Podman and Docker, which are installed (root; some minutes)
	@tools/packages runc crun conmon podman docker.io
	$(BIN)/python -m tests.bench

test-vm: setup ## the tests marked vm, on a kernel with cgroup v2 alone (QEMU, some minutes; root)
	@tools/packages qemu-system-x86 kmod
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,vm]'
	$(BIN)/python -m tests.vm.run

test-image: setup ## what runs an agent in a container, with the image that `make image` builds (root; a minute or two)
	@tools/packages $(PACKAGES)
	RECONCILER_TEST_REAL_IMAGE=yes $(BIN)/pytest -q tests/e2e/test_docker_agent.py

image: setup ## build the image reconciler:VERSION of an agent in a container, of what Debian and PyPI offer (root, an engine)
	@tools/packages mmdebstrap docker.io
	tools/image $(BIN)/pip

clean: ## remove what was built here
	rm -rf $(dir $(EXAMPLE)) $(VENV) reconciler/runtime/launcher/init/static-init .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
