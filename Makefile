# Three commands matter: `make demo` runs the main job, `make quick` checks a change in a minute, `make test` passes all
# tests. They make their environment first, in .venv, from the pinned versions in requirements/dev.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export LITELLM_LOCAL_MODEL_COST_MAP := True
SHELL := bash

.PHONY: demo quick test check unit mutants browser environments versions peers frameworks lint types format lock bench \
	clean docs lock-frameworks

# What `make test` tries besides the latest LiteLLM we are used to: the oldest and the newest supported one.
VERSIONS := 1.83.0 1.110.2

demo: $(VENV)/.ready
	$(BIN)/stageroute demo

# What needs no browser, no PostgreSQL, no other process and no LiteLLM (tests/tiers.py): under 90 s on two processors.
quick: $(VENV)/.ready
	$(MAKE) -j2 lint types
	$(BIN)/python -m pytest -q -n auto --quick --durations=10

# Environments are made while linters and types, which need one processor each, are at work; what has an environment of its
# own is tested side by side, because each takes one processor.
test: $(VENV)/.ready
	$(MAKE) -j3 lint types environments
	$(MAKE) unit
	$(MAKE) -j2 versions peers frameworks

check: lint types

unit: $(VENV)/.ready browser
	$(BIN)/python -m pytest -n auto --ignore=tests/store/test_mutants.py

# Whether the store's suite notices a store that is wrong: to be run where either has changed. A minute.
mutants: $(VENV)/.ready
	$(BIN)/python -m pytest -n auto tests/store/test_mutants.py

# What the tests of the page drive: Chromium, installed where there is none. In continuous integration it must be there.
browser: $(VENV)/.ready
	$(BIN)/python -m tests.page.browser

# The LiteLLM seam under the oldest and the newest supported LiteLLM, each in an environment of its own. What survives a
# killed process takes a minute each and hardly depends on LiteLLM: `unit` tests it. The script without arguments tries the
# versions between as well, and everything.
versions: $(VENV)/.ready
	$(BIN)/python tests/hook/run_versions.py $(VERSIONS) -- --ignore=tests/hook/test_durability.py

# The environments of `versions`, `frameworks` and `peers`, ahead of time.
environments: $(VENV)/.ready .venvs/peers/.ready
	$(BIN)/python tests/environments.py $(VERSIONS:%=requirements/litellm/%.lock) requirements/frameworks/*.lock

# The measurements beside other routers, with these installed: they bring too much for everybody's environment.
peers: .venvs/peers/.ready
	.venvs/peers/bin/python -m pytest tests/benchmarks

# The adapters with the real frameworks, each in an environment of its own. One of them: make frameworks ONLY=langchain
frameworks: $(VENV)/.ready
	$(BIN)/python tests/integrations/run_frameworks.py $(ONLY)

# The documentation as a site, in build/site. A broken link, anchor or reference to code is an error (which --quiet would hide).
docs: $(VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m tests.language

types: $(VENV)/.ready
	$(BIN)/mypy
	$(BIN)/mypy integrations

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks

# Pin anew, for every supported Python at once: everybody's environment, and of it what the image of examples/proxy needs.
COMPILE := uv pip compile --quiet --no-header --no-annotate --generate-hashes
lock:
	$(COMPILE) --universal --python-version 3.10 --group dev --all-extras pyproject.toml \
		-c requirements/constraints.txt -o requirements/dev.lock
	$(COMPILE) --universal --python-version 3.12 --extra proxy --extra postgres --extra testing pyproject.toml \
		-c requirements/dev.lock -o requirements/proxy.lock

# Pin the frameworks anew, each with the newest LiteLLM it works with.
lock-frameworks:
	for input in $(filter-out %/open_webui.in,$(wildcard requirements/frameworks/*.in)); do \
		$(COMPILE) --override requirements/frameworks/overrides.txt --python-version 3.11 pyproject.toml "$$input" \
			requirements/frameworks/tests.txt -o "$${input%.in}.lock" || exit 1; \
	done
	$(COMPILE) --excludes requirements/frameworks/open_webui_without.txt --python-version 3.11 \
		requirements/frameworks/open_webui.in -o requirements/frameworks/open_webui.lock

# uv installs in seconds what takes pip a minute; where uv does not get through, pip does.
INSTALL = install() { $(BIN)/uv pip install --quiet --python "$$1" "$${@:2}" || \
	"$$1" -m pip install --quiet --disable-pip-version-check "$${@:2}"; }; install

$(VENV)/.ready: requirements/dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-virtualenv \
		--no-deps --require-hashes -r <(sed -n '/^uv==/,/[^\\]$$/p' requirements/dev.lock)
	$(INSTALL) $(BIN)/python --require-hashes -r requirements/dev.lock
	$(INSTALL) $(BIN)/python --no-deps -e .
	touch $@

.venvs/peers/.ready: requirements/dev.lock requirements/peers.txt pyproject.toml $(VENV)/.ready
	test -x .venvs/peers/bin/python || $(BIN)/python -m venv .venvs/peers
	$(INSTALL) .venvs/peers/bin/python --require-hashes -r requirements/dev.lock
	$(INSTALL) .venvs/peers/bin/python -r requirements/peers.txt
	$(INSTALL) .venvs/peers/bin/python --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) .venvs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
