# Everything runs in .venv, made from pyproject.toml and constraints.txt; nothing else is needed but Python and make.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test test-long lint bench zoo zoo-data docs clean

demo: .venv/.installed
	$(BIN)/certlip verify models_zoo/digits_mlp.onnx --eps 0.1 --limit 100 --min-certified 0.3

# One BLAS thread for each of the two test processes: more of them fight for the cores.
test: .venv/.installed-test
	$(MAKE) --no-print-directory lint
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-long: .venv/.installed-test
	$(BIN)/python -m pytest -m long

lint: .venv/.installed-test
	$(BIN)/ruff check certlip tests benchmarks models_zoo docs specs
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# One section alone: .venv/bin/python -m benchmarks SECTION. The zoo's packages train the network of the pairs.
bench: .venv/.installed-bench
	$(BIN)/python -m benchmarks

docs: .venv/.installed-test
	$(BIN)/python -m docs.generate

zoo: .venv/.installed-zoo
	$(BIN)/python -m models_zoo.train
	$(BIN)/python -m models_zoo.cards

zoo-data: .venv/.installed-zoo
	$(BIN)/python -m models_zoo.data --out models_zoo/train

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	touch $@

.venv/.installed-test: .venv/.installed
	$(PIP) install -c constraints.txt -e '.[test]'
	touch $@

.venv/.installed-zoo: .venv/.installed
	$(PIP) install -c constraints.txt -e '.[zoo]'
	touch $@

.venv/.installed-bench: .venv/.installed-zoo
	$(PIP) install -c constraints.txt -e '.[bench]'
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
