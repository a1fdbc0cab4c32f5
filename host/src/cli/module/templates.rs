//! What `stator module new` writes, language by language.
//!
//! Every template is a merge that works, with a sampler and an invariant, so that its laws can be
//! checked at once. Rust begins with lists of lines and native tests; the others begin with one and the
//! same shopping cart, which a test compares byte by byte (`tests/tests/languages.rs`).

use std::fmt;

use crate::cli::module::bindings;

include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// Where a file goes, and its text; the name `new-merge` in it becomes that of the module.
type File = (&'static str, &'static str);

/// A language with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Rust,
    C,
    Cpp,
    AssemblyScript,
    JavaScript,
    Python,
}

impl Language {
    pub(super) const ALL: [Language; 6] = [
        Language::Rust,
        Language::C,
        Language::Cpp,
        Language::AssemblyScript,
        Language::JavaScript,
        Language::Python,
    ];

    /// The word for it on the command line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::C => "c",
            Language::Cpp => "cpp",
            Language::AssemblyScript => "assemblyscript",
            Language::JavaScript => "javascript",
            Language::Python => "python",
        }
    }

    /// What an author does next, after `cd`.
    pub(super) fn next_steps(self) -> &'static str {
        match self {
            Language::Rust => "edit src/lib.rs, `cargo test`, `stator module build`",
            Language::C => "edit src/merge.c, `sh build.sh`",
            Language::Cpp => "edit src/merge.cpp, `sh build.sh`",
            Language::AssemblyScript => "edit assembly/merge.ts, `sh build.sh`",
            Language::JavaScript => "edit merge.js, `sh build.sh`",
            Language::Python => "edit merge.py, `sh build.sh`",
        }
    }

    fn files(self) -> &'static [File] {
        match self {
            Language::Rust => &RUST,
            Language::C => &C,
            Language::Cpp => &CPP,
            Language::AssemblyScript => &ASSEMBLYSCRIPT,
            Language::JavaScript => &JAVASCRIPT,
            Language::Python => &PYTHON,
        }
    }

    /// All files of a new module, by their paths.
    pub(super) fn written(self, name: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let crate_name = name.replace('-', "_");
        let named = |text: &str| {
            text.replace("new-merge", name).replace("new_merge", &crate_name).into_bytes()
        };
        let files = self.files().iter().map(|(path, text)| ((*path).to_owned(), named(text)));
        let mut files: Vec<_> = files.collect();
        match self {
            Language::Rust => {
                let sdk = SDK.iter();
                files.extend(
                    sdk.map(|(path, text)| (format!("vendor/{path}"), text.as_bytes().to_vec())),
                );
                files.push(("Cargo.lock".to_owned(), LOCK.as_bytes().to_vec()));
            }
            Language::C | Language::Cpp => {
                let bindings = bindings::in_c(&["sampler", "invariant"])?;
                files.extend(
                    bindings.into_iter().map(|(name, text)| (format!("stator/{name}"), text)),
                );
            }
            Language::AssemblyScript => {}
            Language::JavaScript | Language::Python => {
                for (path, text) in [("wit/merge.wit", crate::merge::WIT), ("wit/world.wit", WORLD)]
                {
                    files.push((path.to_owned(), text.as_bytes().to_vec()));
                }
            }
        }
        Ok(files)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::Rust => "Rust",
            Language::C => "C",
            Language::Cpp => "C++",
            Language::AssemblyScript => "AssemblyScript",
            Language::JavaScript => "JavaScript",
            Language::Python => "Python",
        })
    }
}

/// A file of a template's folder.
macro_rules! template {
    ($language:literal: $($to:literal $(= $from:literal)?),* $(,)?) => {
        [$(template!(@ $language $to $($from)?)),*]
    };
    (@ $language:literal $to:literal) => {
        ($to, include_str!(concat!("../../../templates/", $language, "/", $to)))
    };
    (@ $language:literal $to:literal $from:literal) => {
        ($to, include_str!(concat!("../../../templates/", $language, "/", $from)))
    };
}

const WORLD: &str = include_str!("../../../templates/world.wit");

// A crate of this workspace, which tests it.
const RUST: [File; 6] = template!("rust":
    "Cargo.toml" = "manifest.toml", ".cargo/config.toml" = "../../../.cargo/config.toml",
    ".gitignore" = "gitignore", "README.md", "src/lib.rs", "tests/laws.rs");
const C: [File; 6] = template!("c":
    ".gitignore" = "gitignore", "README.md", "build.sh", "src/cart.c", "src/cart.h", "src/merge.c");
const CPP: [File; 6] = template!("cpp":
    ".gitignore" = "gitignore", "README.md", "build.sh", "src/cart.cpp", "src/cart.hpp", "src/merge.cpp");
const ASSEMBLYSCRIPT: [File; 7] = template!("assemblyscript":
    ".gitignore" = "gitignore", "README.md", "build.sh", "assembly/cart.ts", "assembly/index.ts",
    "assembly/merge.ts", "assembly/stator.ts");
const JAVASCRIPT: [File; 4] =
    template!("javascript": ".gitignore" = "gitignore", "README.md", "build.sh", "merge.js");
const PYTHON: [File; 5] =
    template!("python": ".gitignore" = "gitignore", "README.md", "build.sh", "cart.py", "merge.py");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_stands_alone() {
        let find = |path: &str| SDK.iter().find(|(name, _)| *name == path).expect(path).1;
        let manifest = find("stator-guest/Cargo.toml");
        assert!(!manifest.contains("workspace"), "{manifest}");
        assert!(manifest.contains("wit-bindgen = { version = \"0.60.0\""), "{manifest}");
        assert!(find("stator-guest/src/lib.rs").contains("macro_rules! export"));
        assert!(find("wit/merge.wit").contains("package stator:merge@0.1.0;"));
        let locked = |name: &str| LOCK.contains(&format!("name = \"{name}\"\n"));
        assert!(locked("wit-bindgen") && locked("wit-bindgen-rust-macro") && locked("serde_json"));
        assert!(!locked("wasmtime") && !locked("cart"), "what no module needs is locked");
    }

    #[test]
    fn every_template_has_a_readme_and_bears_the_modules_name() {
        for language in Language::ALL {
            let files = language.written("my-notes").expect("written");
            let readme = files.iter().find(|(path, _)| path == "README.md").expect("a README");
            let readme = String::from_utf8_lossy(&readme.1);
            assert!(readme.starts_with("# my-notes"), "{language}: {readme}");
            for (path, text) in &files {
                let text = String::from_utf8_lossy(text);
                assert!(!text.contains("new-merge") && !text.contains("new_merge"), "{path}");
            }
        }
    }
}
