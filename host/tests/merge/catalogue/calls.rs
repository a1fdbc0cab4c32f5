//! Modules that are well formed and do harm when they run.

use stator::merge::Stage::{Load, Probe};

use super::Ends::{Called, Refused, Served};
use super::{Case, case};
use crate::support::{
    EMPTY_ANSWER, LOOP, RESOLVER, WIT, ambush, ambush_with, component, core, module,
    module_allocating, module_with,
};

pub fn cases() -> Vec<Case> {
    let mut cases = at_once();
    cases.extend(later());
    cases.extend(answers());
    cases.extend(logs());
    cases.extend(harmless());
    cases
}

const FUEL: &[&str] = &["used up its fuel of 100000000 units"];

/// A tenth of the usual fuel, so that the table does not take minutes on a busy machine.
fn briefly(case: Case) -> Case {
    case.with(|limits| limits.fuel = 100_000_000)
}

/// What the first call, at the push, finds out.
fn at_once() -> Vec<Case> {
    let start = |body: &str| module_with(&format!("(func $s {body}) (start $s)"), EMPTY_ANSWER);
    vec![
        case("a loop in resolve", Refused(Probe), &["fuel of 1000000000 units"], || module(LOOP)),
        case("a loop in resolve, class large", Refused(Probe), &["fuel of 10000000000"], || {
            module(LOOP)
        })
        .large(),
        briefly(case("a loop in the start function", Refused(Probe), FUEL, move || start(LOOP))),
        briefly(case("a loop in realloc", Refused(Probe), FUEL, || module_allocating(LOOP))),
        briefly(case("a loop in post-return", Refused(Probe), FUEL, || {
            let post =
                format!(r#"(func (export "cabi_post_{RESOLVER}#resolve") (param i32) {LOOP})"#);
            let core = core("", RESOLVER, EMPTY_ANSWER);
            component(WIT, "module", &core.replacen("(memory", &format!("{post} (memory"), 1))
        })),
        case("a trap", Refused(Probe), &["unreachable"], || module("(unreachable)")),
        case("a trap in the start function", Refused(Probe), &["unreachable"], move || {
            start("unreachable")
        }),
        case("a trap in realloc", Refused(Probe), &["unreachable"], || {
            module_allocating("(unreachable)")
        }),
        case("a stack bomb", Refused(Probe), &["stack"], || {
            let parameters: String = (0..12).map(|n| format!("(local.get {n}) ")).collect();
            module(&format!("(drop (call 1 {parameters})) {EMPTY_ANSWER}"))
        }),
        case("a stack bomb in the start function", Refused(Probe), &["stack"], move || {
            start("(call $s)")
        }),
        case("a memory bomb", Refused(Probe), &["33554432 bytes", "--class large"], || {
            module(&format!("{MEMORY_BOMB} {EMPTY_ANSWER}"))
        }),
        case("a memory bomb, class large", Refused(Probe), &["134217728 bytes"], || {
            module(&format!("{MEMORY_BOMB} {EMPTY_ANSWER}"))
        })
        .large(),
        case("a memory bomb in the start function", Refused(Probe), &["33554432"], move || {
            start(MEMORY_BOMB)
        }),
        case("a table bomb", Refused(Probe), &["unreachable"], || {
            let grow = "(loop $again
                (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))
                    (then unreachable))
                (br $again))";
            module_with("(table $t 1 funcref)", &format!("{grow} {EMPTY_ANSWER}"))
        }),
        case("data beyond the memory", Refused(Probe), &["out of bounds"], || {
            module_with(r#"(data (i32.const 131071) "xx")"#, EMPTY_ANSWER)
        }),
        case("elements beyond the table", Refused(Probe), &["out of bounds"], || {
            module_with("(table 1 funcref) (elem (i32.const 1) func 0)", EMPTY_ANSWER)
        }),
        case("an allocation beyond the memory", Refused(Probe), &["beyond end of memory"], || {
            module_allocating("(i32.const -8)")
        }),
        case("an allocation that is not aligned", Refused(Probe), &["not aligned"], || {
            module_allocating("(i32.const 4097)")
        }),
        case("an answer at the memory's end", Refused(Probe), &["not valid"], || {
            module("(i32.const 131060)")
        }),
        case("an answer that is not aligned", Refused(Probe), &["not aligned"], || {
            module("(i32.const 65)")
        }),
        case("an answer beyond the memory", Refused(Probe), &["not valid"], || {
            module("(i32.const -4)")
        }),
    ]
}

