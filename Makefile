# Every target sets up what it needs: a virtualenv in .venv, made with $(PYTHON).
PYTHON ?= python3
BIN := .venv/bin
export PYTHONPATH := dev

.PHONY: help setup demo test judges fuzz lint exchange docs bench clean

help:
	@echo "make demo      watch an agent, an LLM call and a request recover, without StackStorm"
	@echo "make test      run every test"
	@echo "make judges    install LiteLLM, SDKs and servers of agents beside the pack, for the tests before them"
	@echo "make fuzz      run the property tests with many more examples"
	@echo "make lint      check style, as StackStorm Exchange does and more, and types"
	@echo "make exchange  every check of StackStorm Exchange (ARGS='--skip tests': in half a minute)"
	@echo "make docs      write docs/reference.md and what is generated in other pages"
	@echo "make bench     measure what recovery costs, against its budgets"
	@echo "make setup     make .venv, which bin/st2local needs"
	@echo "make clean     remove what was made"

setup: .venv/.ready

.venv/.ready: requirements.txt requirements-tests.txt dev/requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r dev/requirements.txt
	@touch $@

demo: setup
	$(BIN)/python dev/demo.py

# Four workers on two cores: the tests of real servers wait more than they compute.
test: setup
	$(BIN)/python -m pytest -n 4 --dist worksteal $(TESTS)

# LiteLLM, as the oracle of tests/judge/test_provider_failures.py; the SDKs of the providers and aimock, as those of
# tests/judge/test_wire_types.py and tests/judge/test_wires_over_http.py; real servers of agents for the others.
judges: setup
	$(BIN)/python -m benchmarks.peers .bench

fuzz: setup
	FUZZ=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests/fuzz

lint: setup
	$(BIN)/flake8
	$(BIN)/ruff check .
	$(BIN)/mypy

# The tables in docs/failures.md are read from the library and from the corpus of the tests.
docs: export PYTHONPATH := dev:actions/lib:tests
docs: setup
	$(BIN)/python -m reference

exchange: .exchange/.ready
	.exchange/bin/python -m exchange $(ARGS)

.exchange/.ready: requirements.txt requirements-tests.txt dev/exchange/requirements.txt
	$(PYTHON) -m venv .exchange
	.exchange/bin/pip install --quiet --disable-pip-version-check -r dev/exchange/requirements.txt
	@touch $@

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf .venv .exchange .bench .st2local .mypy_cache .pytest_cache .ruff_cache .hypothesis
