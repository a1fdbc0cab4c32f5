//! Components of another world, and what a component can be made of outside of its core modules.

use bytes::Bytes;
use stator::merge::Stage::{Bounds, Compile, Load, Probe, World};

use super::Ends::{Refused, Served};
use super::raw::text;
use super::{Case, case};
use crate::support::{
    EMPTY_ANSWER, RESOLVER, WIT, component, core, foreign_import, module_with, other_world,
};

pub fn cases() -> Vec<Case> {
    let mut cases = worlds();
    cases.extend(shapes());
    cases.extend(features());
    cases
}

fn worlds() -> Vec<Case> {
    vec![
        case(
            "another world",
            Refused(World),
            &["does not export", "`acme:tools/run`"],
            other_world,
        ),
        case("a world of nothing", Refused(World), &["it exports nothing"], || {
            component("package acme:tools; world w {}", "w", "(module)")
        }),
        case("a later version", Refused(World), &["knows `stator:merge/resolver@0.1.0`"], || {
            let later = WIT.replace("merge@0.1.0", "merge@0.2.0");
            component(&later, "module", &core("", "stator:merge/resolver@0.2.0", EMPTY_ANSWER))
        }),
        case(
            "an import of WASI",
            Refused(World),
            &["imports `wasi:clocks/wall-clock@0.2.0`"],
            || {
                text(
                    r#"(component
                    (import "wasi:clocks/wall-clock@0.2.0" (instance
                        (export "now" (func (result u64)))))
                    (instance $none) (export "stator:merge/resolver@0.1.0" (instance $none)))"#,
                )
            },
        ),
        case("an unknown import", Refused(World), &["imports `secrets`"], foreign_import),
        case("an import of Stator's own", Refused(World), &["may import `log` only"], || {
            text(
                r#"(component
                    (import "stator:merge/secrets@0.1.0" (instance))
                    (instance $none) (export "stator:merge/resolver@0.1.0" (instance $none)))"#,
            )
        }),
        case("a log that can be read", Refused(World), &["more than the interface"], || {
            let wit = WIT.replace("interface log {", "interface log { read: func() -> u32;");
            let import = r#"(import "stator:merge/log@0.1.0" "read" (func $read (result i32)))"#;
            let body = format!("(drop (call $read)) {EMPTY_ANSWER}");
            component(&wit, "module", &core(import, RESOLVER, &body))
        }),
        case(
            "an unknown export of Stator's",
            Refused(World),
            &["`stator:merge/oracle@0.1.0`"],
            || {
                text(
                    r#"(component (instance $none)
                    (export "stator:merge/oracle@0.1.0" (instance $none))
                    (export "stator:merge/resolver@0.1.0" (instance $none)))"#,
                )
            },
        ),
        case("a resolver with nothing in it", Refused(Load), &["resolve"], || with_resolver("")),
        case("a resolver of another type", Refused(Probe), &["sche"], || {
            let wit = WIT.replace("schema: u32,", "scheme: u32,");
            component(&wit, "module", &core("", RESOLVER, EMPTY_ANSWER))
        }),
        case("a resolver that takes nothing", Refused(Probe), &["type mismatch"], || {
            text(
                r#"(component
                    (core module $m (func (export "f")))
                    (core instance $i (instantiate $m))
                    (func $f (canon lift (core func $i "f")))
                    (instance $r (export "resolve" (func $f)))
                    (export "stator:merge/resolver@0.1.0" (instance $r)))"#,
            )
        }),
        case("a name of 1,000 bytes", Refused(World), &["xxx…`"], || {
            with_resolver(&format!(r#"(import "{}" (instance))"#, "x".repeat(1000)))
        }),
    ]
}

