# The short way to everything. `make` lists the targets.

MERGES := cart
TARGET := wasm32-unknown-unknown
GUESTS := target/$(TARGET)/guest
COMPONENTS := target/components

.PHONY: help guests demo test wasm-target

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

guests: wasm-target ## build the example merges as components into target/components
	cargo build --profile guest --target $(TARGET) $(MERGES:%=-p %)
	cargo build -p stator
	@mkdir -p $(COMPONENTS)
	@for merge in $(MERGES); do \
	    target/debug/stator module encode $(GUESTS)/$$merge.wasm -o $(COMPONENTS)/$$merge.wasm \
	        && echo "$(COMPONENTS)/$$merge.wasm" || exit 1; \
	done

demo: guests ## three nodes merge shopping carts through a partition
	cargo run -p stator -- demo

test: guests ## every test of the workspace
	cargo test --workspace

wasm-target:
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
