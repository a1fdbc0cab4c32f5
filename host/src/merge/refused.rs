//! Why a module is not taken.

use std::fmt;

use std::io;
use std::time::Duration;

use stator_core::catalogue::ModuleClass;
use stator_core::divergence::MergeFailure;
use stator_core::id::ModuleDigest;

/// How far a module came; see the head of [`crate::merge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its size and shape.
    Bounds,
    /// What it imports and exports.
    World,
    /// Its compilation.
    Compile,
    /// Loading the machine code.
    Load,
    /// The first call.
    Probe,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Bounds => "bounds",
            Stage::World => "world",
            Stage::Compile => "compile",
            Stage::Load => "load",
            Stage::Probe => "probe",
        })
    }
}

/// Why a module is not taken. Nothing was loaded or changed, whatever the reason.
#[derive(Debug, thiserror::Error)]
pub enum ModuleRefused {
    /// The bytes are of another module than the one that was asked for.
    #[error("these bytes are module {found}, not {wanted}: fetch them again")]
    OtherModule {
        /// The digest that was asked for.
        wanted: ModuleDigest,
        /// The digest of the bytes.
        found: ModuleDigest,
    },
    /// The bytes are no WebAssembly.
    #[error("this is not WebAssembly: it does not start with the bytes 00 61 73 6d")]
    NotWasm,
    /// The bytes are a core module.
    #[error("this is a core module; encode it with `stator module encode`")]
    CoreModule,
    /// The bytes start like a component, but are not a valid one.
    #[error("this is not a valid component: {0}")]
    Malformed(String),
    /// Something is larger than the class allows.
    #[error(
        "the module has {found} {what}, and {max} are allowed in class `{class}`{}",
        if *fits_larger { "; it fits class `large`: push it with `--class large`" } else { "" }
    )]
    TooLarge {
        /// What is counted: `bytes`, `locals in function 7`.
        what: String,
        /// How many there are, at least.
        found: u64,
        /// How many there may be.
        max: u64,
        /// The class of limits.
        class: ModuleClass,
        /// Whether a larger class allows it.
        fits_larger: bool,
    },
    /// An import that no module may have.
    #[error(
        "the module imports `{name}`, which is not allowed: {why}{}",
        if name.starts_with("wasi") { "; `stator module encode` puts a stand-in in the place of WASI" } else { "" }
    )]
    ImportRefused {
        /// The import's full name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It imports something under a name that is allowed, and more of it than there is.
    #[error("{0}")]
    NotAllowed(String),
    /// The export that makes a component a merge module is not there.
    #[error("the module does not export `{wanted}`, so it is no merge module; it exports {found}")]
    ResolverMissing {
        /// The export that is missing.
        wanted: &'static str,
        /// What it exports instead, for people.
        found: String,
    },
    /// An interface of Stator's in a version that this host does not know.
    #[error("the module uses `{name}`, and this version of Stator knows `{supported}`")]
    WrongVersion {
        /// The interface as the module names it.
        name: String,
        /// The version that would be taken.
        supported: &'static str,
    },
    /// An export under Stator's name that this host cannot honour.
    #[error(
        "the module exports `{name}`, which this version of Stator cannot honour; it knows \
         `{supported}`"
    )]
    UnknownExport {
        /// The export's full name.
        name: String,
        /// The exports that it knows.
        supported: String,
    },
    /// An export that is none of Stator's.
    #[error(
        "the module exports `{name}`, which no node ever calls; `stator module encode` makes a \
         component of it without that"
    )]
    ForeignExport {
        /// The export's full name.
        name: String,
    },
    /// The compiler refused the module.
    #[error("the module does not compile: {0}")]
    Compile(String),
    /// The compiler ran into a limit.
    #[error("the module does not compile: {what}, the limit of class `{class}`{}", more(*class))]
    CompileLimit {
        /// Which limit.
        what: String,
        /// The class of limits.
        class: ModuleClass,
    },
    /// The compiler was killed.
    #[error(
        "the module does not compile: it took more than {} s of wall time, the limit of class \
         `{class}`{}",
        limit.as_secs(), more(*class)
    )]
    CompileTimedOut {
        /// The wall time of a compilation.
        limit: Duration,
        /// The class of limits.
        class: ModuleClass,
    },
    /// It compiles, but does not fit the interface or the pool.
    #[error("the module cannot be loaded in class `{class}`: {why}{}", if *is_of_limits { more(*class) } else { "" })]
    Load {
        /// What does not fit.
        why: String,
        /// Whether it is the pool that it does not fit.
        is_of_limits: bool,
        /// The class of limits.
        class: ModuleClass,
    },
    /// It exports an option of the world, but with another type than the world says.
    #[error(
        "the module exports the option `{option}`, but not as `wit/merge.wit` says: {why}. Build \
         it with a guest-sdk of this version"
    )]
    WrongOption {
        /// The option's name.
        option: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The first call failed.
    #[error(
        "the module fails its first call, with one tombstone, in class `{class}`: {failure}{}",
        if is_of_limits(failure) { more(*class) } else { "" }
    )]
    Probe {
        /// How.
        failure: MergeFailure,
        /// The class of limits.
        class: ModuleClass,
    },
    /// Too many modules are being checked.
    #[error("{limit} modules are being checked on this node already; try again later")]
    Busy {
        /// The most modules at a time.
        limit: usize,
    },
    /// The node could not start its compiler. The module may be good.
    #[error("this node cannot start its compiler `{program}`: {source}; the module may be good")]
    NoCompiler {
        /// The program that should compile.
        program: String,
        /// Why it cannot be started.
        source: io::Error,
    },
    /// The node is failing. The module may be good.
    #[error("this node cannot take a module now: {0}; the module may be good")]
    NodeFault(String),
}

/// What someone whose module met a limit can do.
fn more(class: ModuleClass) -> &'static str {
    match class.larger() {
        Some(_) => "; class `large` allows more: `--class large`",
        None => "",
    }
}

fn is_of_limits(failure: &MergeFailure) -> bool {
    matches!(failure, MergeFailure::OutOfFuel { .. } | MergeFailure::OutOfMemory { .. })
}

impl ModuleRefused {
    /// The same, for a component that fits a larger class.
    pub(super) fn fitting_larger(mut self) -> Self {
        if let ModuleRefused::TooLarge { fits_larger, .. } = &mut self {
            *fits_larger = true;
        }
        self
    }

    /// The stage that refused the module; `None` if the module is not to blame, so that it may be
    /// tried again, or elsewhere, unchanged.
    pub fn stage(&self) -> Option<Stage> {
        use ModuleRefused as R;
        match self {
            R::NotWasm | R::CoreModule | R::Malformed(_) | R::TooLarge { .. } => {
                Some(Stage::Bounds)
            }
            R::ImportRefused { .. }
            | R::NotAllowed(_)
            | R::ResolverMissing { .. }
            | R::WrongVersion { .. }
            | R::UnknownExport { .. }
            | R::ForeignExport { .. } => Some(Stage::World),
            R::Compile(_) | R::CompileLimit { .. } | R::CompileTimedOut { .. } => {
                Some(Stage::Compile)
            }
            R::Load { .. } => Some(Stage::Load),
            R::WrongOption { .. } | R::Probe { .. } => Some(Stage::Probe),
            R::OtherModule { .. } | R::Busy { .. } | R::NoCompiler { .. } | R::NodeFault(_) => None,
        }
    }
}