fn shapes() -> Vec<Case> {
    vec![
        case("a name of 90 KB", Refused(Bounds), &["bytes in one name", "1024"], || {
            with_resolver(&format!(r#"(import "{}" (instance))"#, "x".repeat(90_000)))
        }),
        case("400 foreign imports", Refused(World), &["imports `import-0`"], || {
            with_resolver(&repeat(400, |n| format!(r#"(import "import-{n}" (instance))"#)))
        }),
        case("6,000 imports", Refused(Bounds), &["declarations, and 1000"], || {
            with_resolver(&repeat(6000, |n| format!(r#"(import "import-{n}" (instance))"#)))
        }),
        case("900 foreign exports", Refused(World), &["and 890 more"], || {
            let exports = repeat(900, |n| format!(r#"(export "export-{n}" (instance $none))"#));
            text(&format!("(component (instance $none) {exports})"))
        }),
        case("6,000 exports", Refused(Bounds), &["declarations, and 1000"], || {
            with_resolver(&repeat(6000, |n| format!(r#"(export "export-{n}" (instance $none))"#)))
        }),
        case("6,000 aliases", Refused(Bounds), &["declarations, and 1000"], || {
            let aliases = r#"(alias core export $i "f" (core func))"#.repeat(6000);
            with_resolver(&format!(
                r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m))
                {aliases}"#
            ))
        }),
        case("components 1,000 deep", Refused(Bounds), &["inside one another, and 16"], || {
            nested(1000)
        }),
        case("components 10,000 deep", Refused(Bounds), &["inside one another, and 16"], || {
            nested(10_000)
        }),
        case("types 200 deep", Refused(Bounds), &["nesting"], || {
            let lists = repeat(200, |n| format!("(type $t{} (list $t{n}))", n + 1));
            with_resolver(&format!("(type $t0 (list u8)) {lists}"))
        }),
        case(
            "type declarations 5,000 deep",
            Refused(Bounds),
            &["types inside one another, and 16"],
            deep_type,
        ),
        case("instances of many resources", Refused(Bounds), &["501 instances", "32"], || {
            resources(500, 400)
        }),
        case("the most instances and resources", Refused(Load), &["resolve"], || {
            resources(15, 950)
        }),
        case("instances of resources, bounds lifted", Refused(Compile), &["memory"], || {
            resources(990, 1500)
        })
        .with(|limits| {
            limits.component_instances_max = u32::MAX;
            limits.declarations_max = u32::MAX;
            limits.compile_memory_bytes = 256 << 20;
        }),
        case(
            "30 core instances",
            Refused(Load),
            &["30 core module instances", "--class large"],
            || {
                with_resolver(&format!(
                    "(core module $m) {}",
                    "(core instance (instantiate $m))".repeat(30)
                ))
            },
        ),
        case("two memories", Refused(Load), &["count of 2 exceeds"], || {
            module_with("(memory $second 1)", EMPTY_ANSWER)
        }),
        case(
            "a table of a million elements",
            Refused(Load),
            &["1000000", "limit of 20000"],
            || module_with("(table 1000000 funcref)", EMPTY_ANSWER),
        ),
        case("20 tables", Refused(Load), &["tables count of 20", "--class large"], || {
            module_with(&"(table 1 funcref)".repeat(20), EMPTY_ANSWER)
        }),
    ]
}

fn features() -> Vec<Case> {
    let feature = |name, fields: &'static str, says| {
        case(name, Refused(Compile), says, move || {
            with_resolver(&format!("(core module $m {fields}) (core instance (instantiate $m))"))
        })
    };
    vec![
        feature("a memory of 64 bits", "(memory i64 1)", &["does not compile", "memory64"]),
        feature("a shared memory", "(memory 1 1 shared)", &["does not compile", "threads"]),
        feature(
            "an atomic access",
            "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))",
            &["does not compile", "threads"],
        ),
        feature(
            "relaxed SIMD",
            "(func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
            &["does not compile", "relaxed SIMD"],
        ),
        feature("an exception", "(tag $t) (func (throw $t))", &["does not compile", "exceptions"]),
        feature("garbage collection", "(type (struct (field i32)))", &["does not compile", "gc"]),
        case("a tail call, which is allowed", Served, &[""], || {
            module_with("(func $f (return_call $f))", EMPTY_ANSWER)
        }),
        case("plain SIMD, which is allowed", Served, &[""], || {
            let simd = "(func (param v128) (drop (i8x16.add (local.get 0) (local.get 0))))";
            module_with(simd, EMPTY_ANSWER)
        }),
    ]
}

/// A component that passes for a merge module by its names.
fn with_resolver(fields: &str) -> Bytes {
    let imports_first = |field: &str| field.starts_with("(import");
    let instance = "(instance $none)";
    let fields = match imports_first(fields) {
        true => format!("{fields} {instance}"),
        false => format!("{instance} {fields}"),
    };
    text(&format!(
        r#"(component {fields} (export "stator:merge/resolver@0.1.0" (instance $none)))"#
    ))
}

fn repeat(times: usize, make: impl Fn(usize) -> String) -> String {
    (0..times).map(make).collect()
}

/// Components inside one another, without a text parser that would have to dive for them.
fn nested(depth: usize) -> Bytes {
    const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
    const COMPONENT_SECTION: u8 = 4;
    let mut component = HEADER.to_vec();
    for _ in 1..depth {
        let inner = component;
        component = [HEADER, &[COMPONENT_SECTION], &length(inner.len()), &inner].concat();
    }
    component.into()
}

/// A type of an instance that declares a type of an instance that …
fn deep_type() -> Bytes {
    const DEPTH: usize = 5000;
    const TYPE_SECTION: u8 = 7;
    // An instance type of one declaration, which is a type: 0x42 0x01 0x01.
    let mut section = vec![1];
    section.extend([0x42, 1, 1].repeat(DEPTH));
    section.extend([0x42, 0]);
    let mut component = with_resolver("").to_vec();
    component.push(TYPE_SECTION);
    component.extend(length(section.len()));
    component.extend(section);
    component.into()
}

/// An unsigned number as WebAssembly writes lengths.
fn length(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (n & 0x7f) as u8;
        n >>= 7;
        if n == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Each instance of a component with resources has types of its own: they multiply.
fn resources(instances: usize, resources: usize) -> Bytes {
    let exports = repeat(resources, |n| format!(r#"(export "r{n}" (type $r))"#));
    let inner = format!("(component $c (type $r (resource (rep i32))) {exports})");
    with_resolver(&format!("{inner} {}", "(instance (instantiate $c))".repeat(instances)))
}