/// Grows by 1 MiB until it must not, then traps.
const MEMORY_BOMB: &str = "(loop $again
    (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
    (br $again))";

/// What only a merge of a value shows.
fn later() -> Vec<Case> {
    let fill = "(loop $again
        (memory.fill (i32.const 0) (i32.const 0) (i32.const 131072)) (br $again))";
    vec![
        briefly(case("a loop for values only", Called, FUEL, || ambush(LOOP))),
        case("a trap for values only", Called, &["unreachable"], || ambush("unreachable")),
        case("a division by zero", Called, &["divide by zero"], || {
            ambush("(drop (i32.div_u (i32.const 1) (i32.const 0)))")
        }),
        case("a memory bomb for values only", Called, &["33554432"], || ambush(MEMORY_BOMB)),
        briefly(case("filling memory for ever", Called, FUEL, move || ambush(fill))),
    ]
}

fn store(at: u32, word: u32) -> String {
    format!("(i32.store (i32.const {at}) (i32.const {word}))")
}

/// Answers in memory that are none. The answer is at 64: whether it is a failure; for a
/// resolution at 68 the outcome, at 72 pointer and length of the value, at 80 the note, at 92 the
/// events; for a failure at 68 the reason, at 72 the sibling, at 80 the message.
fn answers() -> Vec<Case> {
    let words = |name, says, words: &'static [(u32, u32)]| {
        case(name, Called, says, move || {
            let stores: String = words.iter().map(|(at, word)| store(*at, *word)).collect();
            ambush(&format!("(drop (memory.grow (i32.const 300))) {stores}"))
        })
    };
    // An event: topic and payload, each a pointer and a length.
    const MANY: u32 = 0x0fff_ffff;
    vec![
        words("9 MB of value", &["fuel"], &[(72, 0), (76, 9 << 20)]),
        words("a byte more of value", &["and 1048576 are allowed"], &[(76, (1 << 20) + 1)]),
        words("a value beyond the memory", &["out of bounds"], &[(72, 0x0200_0000), (76, 9)]),
        words("a value of 4 GiB", &["out of bounds"], &[(76, u32::MAX)]),
        words("neither an answer nor a failure", &["not valid"], &[(64, 7)]),
        words("an outcome that is none", &["not valid"], &[(68, 9)]),
        words("a note that is neither", &["not valid"], &[(80, 5)]),
        words("a reason that is none", &["not valid"], &[(64, 1), (68, 77)]),
        words("a sibling that is neither", &["not valid"], &[(64, 1), (72, 3)]),
        words(
            "a note that is not UTF-8",
            &["utf-8"],
            &[(1000, 0xffff), (80, 1), (84, 1000), (88, 2)],
        ),
        words(
            "a topic that is not UTF-8",
            &["utf-8"],
            &[(1000, 0xffff), (1100, 1000), (1104, 2), (92, 1100), (96, 1)],
        ),
        words(
            "a message that is not UTF-8",
            &["utf-8"],
            &[(1000, 0xffff), (64, 1), (80, 1000), (84, 2)],
        ),
        words(
            "a note of 70 KB",
            &["note and events, and 65536"],
            &[(80, 1), (84, 8), (88, 70_000)],
        ),
        words("65 events", &["65 events, and 64"], &[(92, 1000), (96, 65)]),
        words("268 million events", &["not valid"], &[(92, 1000), (96, MANY)]),
        words("events that are not aligned", &["not aligned"], &[(92, 1001), (96, 1)]),
        words(
            "an event of 70 KB",
            &["note and events, and 65536"],
            &[(1100, 0), (1104, 0), (1108, 8), (1112, 70_000), (92, 1100), (96, 1)],
        ),
        words(
            "64 events of 1 MB each",
            &["not valid"],
            // All of them the same bytes: events that overlap.
            &[
                (92, 2000),
                (96, 64),
                (2012, 1 << 20),
                (2028, 1 << 20),
                (2044, 1 << 20),
                (2060, 1 << 20),
                (2076, 1 << 20),
                (2092, 1 << 20),
                (2108, 1 << 20),
                (2124, 1 << 20),
                (2140, 1 << 20),
                (2156, 1 << 20),
            ],
        ),
        words(
            "a refusal of 5 MB",
            &["the module refused: malformed"],
            &[(64, 1), (68, 1), (80, 4096), (84, 5 << 20)],
        ),
    ]
}

