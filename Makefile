# What one does with a checkout. `make help` lists it.

.DEFAULT_GOAL := help
.PHONY: help run demo probe bench attacks test properties simulate mutants fuzz fuzz-targets deny install release postgres rabbitmq redis test-tools fmt clean

# The product and what is built with it: chosen together, so that cargo compiles what they share once.
RELEASE := cargo build --release --locked --quiet --package reservd --package
PROGRAMS := $(or $(CARGO_TARGET_DIR),target)/release
BUF := .tools/node/node_modules/.bin/buf

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: postgres ## serve on 127.0.0.1:50051, with a PostgreSQL of its own unless DATABASE_URL is set
	cargo run --release -- serve

demo: postgres ## show what reservd does, in a minute; ARGS="--csv FILE" takes other events
	examples/demo.sh $(ARGS)

probe: postgres ## run concurrent operations on a scratch event and check every invariant
	cargo run --release -- probe

bench: postgres ## measure how fast it is against SQL alone (half an hour; BENCH=--quick: a minute)
	$(RELEASE) reservd-bench
	$(PROGRAMS)/reservd-bench $(BENCH)

test: postgres rabbitmq redis test-tools ## check the format, the lints and the protocol, and run all tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(BUF) lint proto
	$(BUF) format --diff --exit-code proto
	@if tag=$$(git describe --tags --abbrev=0 2>/dev/null); then \
	  echo "buf breaking: against $$tag"; $(BUF) breaking proto --against ".git#tag=$$tag,subdir=proto"; \
	fi
	cargo test --locked --workspace

attacks: postgres redis ## measure how long honest callers wait while the server is attacked (ten minutes; ATTACKS="RapidReset Pings": less)
	$(RELEASE) reservd-bench
	$(PROGRAMS)/reservd-bench attacks $(ATTACKS)

properties: postgres ## run the property tests on other cases than `make test` (SEED=1 repeats a run; CASES=1000: less)
	@seed=$(or $(SEED),$$(date +%s%N)); echo "SEED=$$seed"; export PROPTEST_RNG_SEED=$$seed; \
	  PROPTEST_CASES=$(or $(CASES),10000) cargo test --locked --lib domain:: && cargo test --locked --test it model::

simulate: ## run the engine on a model of PostgreSQL, a million seeds (SEEDS=10000: fewer; SEED=17: this one, and print it)
	SIMULATE_SEED=$(or $(SEED),0) SIMULATE_SEEDS=$(or $(SEEDS),$(if $(SEED),1,1000000)) \
	  $(if $(SEEDS),,$(if $(SEED),SIMULATE_TRACE=1)) \
	  cargo test --locked --release --lib every_seed_is_right -- --nocapture

mutants: ## plant bugs in the rules, one at a time, and see each caught by a unit test (an hour; needs cargo-mutants)
	@tests/mutants.sh $(MUTANTS)

fuzz: postgres redis ## send a million generated requests to every RPC, others each time (REQUESTS=10000: less)
	FUZZ_SEED=$(or $(SEED),$$(date +%s%N)) FUZZ_REQUESTS=$(or $(REQUESTS),1000000) \
	  cargo test --locked --test it fuzz:: -- --nocapture

# Without a sanitizer, which only nightly Rust has: there is no unsafe code of ours for it to watch.
fuzz-targets: ## run each target of cargo fuzz for a minute (SECONDS=600: longer; needs cargo-fuzz)
	@cargo fuzz --version >/dev/null 2>&1 || { echo "first: cargo install --locked cargo-fuzz"; exit 1; }
	cp Cargo.lock fuzz/Cargo.lock
	for target in $$(cargo fuzz list); do \
	  mkdir -p fuzz/corpus/$$target && RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target \
	    -- -max_total_time=$(or $(SECONDS),60) -max_len=4096 || exit 1; \
	done

deny: ## check the dependencies: vulnerabilities, licences, bans, sources (needs cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || { echo "first: cargo install --locked cargo-deny"; exit 1; }
	cargo deny --locked check

# Without what only a debugger reads, it is a sixth as long.
install: ## install the program into PREFIX (/usr/local)
	cargo build --release --locked --quiet --package reservd
	mkdir -p $(DESTDIR)$(or $(PREFIX),/usr/local)/bin
	install -s -m 755 $(PROGRAMS)/reservd $(DESTDIR)$(or $(PREFIX),/usr/local)/bin/

release: ## make an archive of the program with its documents, checksums and a bill of materials, in target/dist
	@cargo cyclonedx --version >/dev/null 2>&1 || { echo "first: cargo install --locked cargo-cyclonedx"; exit 1; }
	deploy/release.sh $(PROGRAMS)

postgres: ## install PostgreSQL's server programs where they are missing
	@deploy/install-postgres.sh

rabbitmq: ## install RabbitMQ where it is missing, for the tests
	@deploy/install-rabbitmq.sh

redis: ## install Redis where it is missing, for the tests
	@deploy/install-redis.sh

test-tools: ## install what the tests call reservd with, into .tools/
	@tests/clients/install.sh
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

fmt: test-tools ## format the code and the protocol
	cargo fmt --all
	$(BUF) format --write proto

clean: ## remove what was built and installed here; data stays
	cargo clean
	rm -rf .tools
