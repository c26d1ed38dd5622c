# Every target sets up what it needs: a virtualenv in .venv, made with $(PYTHON).
PYTHON ?= python3
BIN := .venv/bin
export PYTHONPATH := dev

.PHONY: help setup demo test fuzz lint bench clean

help:
	@echo "make demo    watch an agent, an LLM call and a request recover, without StackStorm"
	@echo "make test    run every test"
	@echo "make fuzz    run the property tests with many more examples"
	@echo "make lint    check style, as StackStorm Exchange does and more"
	@echo "make bench   measure what recovery costs, against its budgets"
	@echo "make setup   make .venv, which bin/st2local needs"
	@echo "make clean   remove what was made"

setup: .venv/.ready

.venv/.ready: requirements.txt requirements-tests.txt dev/requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r dev/requirements.txt
	@touch $@

demo: setup
	$(BIN)/python dev/demo.py

test: setup
	$(BIN)/python -m pytest -n 2 $(TESTS)

fuzz: setup
	FUZZ=1 $(BIN)/python -m pytest -n 2 tests/fuzz

lint: setup
	$(BIN)/flake8
	$(BIN)/ruff check .

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf .venv .bench .st2local .pytest_cache .ruff_cache .hypothesis
