# Two commands on a fresh machine: `make compare` and `make test`. PYTHON picks the interpreter (3.11 or later).
PYTHON ?= python3
VENV ?= .venv
STAMP := $(VENV)/.installed

FOLDERS := ppl_vae models guides tests examples benchmarks

SOAK ?= 10000  # damaged files of each kind

.PHONY: compare test soak check types docs docs-links clean

compare: $(STAMP)
	$(VENV)/bin/ppl-vae compare --data digits --latents 2

test: $(STAMP)
	$(VENV)/bin/python -m pytest -n 2

# The long forms of the tests that look for faults: some hours.
soak: $(STAMP)
	PPL_VAE_SOAK=$(SOAK) $(VENV)/bin/python -m pytest -n 2 -s tests/data/test_damaged_files.py tests/training/test_tensor_files.py
	PPL_VAE_SOAK=1500 $(VENV)/bin/python -m pytest -n 2 -s tests/pairs/test_hostile_arguments.py
	PPL_VAE_SOAK=2000 $(VENV)/bin/python -m pytest -n 2 -s tests/cli/test_hostile_command_line.py tests/cli/test_damaged_runs.py
	PPL_VAE_SOAK=1000 $(VENV)/bin/python -m pytest -s tests/training/test_other_content.py
	PPL_VAE_SOAK=50 $(VENV)/bin/python -m pytest -s tests/training/test_survival.py

check: types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check $(FOLDERS)

# The site, in docs/_build/html: warnings and links that lead nowhere are errors. Pages of examples are run where they or the
# package have changed, about a minute each; PPL_VAE_DOCS_EXECUTE=off runs none.
docs: $(VENV)/.docs
	$(VENV)/bin/python -m sphinx -W -n --keep-going -b html docs docs/_build/html

# Links to other sites, which needs the network.
docs-links: $(VENV)/.docs
	PPL_VAE_DOCS_EXECUTE=off $(VENV)/bin/python -m sphinx -b linkcheck docs docs/_build/links

$(VENV)/.docs: $(STAMP)
	$(VENV)/bin/python -m pip install --quiet --editable '.[docs]'
	@touch $@

# Type checks the package as a wheel installs it: an editable install is out of mypy's sight.
types: $(STAMP)
	rm -rf build
	$(VENV)/bin/python -m pip install --quiet --no-deps --target build/installed .
	cd build/installed && $(abspath $(VENV))/bin/mypy --config-file $(CURDIR)/pyproject.toml -p ppl_vae

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or later is needed, this is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build docs/_build docs/questions *.egg-info .pytest_cache .mypy_cache .ruff_cache
