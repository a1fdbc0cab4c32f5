//! Bytes that are no component, that are too many, or that a compiler would choke on.

use bytes::Bytes;
use stator::merge::Stage::{Bounds, Compile};

use super::Ends::Refused;
use super::{Case, case};
use crate::support::{
    EMPTY_ANSWER, RESOLVER, WIT, cart, compile_bomb, component_unchecked, core, core_module,
    many_locals, module, module_with,
};

pub fn cases() -> Vec<Case> {
    vec![
        case("no bytes", Refused(Bounds), &["not WebAssembly"], Bytes::new),
        case("a shell script", Refused(Bounds), &["not WebAssembly"], || {
            Bytes::from_static(b"#!/bin/sh")
        }),
        case("random bytes", Refused(Bounds), &["not WebAssembly"], || random(4096).into()),
        case("random bytes behind a header", Refused(Bounds), &["not a valid component"], || {
            [&HEADER[..], &random(4096)].concat().into()
        }),
        case("a core module", Refused(Bounds), &["core module", "module encode"], core_module),
        case("the cart, cut in half", Refused(Bounds), &["not a valid component"], || {
            cart().slice(..cart().len() / 2)
        }),
        case("the cart without its last byte", Refused(Bounds), &["not a valid component"], || {
            cart().slice(..cart().len() - 1)
        }),
        case("a function of the wrong type", Refused(Bounds), &["not a valid component"], || {
            component_unchecked(WIT, "module", &core("", RESOLVER, "(i64.const 64)"))
        }),
        case("50 MB of data", Refused(Bounds), &["bytes, and 2097152", "class `small`"], || {
            data(50 << 20)
        }),
        case("50 MB of data, class large", Refused(Bounds), &["and 25165824"], || data(50 << 20))
            .large(),
        case("3 MiB of data", Refused(Bounds), &["it fits class `large`", "--class large"], || {
            data(3 << 20)
        }),
        case("20,000 locals in 64 KiB", Refused(Bounds), &["20000 locals", "2000"], || {
            locals(20_000, 64 << 10)
        }),
        case("20,000 locals in 128 KiB", Refused(Bounds), &["20000 locals", "2000"], || {
            locals(20_000, 128 << 10)
        }),
        case("20,000 locals in 256 KiB", Refused(Bounds), &["in function 2", "262144"], || {
            locals(20_000, 256 << 10)
        }),
        case("20,000 locals in 256 KiB, class large", Refused(Bounds), &["20000 locals"], || {
            locals(20_000, 256 << 10)
        })
        .large(),
        case("20,000 locals in 256 KiB, bounds lifted", Refused(Compile), &["memory"], || {
            locals(20_000, 256 << 10)
        })
        .with(|limits| {
            limits.function_locals_max = u32::MAX;
            limits.function_bytes_max = u32::MAX;
            limits.compile_memory_bytes = 384 << 20;
        }),
        case("1 MiB of tiny functions", Refused(Bounds), &["functions, and 10000"], tiny),
        case("one function of 1 MiB", Refused(Bounds), &["bytes in function 2"], one_function),
        case("300 core modules", Refused(Bounds), &["core modules, and 16"], || {
            text(&format!("(component {})", "(core module)".repeat(300)))
        }),
        case("a bomb within the bounds", Refused(Compile), &["2 s of processor time"], || {
            compile_bomb(0)
        })
        .with(|limits| limits.compile_cpu_seconds = 2),
        case("the same against the clock on the wall", Refused(Compile), &["wall time"], || {
            compile_bomb(1)
        })
        .with(|limits| limits.compile_wall = std::time::Duration::from_secs(1)),
    ]
}

/// Rows that take a compiler long: what the bounds are there for.
pub fn slow_cases() -> Vec<Case> {
    let lifted = |case: Case| {
        case.with(|limits| {
            limits.functions_max = u32::MAX;
            limits.function_locals_max = u32::MAX;
            limits.function_bytes_max = u32::MAX;
        })
    };
    let stopped = Refused(Compile);
    vec![
        lifted(case("20,000 locals in 64 KiB, lifted", super::Ends::Served, &[], || {
            locals(20_000, 64 << 10)
        })),
        lifted(case("20,000 locals in 128 KiB, lifted", stopped, &["limit"], || {
            locals(20_000, 128 << 10)
        })),
        lifted(case("20,000 locals in 256 KiB, all of class", stopped, &["limit"], || {
            locals(20_000, 256 << 10)
        })),
        lifted(case("1 MiB of tiny functions, lifted", super::Ends::Served, &[], tiny)),
        case("a bomb within the bounds, 20 s", stopped, &["20 s"], || compile_bomb(2)),
    ]
}

const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// The same noise each time.
pub fn random(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn data(bytes: usize) -> Bytes {
    module_with(&format!(r#"(data "{}")"#, "x".repeat(bytes)), EMPTY_ANSWER)
}

fn locals(locals: usize, bytes: usize) -> Bytes {
    module(&format!("{} {EMPTY_ANSWER}", many_locals(locals, bytes, bytes / 64)))
}

fn tiny() -> Bytes {
    module_with(&"(func)".repeat(260_000), EMPTY_ANSWER)
}

fn one_function() -> Bytes {
    module(&format!("{} {EMPTY_ANSWER}", "(drop (i64.const -1))".repeat(350_000)))
}

/// A component in text.
pub fn text(component: &str) -> Bytes {
    wat::parse_str(component).expect("a component in text").into()
}
