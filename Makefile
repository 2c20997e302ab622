# Everything runs in .venv, made here from pyproject.toml; PYTHON picks another interpreter for it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: check test bench clean

.venv/ok: pyproject.toml hatch_build.py
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

check: .venv/ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: .venv/ok
	$(BIN)/pytest

bench: .venv/ok
	$(BIN)/python -m eval speed
	$(BIN)/python -m eval.index_speed

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
