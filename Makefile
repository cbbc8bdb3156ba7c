# Everything runs in .venv, which the first target that needs it makes.
# Beforehand only Python 3.11 or newer and make are needed.
PYTHON ?= python3
WORKERS ?= $(shell nproc 2>/dev/null || echo 1)
# One thread a process: the work is parallel over processes.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test test-slow check bench clean

demo: $(INSTALLED)
	rm -rf runs/demo
	$(BIN)/delegate run experiments/scenarios/corner.yaml --seeds 2 --out runs/demo \
		--workers $(WORKERS)

test: $(INSTALLED)
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile -m "not slow"

test-slow: $(INSTALLED)
	$(BIN)/pytest -q -m slow

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# With the peers it is measured beside, where they can be installed.
bench: $(INSTALLED)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		--no-build-isolation --editable ".[bench]"
	$(BIN)/delegate bench

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		--no-build-isolation --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache
