# `make demo` shows three nodes computing a sum (`make demo TLS=1` over https); `make test` passes all tests. Both install what they need.

CARGO ?= cargo
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test build venv lint bench fuzz test-long clean

demo: build venv
	$(BIN)/python scripts/demo.py $(if $(TLS),--tls)

test: venv
	$(CARGO) test --workspace --locked
	$(CARGO) build --locked --workspace --bins --examples
	scripts/proxies
	$(CARGO) build --locked -p fdrtd-mpc --bins
	$(BIN)/python -m pytest -q clients/python/tests
	$(BIN)/python -m pytest -q -n 2 tests/oracle
	$(BIN)/python -m pytest -q -n 2 tests/e2e
	$(BIN)/python -m pytest -q tests/first_minutes

# The manual pages come along: `man -l target/man/fdrtd.1`.
build:
	$(CARGO) build --locked --workspace --bins
	$${CARGO_TARGET_DIR:-target}/debug/fdrtd man target/man

venv:
	@PYTHON=$(PYTHON) scripts/venv

lint: venv
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/libm
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	$(BIN)/ruff check clients/python tests scripts bench
	$(BIN)/ruff format --check clients/python tests scripts bench
	cd clients/python && ../../$(BIN)/mypy
	$(BIN)/mypy tests/e2e tests/first_minutes scripts bench
	$(BIN)/mypy tests/oracle

# Figures for docs/benchmarks.md.
bench: venv
	$(CARGO) bench --locked -p fdrtd-bench
	$(CARGO) build --locked --release --bins
	FDRTD_TEST_PROFILE=release $(BIN)/python bench/e2e.py

# All fuzz targets for so many seconds together. What is found lands in fuzz/findings; see CONTRIBUTING.md.
# FUZZ_SEED=… begins where an earlier run began; otherwise each run begins elsewhere.
FUZZ_SECONDS ?= 60
fuzz:
	$(CARGO) run --locked -p fdrtd-fuzz -- --seconds $(FUZZ_SECONDS) $(if $(FUZZ_SEED),--seed $(FUZZ_SEED))

# The end-to-end tests again and again, to find what happens seldom; 1000 tasks at once; ten minutes of fuzzing for each target (FUZZ_SECONDS for all).
test-long: venv
	$(CARGO) build --locked --workspace --bins --examples
	FDRTD_KILLS=100 $(BIN)/python -m pytest -q tests/e2e/test_kills.py
	FDRTD_LONG=1 $(BIN)/python -m pytest -q tests/e2e/test_openapi.py
	$(CARGO) build --locked -p fdrtd-mpc --bins
	FDRTD_EXAMPLES=20 $(BIN)/python -m pytest -q -n 2 tests/oracle
	FDRTD_FROM_SCRATCH=1 $(BIN)/python -m pytest -q tests/first_minutes
	FDRTD_TEST_TASKS=1000 $(BIN)/python -m pytest -q tests/e2e/test_churn.py
	$(MAKE) fuzz FUZZ_SECONDS=$(if $(filter command line environment,$(origin FUZZ_SECONDS)),$(FUZZ_SECONDS),10200)
	for i in $$(seq 20); do $(BIN)/python -m pytest -q -n 2 tests/e2e || exit 1; done

clean:
	$(CARGO) clean
	rm -rf .venv
