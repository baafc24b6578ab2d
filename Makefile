# make demo   the main job, on real data that comes along
# make test   everything that can be tested here
PYTHON ?= python3.11
BIN := .venv/bin
export EDGEKIT_DATA ?= $(wildcard $(abspath ../shared/data))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
WORKERS ?= 2
FUZZ_SECONDS ?= 3600
FUZZ_FIRST ?= 0

.PHONY: demo test test-devices fuzz kill-test lint format bench models docs lock clean

demo: .venv/.ready
	$(BIN)/edgekit demo -o out/demo --force

test: .venv/.ready
	$(BIN)/pytest -n $(WORKERS) --dist loadfile

# on 64-bit and 32-bit ARM: two Debian user lands under qemu, deployed to through a real sshd
test-devices: .venv/.ready
	-$(BIN)/python tests/device/userland.py
	$(BIN)/pytest -n $(WORKERS) --dist loadfile tests/device

# commands ended by signals at random moments, KILLS times each: no half file, no leftover, no orphan
KILLS ?= 1000
kill-test: .venv/.ready
	EDGEKIT_KILLS=$(KILLS) $(BIN)/pytest tests/ground/test_kills.py tests/cli/test_command_kills.py \
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

# every figure in README.md and benchmarks/RESULTS.md
bench: .venv/.ready
	$(BIN)/python -m benchmarks

# models/ and quantized/, from the data sets to the reports
models: .venv/.ready
	$(BIN)/python models/build.py
	$(BIN)/python docs/build.py --picture

# the generated parts of README.md
docs: .venv/.ready
	$(BIN)/python docs/build.py

lock: .venv/.ready
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra demo --extra legacy --extra tensorboard --group dev \
		--generate-hashes --no-emit-index-url --no-emit-find-links --universal --quiet \
		--python-version 3.11 --custom-compile-command "make lock" -o requirements.lock

# The lock is the whole closure: with --no-deps, pip never looks at a release that came after it.
.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv out .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
