//! The types generated from `wit/merge.wit`. They do not leave the merge host.

#![allow(missing_docs, clippy::all, unused_qualifications)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "module",
    ownership: Borrowing { duplicate_if_necessary: false },
});

/// The optional interfaces. A component has none or some of them, so each is looked up by itself;
/// nothing is ever instantiated as this world.
pub mod options {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package stator:host;
            world options {
                export stator:merge/sampler@0.1.0;
                export stator:merge/invariant@0.1.0;
                export stator:merge/validator@0.1.0;
                export stator:merge/migration@0.1.0;
            }
        ",
    });
}
