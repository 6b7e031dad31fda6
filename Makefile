# The two commands of the README are `make materialize` and `make ui`; the tests are `make test`.

PYTHON ?= python3
PIP_ARGS ?=
SELECT ?= not tag:optional=true

FORCE ?=
PORT ?= 3000

# In Dagster a bare '+a' is a and one layer upstream, '*a' all of it: here both mean all.
SELECTION = $(shell echo '$(SELECT)' | sed -E 's/(^|,)[+]+([a-z0-9_]+)/\1*\2/g; s/(^|,)[*]([a-z]+:)/\1+\2/g; s/([a-z0-9_]+)[+]+(,|$$)/\1*\2/g')

BIN := .venv/bin
ENVIRONMENT := . ./activate.sh &&
SHELL := bash

.PHONY: help install materialize status verify ui test test-long test-browser test-faults test-clients test-engines test-all test-full examples pictures check clean

help:
	@echo "make materialize [SELECT='+micro_mtp']  install, then make and check the artifacts"
	@echo "make materialize SELECT=stale | FORCE=1 what is out of date | also what is unchanged"
	@echo "make ui [PORT=3001]                     web UI and daemon on http://127.0.0.1:3000"
	@echo "make status | verify                    what is there | is every byte right"
	@echo "make test | check                       quick tests, 10 minutes | ruff, pyright, dg check"
	@echo "make test-all                           test, test-long, -browser, -faults, -clients, -engines"
	@echo "make test-long                          what test leaves out: long tables, pages, processes"
	@echo "make test-browser                       the web UI, in Chromium"
	@echo "make test-faults                        some crashes, full disks, flipped bits"
	@echo "make test-clients                       programs that read the artifacts, in .venv-clients/"
	@echo "make test-engines                       Slurm, Ray, PostgreSQL, killed nodes; in .venv-engines/"
	@echo "make test-full                          all of these faults; writes docs/long-tests.md"
	@echo "make examples | pictures                write docs/examples/ | docs/pictures/ anew"

# An environment that `uv sync` made has no pip, and says in pyvenv.cfg that it is uv's.
.venv/installed: pyproject.toml constraints.txt
ifneq ($(shell grep -s '^uv = ' .venv/pyvenv.cfg),)
	uv sync --quiet
else
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[platform,dev]'
endif
	touch $@

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
	@$(ENVIRONMENT) python -m wmtp_assets.components.instance

materialize: install
	@$(ENVIRONMENT) $(if $(filter stale,$(SELECT)),dagster job execute -j stale,dagster asset materialize --select '$(SELECTION)') $(if $(FORCE),-c .dagster/force.yaml)
	@$(BIN)/wmtp status || true

status: install
	@$(BIN)/wmtp status

verify: install
	@$(BIN)/wmtp verify

ui: install
	@$(ENVIRONMENT) exec python -m wmtp_assets.components.ui --port $(PORT)

test: install
	$(BIN)/pytest -n auto --dist worksteal -m 'not browser and not faults and not clients and not engines and not long'

test-long: install
	$(BIN)/pytest -n auto --dist worksteal -m 'long and not browser and not faults and not clients and not engines'

test-browser: install
	$(BIN)/pytest -rs -m browser

test-faults: install
	$(BIN)/pytest -rs -n auto --dist worksteal -m faults

test-clients: install $(CLIENTS)
	$(BIN)/pytest -rs -m clients
	WMTP_TRANSFORMERS_PYTHON=$(CURDIR)/.venv-clients/transformers4/bin/python \
		$(BIN)/pytest -n auto wmtp_assets_tests/checkpoints/test_transformers.py

# Ray gives the processes of a node 15 s to start, so nothing else runs beside them.
ENGINES_TEST := .venv-engines/bin/python -m pytest -rs -m engines wmtp_assets_tests/engines

test-engines: install .venv-engines/installed
	$(ENGINES_TEST)/test_ray.py
	$(ENGINES_TEST) --ignore=wmtp_assets_tests/engines/test_ray.py -n 2 --dist loadfile

test-all: test test-long test-browser test-faults test-clients test-engines

test-full: install
	$(BIN)/python -m wmtp_assets_tests.full

examples: install
	$(BIN)/python -m wmtp_assets_tests.examples

pictures: materialize
	$(BIN)/python -m wmtp_assets_tests.browser.pictures

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
