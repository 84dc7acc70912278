# Short names for what the scripts and cargo do.

.PHONY: help build release test demo lint mutants soak

help: ## print this
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile

build: ## debug binaries
	cargo build --workspace

release: ## target/release/pgquorum
	cargo build --release -p pgquorum

test: ## everything, as the continuous integration does
	deploy/test.sh

demo: ## a failover on this machine
	deploy/demo.sh

lint: ## clippy, warnings are errors
	cargo clippy --workspace --all-targets -- -D warnings

mutants: ## mistakes on purpose, each of which the fault tests must find (root, a quarter of an hour)
	cargo build -p jepsen && target/debug/jepsen mutants

soak: ## random faults until 200 failovers have been survived (root, hours on a busy machine)
	cargo build --release -p pgquorum -p jepsen && target/release/jepsen soak --faults all --hours 3 --failovers 200
