//! The two engines: one that runs modules, one that compiles them.
//!
//! They must agree on everything that shapes machine code, so both start from [`codegen`]. They
//! differ in how memory is allocated: the running one keeps a pool of instances ready, which
//! reserves hundreds of GiB of address space; the compiling one, in its child process, could not
//! even start under a limit of address space that way, and allocates on demand.
//!
//! Measured: a fresh instance with an empty call takes 42 µs on demand and 4 µs from the pool.

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::limits::Limits;

/// What shapes machine code, the same in both engines and whatever the class.
fn codegen() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // Whatever could differ between two machines, or between two calls, is off or made canonical.
    config
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .relaxed_simd_deterministic(true)
        .consume_fuel(true);
    // The pool has room for 32-bit memories. A module has one (see `running`), but the adapters that
    // wasmtime itself makes between two components of a module speak to the memories of both.
    config.wasm_memory64(false).wasm_multi_memory(true);
    // A trap's place in the module tells nobody anything, and the map is a third of the artefact.
    config.generate_address_map(false);
    // A call is synchronous and never unwinds.
    config.concurrency_support(false).native_unwind_info(false);
    config
}

/// The engine that compiles and never runs anything.
pub(super) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&codegen())
}

/// The engine that runs modules of one class, up to `slots` at a time.
pub(super) fn running(limits: &Limits, slots: u32) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    let (core_instances, memories, tables) =
        (limits.core_instances_max, limits.memories_max, limits.tables_max);
    pool.total_component_instances(slots)
        .total_core_instances(slots * core_instances)
        .total_memories(slots * memories)
        .total_tables(slots * tables)
        .max_core_instances_per_component(core_instances)
        .max_memories_per_component(memories)
        .max_memories_per_module(1)
        .max_tables_per_component(tables)
        .max_tables_per_module(tables)
        .table_elements(limits.table_elements_max)
        .max_memory_size(limits.memory_bytes_max)
        .max_unused_warm_slots(slots)
        // A merge touches little: clearing this much by hand is cheaper than giving it back.
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(4 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = codegen();
    config
        .max_wasm_stack(limits.stack_bytes)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}
