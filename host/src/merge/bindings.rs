//! The types generated from `wit/merge.wit`. They do not leave the merge host.

#![allow(missing_docs, clippy::all, unused_qualifications)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "module",
    ownership: Borrowing { duplicate_if_necessary: false },
});
