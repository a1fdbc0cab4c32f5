//! What a module may use, as a named class.
//!
//! The limits of the pool belong to an engine, so a class is an engine's: a [`MergeHost`]
//! (super::MergeHost) has one. `small` fits modules written in Rust or C; interpreters that come
//! along in a component (JavaScript, Python) will get a larger class.

use std::time::Duration;

/// The limits of one class of modules. Whatever exceeds one is refused with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The class's name.
    pub class: &'static str,

    /// Bytes of a component.
    pub component_bytes_max: usize,
    /// Core modules inside a component, at any depth.
    pub core_modules_max: u32,
    /// Functions with a body, in all core modules together.
    pub functions_max: u32,
    /// Bytes of one function's body.
    pub function_bytes_max: u32,
    /// Parameters not counted, locals of one function. 20,000 of them in 64 KiB of module take
    /// the compiler 3.6 s and 514 MB; 80,000 in 256 KiB take it more than 12 GB.
    pub function_locals_max: u32,

    /// Address space of the compiling process, in bytes.
    pub compile_memory_bytes: u64,
    /// Processor time of the compiling process, in whole seconds.
    pub compile_cpu_seconds: u64,
    /// Wall time of the compiling process; it is killed after it.
    pub compile_wall: Duration,
    /// Bytes of the machine code and its tables.
    pub artefact_bytes_max: usize,

    /// Fuel of one call, instantiation included; about one unit an instruction. Merging JSON takes
    /// about 100 units a byte.
    pub fuel: u64,
    /// Linear memory of one instance, in bytes.
    pub memory_bytes_max: usize,
    /// Elements of one table.
    pub table_elements_max: usize,
    /// Stack of a call, in bytes. The host's threads must have more than this.
    pub stack_bytes: usize,
    /// Bytes that one answer, or one line of log, may make the host copy.
    pub hostcall_bytes_max: usize,

    /// Bytes of a merged value.
    pub value_bytes_max: usize,
    /// Bytes of note and events of an answer together.
    pub remarks_bytes_max: usize,
    /// Events of an answer.
    pub events_max: usize,
}

impl Limits {
    /// The class `small`: modules written in Rust or C.
    pub const fn small() -> Self {
        Limits {
            class: "small",
            component_bytes_max: 2 << 20,
            core_modules_max: 8,
            functions_max: 10_000,
            function_bytes_max: 256 << 10,
            function_locals_max: 2_000,
            compile_memory_bytes: 2 << 30,
            compile_cpu_seconds: 20,
            compile_wall: Duration::from_secs(60),
            artefact_bytes_max: 32 << 20,
            fuel: 1_000_000_000,
            memory_bytes_max: 32 << 20,
            table_elements_max: 20_000,
            stack_bytes: 256 << 10,
            hostcall_bytes_max: 8 << 20,
            value_bytes_max: 1 << 20,
            remarks_bytes_max: 64 << 10,
            events_max: 64,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::small()
    }
}
