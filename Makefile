# The front door: `make` lists what there is.

# Outside the tree, and shared by every clone of this user.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/muster/target
# The build that the demo and the benchmarks run: release or dev.
MUSTER_PROFILE ?= release
profile_dir = $(if $(filter dev,$(MUSTER_PROFILE)),debug,$(MUSTER_PROFILE))
muster = $(CARGO_TARGET_DIR)/$(profile_dir)/muster

SEED ?= 1
SEEDS ?= 1000
TASKS ?= 638780
CONTAINERS ?= 1000
tier = cargo test --locked --package muster-tests

.DEFAULT_GOAL := help
.PHONY: help claim setup build test unit sim scenario cluster e2e faults faults-long soak terraform lint demo bench replay image clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

claim:
	@scripts/claim-target $(CARGO_TARGET_DIR)

setup: ## install what is missing, start what is not running
	scripts/setup

build: claim ## the binary, in the profile MUSTER_PROFILE (release)
	cargo build --locked --profile $(MUSTER_PROFILE) --bin muster

demo: ## the main job on real data: a fleet, a push in the middle, a check at the end
	scripts/setup demo
	$(MAKE) --no-print-directory build
	demo/run --muster $(muster)

test: claim ## every test there is
	scripts/setup test
	cargo build --locked --bin muster
	MUSTER_E2E=1 cargo test --locked --workspace
	scripts/test-terraform

unit: claim ## tests beside the code
	cargo test --locked --workspace --exclude muster-tests

sim: claim ## the simulation, SEEDS=n random histories
	MUSTER_SIM_SEEDS=$(SEEDS) $(tier) --release --test sim -- --nocapture

replay: claim ## one history of the simulation step by step, SEED=n
	MUSTER_SIM_SEED=$(SEED) $(tier) --test sim -- --nocapture

scenario: claim ## scripts with golden output (UPDATE_GOLDEN=1 to bless)
	$(tier) --test scenario

cluster: claim ## coordinator and agents in one process, engine modelled
	$(tier) --test cluster

e2e: claim ## the real binary, engine, registry and push gateway
	scripts/setup build engine services testbox
	cargo build --locked --bin muster
	MUSTER_E2E=1 $(tier) --test e2e

faults: claim ## daemons and engines that are killed, frozen and upgraded
	scripts/setup build engine services testbox previous
	cargo build --locked --bin muster
	MUSTER_E2E=1 $(tier) --test faults

soak: claim ## TASKS=n simulated tasks and CONTAINERS=n real ones with faults, for long
	scripts/setup build engine services testbox
	cargo build --locked --release --bin muster
	MUSTER_E2E=1 MUSTER_SOAK_TASKS=$(TASKS) MUSTER_SOAK_CONTAINERS=$(CONTAINERS) \
		$(tier) --release --test soak -- --nocapture --test-threads 1

faults-long: claim ## the long forms of make faults
	scripts/setup build engine services testbox previous
	cargo build --locked --bin muster
	MUSTER_E2E=1 MUSTER_FAULTS=long $(tier) --test faults -- --nocapture --test-threads 1

terraform: claim ## the Terraform modules against a mock of AWS
	scripts/setup build base moto terraform
	cargo build --locked --bin muster
	scripts/test-terraform

lint: claim ## formatter, lints, documentation, rules of the tree
	scripts/setup build
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
	$(tier) --test tidy
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check; \
	else echo 'deny: SKIPPED, cargo-deny is not installed'; fi

bench: claim ## muster beside Celery, Airflow, PostgreSQL and plain docker; ROWS=1,13 for some rows
	scripts/setup build engine services testbox comparators airflow
	$(MAKE) --no-print-directory build
	MUSTER_BIN=$(muster) ROWS=$(ROWS) cargo run --locked --release --package muster-bench

image: ## the image muster:dev with the static binary
	scripts/setup build engine
	images/muster/build muster:dev

clean: ## remove what the builds left
	cargo clean
