# make demo    the main job: compare entropy coefficients                  make test        the fast tests
# make install the set-up alone                                           make test-slow   learning runs of minutes
# make check   formatting, lint, types, known holes                        make test-faults kills, torn writes, bad input
# make clean   remove what was made
# Works on a bare clone with Python >= 3.11 and make; PYTHON=python3.12 picks another interpreter.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: install demo test test-slow test-faults check audit format clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is %d.%d; run make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "setuptools>=78.1.1" "torch>=2.10"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m entropic_rl.fused > /dev/null
	touch $(STAMP)

demo: $(STAMP)
	rm -rf runs/demo
	$(BIN)/python scripts/compare.py ppo --env entropic_rl/Chain-v0 --ent-coef 0.05 0.1 0.2 0.4 --seeds 4 \
	    --no-normalize-advantage --gamma 0.9 --gae-lambda 1 --learning-rate linear:0.003:0 --out runs/demo/chain
	$(BIN)/python scripts/compare.py ppo --env CartPole-v1 --ent-coef 0 0.01 0.1 1 --seeds 4 \
	    --total-timesteps 50000 --success-return 300 --out runs/demo/cartpole
	@echo "Open runs/demo/chain/report.html and runs/demo/cartpole/report.html in a browser."

# One thread for each of two processes: with more, those of one spin on the other's core while they wait for work.
test test-slow test-faults: export OMP_NUM_THREADS := 1

# A file's tests run in one process: what they share is made once. By their number, as xdist orders files, those of a
# single long test would come last, and one process would wait for the other; as collected, tests/faults comes first.
test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow --timeout 600

# Every fault that is promised to be survived, injected; ends with a table of what was done and how it ended.
test-faults: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 -m "not gpu" --timeout 3600 tests/faults

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_source_safety.py tests/test_surface.py \
	    tests/test_dependencies.py
	$(BIN)/python .ci/audit.py

# Advisories about the pinned versions, where the service of pip-audit can be reached.
audit: $(STAMP)
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python .ci/audit.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist *.egg-info runs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
