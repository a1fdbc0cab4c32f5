# The short way to everything. `make` lists the targets.

MERGES := cart
TARGET := wasm32-unknown-unknown
GUESTS := target/$(TARGET)/guest
COMPONENTS := target/components

.PHONY: help build guests demo test wasm-target

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## build the program, target/debug/stator
	cargo build -p stator

# Guests first, then what embeds or tests them: never a cargo inside a build script.
guests: wasm-target build ## build the example merges as components into target/components
	cargo build --profile guest --target $(TARGET) $(MERGES:%=-p %)
	@for merge in $(MERGES); do \
	    target/debug/stator module encode $(GUESTS)/$$merge.wasm -o $(COMPONENTS)/$$merge.wasm \
	        || exit 1; \
	done

demo: guests ## three nodes merge shopping carts through a partition
	target/debug/stator demo

# The whole workspace is built before the guests are encoded, so that nothing is built twice.
test: ## every test of the workspace
	cargo build --workspace --all-targets
	$(MAKE) guests
	cargo test --workspace

wasm-target:
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
