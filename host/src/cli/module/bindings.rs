//! `stator module bindings`: the WIT as a header and a source file of C.
//!
//! By wit-bindgen, of the version of this program, so nobody needs another tool. The object file that
//! wit-bindgen would add carries the WIT's types; `stator module encode` puts them in itself.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use wit_bindgen_core::{Files, wit_parser::Resolve};

use crate::cli::failure::Failure;
use crate::cli::output::{self, Output};
use crate::merge::WIT;

const OPTIONS: [&str; 4] = ["sampler", "invariant", "validator", "migration"];

/// Write the bindings of a module in C, for C and C++: stator.h and stator.c
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stator module bindings --out stator --with sampler,invariant
  clang --target=wasm32-wasi -mexec-model=reactor -Istator merge.c stator/stator.c -o core.wasm

For each option named the module must define its functions.")]
pub(in crate::cli) struct Bindings {
    /// The folder to write them to
    #[arg(long, value_name = "DIR", default_value = "stator")]
    out: PathBuf,
    /// The options of the WIT that the module has
    #[arg(long, value_name = "OPTION", value_delimiter = ',', value_parser = OPTIONS)]
    with: Vec<String>,
}

impl Bindings {
    pub(in crate::cli) fn run(self, output: Output) -> Result<(), Failure> {
        let options: Vec<_> = self.with.iter().map(String::as_str).collect();
        let files = in_c(&options).map_err(|error| Failure::refused(format!("{error:#}")))?;
        std::fs::create_dir_all(&self.out)?;
        let mut written = Vec::new();
        for (name, text) in files {
            let path = self.out.join(name);
            std::fs::write(&path, text).map_err(|error| {
                Failure::refused(format!("cannot write {}: {error}", path.display()))
            })?;
            written.push(path);
        }
        match output {
            Output::Json => output::json(&json!({ "paths": written })),
            Output::Table => {
                written.iter().try_for_each(|path| output::line(path.display().to_string()))
            }
        }
    }
}

/// The bindings with these options: names of files and what is in them.
pub(super) fn in_c(options: &[&str]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut world = "package stator:bindings; world stator { import stator:merge/log@0.1.0; \
                     export stator:merge/resolver@0.1.0;"
        .to_owned();
    for option in options {
        world.push_str(&format!(" export stator:merge/{option}@0.1.0;"));
    }
    world.push('}');
    let mut wit = Resolve::default();
    wit.push_str("merge.wit", WIT)?;
    let package = wit.push_str("bindings.wit", &world)?;
    let world = wit.select_world(&[package], Some("stator"))?;
    let mut files = Files::default();
    let generator = wit_bindgen_c::Opts { no_object_file: true, ..Default::default() };
    generator.build().generate(&mut wit, world, &mut files).context("bindings in C")?;
    let texts = files.iter().map(|(name, text)| (name.to_owned(), without_object_file(text)));
    Ok(texts.collect())
}

/// Without the wish that the linker finds the object file with the types.
fn without_object_file(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let end = text.find("\n// Ensure that the *_component_type.o").unwrap_or(text.len());
    let mut kept = text[..end].trim_end().to_owned();
    kept.push('\n');
    kept.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bindings_have_what_was_asked_for_and_want_no_other_file() {
        let text = |options: &[&str]| {
            let files = in_c(options).expect("generated");
            let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["stator.c", "stator.h"]);
            files
                .into_iter()
                .map(|(_, text)| String::from_utf8(text).expect("text"))
                .collect::<String>()
        };
        let bare = text(&[]);
        assert!(
            bare.contains("exports_stator_merge_resolver_resolve(")
                && bare.contains("stator_merge_log_write(")
        );
        assert!(!bare.contains("validate") && !bare.contains("component_type"), "{bare}");
        let all = text(&OPTIONS);
        for function in
            ["sampler_samples", "invariant_preserves", "validator_validate", "migration_migrate"]
        {
            assert!(all.contains(&format!("exports_stator_merge_{function}(")), "{function}");
        }
        assert!(!all.contains("component_type"));
    }
}