const LOG: &str = r#"(import "stator:merge/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;

fn logs() -> Vec<Case> {
    let log = |level: u32, at: u32, length: u32| {
        format!("(call $log (i32.const {level}) (i32.const {at}) (i32.const {length}))")
    };
    let line = log(2, 0, 131_072);
    let thousand = format!(
        "(global.set $n (i32.const 1000)) (loop $again {}
            (global.set $n (i32.sub (global.get $n) (i32.const 1)))
            (br_if $again (global.get $n)))",
        log(2, 0, 100)
    );
    let flood = format!("(loop $again {line} (br $again))");
    let (beyond, no_level) = (log(2, 131_000, 1000), log(9, 0, 1));
    let not_utf8 = format!("{} {}", store(1000, 0xffff), log(2, 1000, 2));
    vec![
        briefly(case("a flood of log lines", Called, FUEL, move || ambush_with(LOG, &flood))),
        case("1,000 log lines, then an answer", Served, &[""], move || {
            let fields = format!("{LOG} (global $n (mut i32) (i32.const 0))");
            ambush_with(&fields, &thousand)
        }),
        case("a log line beyond the memory", Called, &["out of bounds"], move || {
            ambush_with(LOG, &beyond)
        }),
        case("a log line that is not UTF-8", Called, &["utf-8"], move || {
            ambush_with(LOG, &not_utf8)
        }),
        case("a log level that is none", Called, &["discriminant"], move || {
            ambush_with(LOG, &no_level)
        }),
    ]
}

/// What is strange and allowed, because it can do nothing.
fn harmless() -> Vec<Case> {
    // A NaN of each kind with a payload of its own, through arithmetic, as the merged value.
    let nans = |operation: &str| {
        format!("(f32.store (i32.const 1000) {operation}) {} {}", store(72, 1000), store(76, 4))
    };
    let made = nans("(f32.div (f32.const 0) (f32.const 0))");
    let negative = nans("(f32.sqrt (f32.const -1))");
    let carried = nans("(f32.add (f32.load (i32.const 1004)) (f32.const 1))");
    let carried = format!("{} {carried}", store(1004, 0xffa1_2345));
    let polite = "(drop (memory.grow (i32.const 60000)))
        (drop (table.grow $t (ref.null func) (i32.const 1000000)))";
    let half = "(if (i32.eq (memory.grow (i32.const 800)) (i32.const -1)) (then unreachable))";
    vec![
        case("the NaN of 0/0 is canonical", Served, &["0000c07f"], move || ambush(&made)),
        case("the NaN of a root is canonical", Served, &["0000c07f"], move || ambush(&negative)),
        case("a NaN's payload is lost", Served, &["0000c07f"], move || ambush(&carried)),
        case("asking for too much politely", Served, &[""], move || {
            ambush_with("(table $t 1 funcref)", polite)
        }),
        case("52 MB of memory, class large", Served, &[""], move || ambush(half)).large(),
        case("a memory of 62 MiB, class large", Served, &[""], || {
            let core = core("", RESOLVER, EMPTY_ANSWER);
            component(WIT, "module", &core.replacen("\"memory\") 2", "\"memory\") 1000", 1))
        })
        .large(),
        case("a memory of 62 MiB", Refused(Load), &["--class large"], || {
            let core = core("", RESOLVER, EMPTY_ANSWER);
            component(WIT, "module", &core.replacen("\"memory\") 2", "\"memory\") 1000", 1))
        }),
    ]
}
