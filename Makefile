# The short way to everything. `make` lists the targets.

MERGES := cart or-set pn-counter max-register json-three-way inventory
# Comes with the program, so it is built apart and committed.
RULES := host/src/merge/rules
# Modules for tests of the host: examples of tests/guests.
TEST_GUESTS := hash_order drops_third options lines half wrong first
TARGET := wasm32-unknown-unknown
GUESTS := target/$(TARGET)/guest
COMPONENTS := target/components
# What makes a component of a merge that was built.
encode = target/debug/stator module encode $(GUESTS)/$(subst -,_,$(1)).wasm --out $(COMPONENTS)/$(1).wasm

.PHONY: help build release guests components rules languages release-static image deb packaging demo test simulate faults bench compare wasm-target

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## build the program, target/debug/stator
	cargo build --workspace

# Guests before what runs them: never a cargo inside a build script.
guests: build components ## build the example merges as components into target/components

components: wasm-target
	cargo build --profile guest --target $(TARGET) $(MERGES:%=-p %)
	@$(foreach merge,$(MERGES),$(call encode,$(merge)) &&) true
	cargo build --profile guest --target $(TARGET) -p guests --examples
	@for guest in $(TEST_GUESTS); do \
	    target/debug/stator module encode $(GUESTS)/examples/$$guest.wasm \
	        --out $(COMPONENTS)/tests/$$guest.wasm || exit 1; \
	done

# Names of folders of this machine have no place in what is committed; and it is pushed with each
# list of rules, so it is not inlined for speed, unlike the others, which makes it a quarter smaller.
rules: wasm-target ## build the component of `--reconcile json` anew, where its sources have changed
	RUSTFLAGS="-Clink-arg=-zstack-size=65536 -Clink-arg=--initial-memory=1048576 \
	    --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo" \
	    cargo build --profile guest --target $(TARGET) -p json-rules
	target/debug/stator module encode $(GUESTS)/json_rules.wasm --out $(RULES)/json-rules.wasm
	$(RULES)/sources > $(RULES)/json-rules.sources

languages: components ## build the cart of every language whose compiler is here: tests/languages/install
	@tests/languages/build

release: ## the program as it is handed out: optimised, stripped, target/release/stator
	cargo build --release -p stator --bin stator

release-static: ## as release, without shared libraries: needs musl-gcc
	rustup target add x86_64-unknown-linux-musl
	CC_x86_64_unknown_linux_musl=musl-gcc cargo build --release -p stator --bin stator \
	    --target x86_64-unknown-linux-musl

image: release ## a container image, target/stator-image.tar, for docker load or podman load
	host/packaging/docker/build target/release/stator target/stator-image.tar

deb: release ## a Debian package, target/stator.deb
	rm -rf target/man
	target/release/stator man --to target/man
	MAN=target/man host/packaging/deb/build target/release/stator target/stator.deb

packaging: build ## check packages, manifests and alerts, as far as this machine can
	host/packaging/check target/debug/stator

demo: build wasm-target ## three nodes merge shopping carts through a partition
	cargo build --profile guest --target $(TARGET) -p cart
	$(call encode,cart)
	target/debug/stator demo

# All targets at once, so that nothing is built twice with other features.
test: ## every test of the workspace; other languages as far as tests/languages/install brought them
	cargo build --workspace --all-targets
	$(MAKE) languages
	cargo test --workspace

# Feature flags as in the rest, so that nothing of the program is built anew.
simulate: ## seeds of the simulator: SEEDS=1000 FIRST=0 SCENARIO='lost disks' REPLAY=1 FAILURES=10
	@SEEDS='$(SEEDS)' FIRST='$(FIRST)' SCENARIO='$(SCENARIO)' REPLAY='$(REPLAY)' \
	    FAILURES='$(FAILURES)' cargo run --quiet -p stator-simulator --bin simulate

faults: build ## real nodes under real faults, as root: partitions, kills, full disks (not part of test)
	tests/faults/run

# dev is quick to build, and about half as fast: to compare with others take PROFILE=release, for which
# everything is built anew.
PROFILE := dev
BENCH := merge events store cluster
CARGO_BENCH = $(filter-out cluster,$(BENCH))

bench: guests ## what things cost: see tests/benches
	cargo build --workspace --profile $(PROFILE)
	$(if $(CARGO_BENCH),cargo bench --workspace --profile $(PROFILE) $(CARGO_BENCH:%=--bench %))
	$(if $(filter cluster,$(BENCH)),tests/benches/cluster.sh target/$(PROFILE:dev=debug)/stator)

compare: ## beside etcd, Redis and bare gRPC, about seven minutes: ROUNDS=1 SECONDS_EACH=20 KEYS=100000
	cargo build --workspace --profile $(PROFILE)
	tests/benches/compare.sh target/$(PROFILE:dev=debug)/stator

wasm-target:
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
