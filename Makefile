# Kura: the targets that people and CI run. Each does its own set-up.
#
#   make demo [DATA=folder]   builds and runs the main job on four real processes
#   make test                 every test: crash rounds, a smoke of the chaos run, the scenarios and one recovery among them; some
#                             of them need root
#   make soak [ROUNDS=500]    longer runs of the crash rounds
#   make chaos [MINUTES=30] [SEED=…] [KINDS=…] [PREVIOUS=binary]
#                             faults of every kind under load, and a table in the end; needs root. PREVIOUS is the
#                             kura of an earlier release, from which the run upgrades
#   make scenario NAME=cut-download [SEED=…]
#                             one course of events, and what must come of it; needs root. Without a NAME it tells them
#   make recovery-proof [SEEDS=20] [SEED=1]
#                             a prefecture is lost under load and recovered, once for each seed; needs root
#   make fuzz [SECONDS=60] [NAMES=…]
#                             each fuzz target that long under libFuzzer, only those whose name holds one of NAMES;
#                             ordinary runs of the tests try some thousands of inputs
#   make mutants [NAMES=…]   sabotages of a copy of the product, each of which a test must catch
#   make lint                 formatting, clippy with warnings denied, purity of the core
#   make bench                the figures of docs/performance.md
#   make bench-beside-postgresql DATA=folder [TURNS=3] [SECONDS=10]
#                             Kura and PostgreSQL in turns; needs PostgreSQL's server programs

# One target directory and one profile for everything: RocksDB compiles once.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/kura/target
CARGO := cargo
KURA  := $(CARGO_TARGET_DIR)/release/kura

.PHONY: demo test soak chaos scenario recovery-proof mutants fuzz lint bench bench-beside-postgresql build setup

setup:
	@./setup.sh

build: setup
	$(CARGO) build --locked --release -p kura-node --bin kura

demo: build
	$(KURA) demo $(if $(DATA),--input $(DATA))

# What cannot be installed is told by the tests that need it: they fail as NOT RUN.
test: build
	-@./setup.sh chaos
	KURA_BINARY=$(KURA) $(CARGO) test --locked --release --workspace

soak: build
	KURA_BINARY=$(KURA) KURA_CRASH_ROUNDS=$(or $(ROUNDS),500) $(CARGO) test --locked --release -p kura-chaos-tests -- --nocapture

chaos: build
	@./setup.sh chaos
	$(CARGO) build --locked --release -p kura-chaos-tests --bins
	KURA_BINARY=$(KURA) $(CARGO_TARGET_DIR)/release/chaos --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED)) $(if $(KINDS),--kinds $(KINDS)) $(if $(PREVIOUS),--previous $(PREVIOUS))

scenario: build
	@./setup.sh chaos
	$(CARGO) build --locked --release -p kura-chaos-tests --bins
	KURA_BINARY=$(KURA) $(CARGO_TARGET_DIR)/release/scenario $(NAME) $(if $(SEED),--seed $(SEED))

recovery-proof: build
	@./setup.sh chaos
	$(CARGO) build --locked --release -p kura-chaos-tests --bins
	KURA_BINARY=$(KURA) $(CARGO_TARGET_DIR)/release/recovery --seed $(or $(SEED),1) --seeds $(or $(SEEDS),20)

# One target after the other, then a table; fuzz/run says what it builds and where inputs stay.
fuzz: setup
	fuzz/run $(or $(SECONDS),60) $(NAMES)

mutants: setup
	@./setup.sh chaos
	chaos-tests/mutants/run $(NAMES)

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --release --workspace --all-targets -- -D warnings
	@./purity.sh

bench: build
	$(KURA) bench

bench-beside-postgresql: build
	docs/performance/beside-postgresql.sh $(KURA) $(DATA) $(or $(TURNS),3) $(or $(SECONDS),10)
