//! The class of limits that a merge module runs under.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a module may use, by name. The figures belong to the node's merge host; the class belongs
/// to the module, so that every node takes or refuses it alike. It is named when the module is
/// pushed and only ever rises: a smaller class could break what works.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleClass {
    /// For modules written in Rust or C.
    #[default]
    Small,
    /// For modules that bring an interpreter along: JavaScript, Python.
    Large,
}

impl ModuleClass {
    /// All of them, the smallest first.
    pub const ALL: [ModuleClass; 2] = [ModuleClass::Small, ModuleClass::Large];

    /// Its name, as people write it.
    pub const fn name(self) -> &'static str {
        match self {
            ModuleClass::Small => "small",
            ModuleClass::Large => "large",
        }
    }

    /// The next larger one.
    pub const fn larger(self) -> Option<ModuleClass> {
        match self {
            ModuleClass::Small => Some(ModuleClass::Large),
            ModuleClass::Large => None,
        }
    }
}

impl fmt::Display for ModuleClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no class's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no class of limits: `small` and `large` are")]
pub struct UnknownClass(pub String);

impl FromStr for ModuleClass {
    type Err = UnknownClass;

    fn from_str(name: &str) -> Result<Self, UnknownClass> {
        let class = ModuleClass::ALL.into_iter().find(|class| class.name() == name);
        class.ok_or_else(|| UnknownClass(name.to_owned()))
    }
}
