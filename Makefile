# Short names for what the scripts and cargo do.

.PHONY: help build release test demo lint

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
