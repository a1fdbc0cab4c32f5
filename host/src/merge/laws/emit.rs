//! A counterexample as a Rust test of the module's crate, with the types of guest-sdk.

use bytes::Bytes;
use stator_core::divergence::{Ancestor, Divergence, DivergentVersion, Outcome};

use super::counterexample::Counterexample;
use super::term::{Claim, Term};

/// The text of a test that fails as long as the law is violated.
pub(super) fn rust_test(found: &Counterexample, module: &str) -> String {
    let law = found.law;
    let mut text =
        format!("// Found by `stator module test`: {law} is violated:\n// {}.\n", law.statement());
    text.push_str("#[test]\n");
    text.push_str(&format!("fn merge_is_lawful_{}() {{\n", name(law.name())));
    text.push_str(
        "    use stator_guest::{Ancestor, Divergence, Merge, Outcome, Subject, Version};\n",
    );
    if matches!(found.claim, Claim::Preserves(_)) {
        text.push_str("    use stator_guest::Invariant;\n");
    }
    text.push_str(&format!("    use {module} as Module;\n\n"));
    text.push_str(&helpers(found));
    let names: Vec<_> = found.case.names.iter().map(|input| name(input)).collect();
    for (name, (_, input)) in names.iter().zip(&found.inputs) {
        text.push_str(&format!("    let {name} = {};\n", version(input)));
    }
    text.push_str(&body(&found.claim, &names));
    text.push_str("}\n");
    text
}

/// The text of a test that fails if `module` makes anything else of `divergence`.
pub fn merge_test((name, module): (&str, &str), divergence: &Divergence, made: &Outcome) -> String {
    let siblings: Vec<_> = divergence.siblings.iter().map(version).collect();
    let made = match made {
        Outcome::Value(value) => format!("Outcome::Value({}.to_vec())", bytes(value)),
        Outcome::Delete => "Outcome::Delete".to_owned(),
        Outcome::KeepSiblings => "Outcome::KeepSiblings".to_owned(),
    };
    format!(
        "#[test]
fn {name}() {{
    #[allow(unused_imports)]
    use stator_guest::{{Ancestor, Divergence, Merge, Outcome, Subject, Version}};

    let divergence = Divergence {{
        subject: {},
        siblings: vec![
            {},
        ],
        ancestor: {},
    }};
    let made = {module}::merge(&divergence).expect(\"merges\").outcome;
    assert_eq!(made, {made});
}}
",
        subject(&divergence.keyspace, &divergence.key),
        siblings.join(",\n            "),
        ancestor(&divergence.ancestor),
    )
}

fn subject(keyspace: &str, key: &Bytes) -> String {
    format!("Subject {{ keyspace: {keyspace:?}.into(), key: {}.to_vec() }}", bytes(key))
}

fn ancestor(ancestor: &Ancestor) -> String {
    match ancestor {
        Ancestor::Unknown => "Ancestor::Unknown".to_owned(),
        Ancestor::Absent => "Ancestor::Absent".to_owned(),
        Ancestor::Known(known) => format!("Ancestor::Known({})", version(known)),
    }
}

/// What every such test starts with: a merge as a node does it.
fn helpers(found: &Counterexample) -> String {
    let ancestor = ancestor(&found.ancestor);
    let subject = subject(&found.case.keyspace, &found.case.key);
    format!(
        "    // Equal payloads reach a module once.
    fn siblings(versions: &[&Version]) -> Divergence {{
        let mut siblings: Vec<Version> = Vec::new();
        for version in versions {{
            if siblings.iter().all(|known| known.value != version.value) {{
                siblings.push((*version).clone());
            }}
        }}
        Divergence {{
            subject: {subject},
            siblings,
            ancestor: {ancestor},
        }}
    }}
    #[allow(dead_code)]
    fn merge(versions: &[&Version]) -> Version {{
        let divergence = siblings(versions);
        if let [sole] = divergence.siblings.as_slice() {{
            return sole.clone();
        }}
        let value = match Module::merge(&divergence).expect(\"merges\").outcome {{
            Outcome::Value(value) => Some(value),
            Outcome::Delete => None,
            Outcome::KeepSiblings => panic!(\"keeps the siblings\"),
        }};
        let schema = divergence.siblings.iter().map(|s| s.schema).max().unwrap_or(0);
        let written_at_ms = divergence.siblings.iter().map(|s| s.written_at_ms).max().unwrap_or(0);
        Version {{ value, schema, written_at_ms }}
    }}\n\n"
    )
}

fn body(claim: &Claim, names: &[String]) -> String {
    match claim {
        Claim::Equal(left, right) => format!(
            "    let left = {};\n    let right = {};\n{}    \
             assert_eq!(left.value, right.value);\n",
            call(left, names),
            call(right, names),
            "    let text = |v: &Version| v.value.as_deref().map(String::from_utf8_lossy)\
             .map(String::from);\n    assert_eq!(text(&left), text(&right));\n"
        ),
        Claim::Repeats(term) => {
            let list = list(term, names);
            format!(
                "    // Native calls share their statics; instances in a node share nothing.\n    \
                 let divergence = siblings(&{list});\n    \
                 assert_eq!(Module::merge(&divergence), Module::merge(&divergence));\n"
            )
        }
        Claim::Answers(term) => format!("    {};\n", call(term, names)),
        Claim::Preserves(term) => {
            let list = list(term, names);
            format!(
                "    let before = siblings(&{list});\n    \
                 let after = Module::merge(&before).expect(\"merges\").outcome;\n    \
                 assert_eq!(Module::preserves(&before, &after), Ok(()));\n"
            )
        }
    }
}

fn call(term: &Term, names: &[String]) -> String {
    match term {
        Term::Input(n) => format!("{}.clone()", names[*n]),
        Term::Merge(_) => term.write(names, &mut |parts| {
            let parts: Vec<_> = parts.iter().map(|part| format!("&{part}")).collect();
            format!("merge(&[{}])", parts.join(", "))
        }),
    }
}

/// What the outermost merge is given.
fn list(term: &Term, names: &[String]) -> String {
    let terms = match term {
        Term::Merge(terms) => terms.as_slice(),
        term => std::slice::from_ref(term),
    };
    let parts: Vec<_> = terms.iter().map(|term| format!("&{}", call(term, names))).collect();
    format!("[{}]", parts.join(", ")).replace(".clone()", "")
}

/// `a'` is no name in Rust.
fn name(name: &str) -> String {
    name.replace('\'', "_later").replace([' ', '-'], "_")
}

fn version(version: &DivergentVersion) -> String {
    let value = match &version.value {
        Some(value) => format!("Some({}.to_vec())", bytes(value)),
        None => "None".to_owned(),
    };
    format!(
        "Version {{ value: {value}, schema: {}, written_at_ms: {} }}",
        version.schema, version.written_at_ms
    )
}

/// A byte string literal, raw where that reads better.
fn bytes(bytes: &Bytes) -> String {
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte);
    if bytes.contains(&b'"') && bytes.iter().all(is_plain) {
        let mut hashes = "#".to_owned();
        let text = String::from_utf8_lossy(bytes);
        while text.contains(&format!("\"{hashes}")) {
            hashes.push('#');
        }
        return format!("br{hashes}\"{text}\"{hashes}");
    }
    format!("b\"{}\"", bytes.escape_ascii())
}
