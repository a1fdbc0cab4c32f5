//! What a module may use, as a named class.
//!
//! The limits of the pool belong to an engine, so each class has one ([`super::class`]). `small`
//! fits modules written in Rust or C, and JavaScript with QuickJS. `large` fits interpreters that come along in a component:
//! its figures leave room above what a Python and a JavaScript module were measured to need.

use std::time::Duration;

use stator_core::catalogue::ModuleClass;

/// The limits of one class of modules. Whatever exceeds one is refused with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The class.
    pub class: ModuleClass,

    /// Bytes of a component.
    pub component_bytes_max: usize,
    /// Core modules inside a component, at any depth.
    pub core_modules_max: u32,
    /// Components inside components, and types inside types of these: how deep.
    pub nesting_max: u32,
    /// What a component declares outside of its core modules, at any depth: types, imports,
    /// exports, aliases, instances, canonical functions. What an instance exports is copied at
    /// every use, so checking them can take their square.
    pub declarations_max: u32,
    /// Instances of components, at any depth. Where a component exports resources, each instance
    /// has types of its own: 990 instances of 1,500 resources, 20 KiB, take the compiler 1.2 GB
    /// and the node that loads the result 310 MB.
    pub component_instances_max: u32,
    /// Bytes of one name that is imported or exported.
    pub name_bytes_max: u32,
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
    /// Core instances that a component may consist of.
    pub core_instances_max: u32,
    /// Linear memories of a component.
    pub memories_max: u32,
    /// Tables of a component.
    pub tables_max: u32,
    /// Bytes of all linear memories of a call together.
    pub memory_bytes_max: usize,
    /// Elements of all tables of a call together.
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
    /// The limits of a class.
    pub const fn of(class: ModuleClass) -> Self {
        match class {
            ModuleClass::Small => Limits::small(),
            ModuleClass::Large => Limits::large(),
        }
    }

    /// The class `large`: modules that bring an interpreter along.
    ///
    /// Measured: a Python module (componentize-py 0.25, WASI stubbed) has 18.3 MB, 38 core modules,
    /// 13,480 functions of up to 427 KB, 271 locals and 1,700 declarations; a JavaScript one
    /// (componentize-js, all features off) 12.0 MB, 12,669 functions of up to 172 KB. Each makes
    /// 38 MB of machine code and costs the node 50 MB of memory while it is loaded.
    pub const fn large() -> Self {
        Limits {
            class: ModuleClass::Large,
            component_bytes_max: 24 << 20,
            core_modules_max: 64,
            functions_max: 40_000,
            function_bytes_max: 1 << 20,
            declarations_max: 5_000,
            component_instances_max: 32,
            compile_memory_bytes: 3 << 30,
            compile_cpu_seconds: 120,
            compile_wall: Duration::from_secs(240),
            artefact_bytes_max: 128 << 20,
            fuel: 10_000_000_000,
            core_instances_max: 60,
            memories_max: 8,
            tables_max: 20,
            memory_bytes_max: 128 << 20,
            table_elements_max: 100_000,
            stack_bytes: 512 << 10,
            ..Limits::small()
        }
    }

    /// The class `small`: modules written in Rust or C, and JavaScript with QuickJS (1.7 MB, 12 core
    /// modules, 25 instances of components).
    pub const fn small() -> Self {
        Limits {
            class: ModuleClass::Small,
            component_bytes_max: 2 << 20,
            core_modules_max: 16,
            nesting_max: 16,
            declarations_max: 1_000,
            component_instances_max: 32,
            name_bytes_max: 1024,
            functions_max: 10_000,
            function_bytes_max: 256 << 10,
            function_locals_max: 2_000,
            compile_memory_bytes: 2 << 30,
            compile_cpu_seconds: 20,
            compile_wall: Duration::from_secs(60),
            artefact_bytes_max: 32 << 20,
            fuel: 1_000_000_000,
            // QuickJS beside a stand-in for WASI: components with three memories, and what
            // wit-component and wasmtime put between them.
            core_instances_max: 24,
            memories_max: 4,
            tables_max: 8,
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
