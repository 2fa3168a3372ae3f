# Kura: the targets that people and CI run. Each does its own set-up.
#
#   make demo [DATA=folder]   builds and runs the main job on four real processes
#   make test                 every test, the crash rounds among them
#   make soak                 longer runs of the crash rounds
#   make lint                 formatting, clippy with warnings denied, purity of the core
#   make bench                the figures of docs/performance.md

# One target directory and one profile for everything: RocksDB compiles once.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/kura/target
CARGO := cargo
KURA  := $(CARGO_TARGET_DIR)/release/kura

.PHONY: demo test soak lint bench build setup

setup:
	@./setup.sh

build: setup
	$(CARGO) build --locked --release -p kura-node --bin kura

demo: build
	$(KURA) demo $(if $(DATA),--input $(DATA))

test: build
	KURA_BINARY=$(KURA) $(CARGO) test --locked --release --workspace

soak: build
	KURA_BINARY=$(KURA) KURA_CRASH_ROUNDS=$(or $(ROUNDS),500) $(CARGO) test --locked --release -p kura-chaos-tests -- --nocapture

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --release --workspace --all-targets -- -D warnings
	@./purity.sh

bench: build
	$(KURA) bench
