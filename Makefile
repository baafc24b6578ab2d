# make demo   the main job, on real data that comes along
# make test   everything that can be tested here
PYTHON ?= python3.11
BIN := .venv/bin
export EDGEKIT_DATA ?= $(wildcard $(abspath ../shared/data))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE
WORKERS ?= 2
FUZZ_SECONDS ?= 3600
FUZZ_FIRST ?= 0

.PHONY: demo test test-devices fuzz kill-test lint format bench models docs site lock clean

demo: .venv/.ready
	$(BIN)/edgekit demo -o out/demo --force

test: .venv/.ready
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# on 64-bit and 32-bit ARM: two Debian user lands under qemu, deployed to through a real sshd
test-devices: .venv/.ready
	-$(BIN)/python tests/device/userland.py
	$(BIN)/pytest -n $(WORKERS) --dist loadfile tests/device

# commands ended by signals at random moments, KILLS times each: no half file, no leftover, no orphan
KILLS ?= 1000
KILLS_SEED ?= 0
kill-test: .venv/.ready
	EDGEKIT_KILLS=$(KILLS) EDGEKIT_KILLS_SEED=$(KILLS_SEED) $(BIN)/pytest tests/ground/test_kills.py tests/cli/test_command_kills.py \
		tests/devices/test_deploy_kills.py
# damaged files for every reader, on all cores: inputs and findings, which stay in out/fuzz
fuzz: .venv/.ready
	$(BIN)/python tests/fuzz --seconds $(FUZZ_SECONDS) --first $(FUZZ_FIRST) --findings out/fuzz

lint: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# every figure in docs/ and benchmarks/RESULTS.md
bench: .venv/.ready
	$(BIN)/python -m benchmarks

# models/ and quantized/, from the data sets to the reports
models: .venv/.ready
	$(BIN)/python models/build.py
	$(BIN)/python docs/build.py --demo --picture

# the generated parts of the pages in docs/, and the site in build/docs
docs: .venv/.ready
	$(BIN)/python docs/build.py
	$(MAKE) site

# the site alone; a dead link or a docstring that cannot be rendered fails
site: .venv/.ready
	$(BIN)/python -m sphinx -W --keep-going -q -E -b html docs build/docs

lock: .venv/.ready
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra legacy --extra micro --extra tensorboard --extra vela --group dev --group docs \
		--generate-hashes --no-emit-index-url --no-emit-find-links --universal --quiet \
		--python-version 3.11 --custom-compile-command "make lock" -o requirements.lock

# The lock is the whole closure: with --no-deps, pip never looks at a release that came after it.
.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv out build .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
