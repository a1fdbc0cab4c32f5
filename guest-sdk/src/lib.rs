//! Write a Stator merge module: one trait, one macro.
//!
//! When two clients change a key without having seen each other's write, Stator keeps both
//! versions as *siblings* and asks your module what they mean together. A module is a
//! WebAssembly component without imports; this crate makes it from fifteen lines:
//!
//! ```
//! use stator_guest::{Divergence, Failure, Merge, Resolution};
//!
//! /// The longest text wins, and among equally long ones the largest.
//! struct Longest;
//!
//! impl Merge for Longest {
//!     fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
//!         let longest = divergence.values().max_by_key(|(_, text)| (text.len(), *text));
//!         Ok(match longest {
//!             Some((_, text)) => Resolution::value(text),
//!             None => Resolution::delete(),
//!         })
//!     }
//! }
//! stator_guest::export!(Longest);
//! # let merged = Longest::merge(&Divergence::of_values(["pear", "apple", "melon"]));
//! # assert_eq!(merged, Ok(Resolution::value("melon")));
//! ```
//!
//! with this in `Cargo.toml`:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"] # the module, and a library for native tests
//! ```
//!
//! Build it for `wasm32-unknown-unknown`, then turn it into a component with
//! `stator module encode`. Built natively it is an ordinary library, so `cargo test` tests it;
//! [`Divergence::of_values`] makes inputs.
//!
//! # What a merge may rely on
//! - Siblings come in an order that is the same on every replica, equal payloads once.
//! - Every call runs in a fresh instance: statics start anew, and memory is gone afterwards.
//! - There is no clock, randomness, file or socket. `HashMap` iterates in the same order in
//!   every call, so even its order is the same everywhere (but see [the laws](Merge#laws)).
//! - A panic is a trap: the siblings stay, and their reader is told that the module trapped. Say
//!   what is wrong with a [`Failure`] instead.
//!
//! # Options
//! Behind the type, [`export!`] takes the names of options: `sampler` ([`Sample`]) and `invariant`
//! ([`Invariant`]) let `stator module test` and every node check [the laws](Merge#laws),
//! `validator` ([`Validate`]) refuses bad writes before they replicate, `migration`
//! ([`Migrate`]) reads values of older releases. A first module needs none of them.
//!
//! # What is behind the macro
//! On `wasm32`, [`export!`] also installs an allocator that only moves a pointer (right because
//! nothing outlives the call; see `arena.rs`), and the crate brings a `memcmp` that compares words
//! (see `memcmp.rs`). The first more than halves the cost of an empty call; the second helps where
//! long keys are compared.

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod arena;
// Public for `export!` only.
#[doc(hidden)]
#[allow(missing_docs, clippy::all, unused_qualifications)]
pub mod bindings;
mod divergence;
pub mod log;
#[cfg(any(target_arch = "wasm32", test))]
mod memcmp;
mod options;
mod random;
mod resolution;

pub use bindings::stator::merge::types::{
    Ancestor, Divergence, Event, Failure, Outcome, Reason, Resolution, Subject, Version,
};
pub use options::{Invariant, Migrate, Sample, Validate};
pub use random::Random;

/// What concurrent versions of a key mean together.
///
/// # Laws
/// Whatever a module does, Stator stores the siblings unchanged until a client that has seen the
/// merged value writes, so a wrong merge shows wrong values but loses nothing. A module should
/// nevertheless be a join, so that it may replace its inputs:
/// - commutative, associative and idempotent: the result depends on the *set* of siblings only;
/// - `merge(merge(a, b), a') = merge(b, a')` for every `a'` that a client made from `a`: merging
///   in between, or merging something with its own past, changes nothing.
pub trait Merge {
    /// Merges the siblings of one key, of which there is at least one and of which any may be a
    /// tombstone.
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure>;
}

impl<T: Merge> bindings::exports::stator::merge::resolver::Guest for T {
    fn resolve(divergence: Divergence) -> Result<Resolution, Failure> {
        T::merge(&divergence)
    }
}

/// Makes the crate a merge module: exports the named type's [`Merge`] to the host, and the options
/// that are listed behind it, each with the trait that the type implements for it:
///
/// | option | trait | what for |
/// |---|---|---|
/// | `sampler` | [`Sample`] | inputs for the checks of the merge laws |
/// | `invariant` | [`Invariant`] | what a merge must not lose |
/// | `validator` | [`Validate`] | refusing bad client writes |
/// | `migration` | [`Migrate`] | reading older schemas |
///
/// ```
/// # use stator_guest::*;
/// # struct Cart;
/// # impl Merge for Cart {
/// #     fn merge(_: &Divergence) -> Result<Resolution, Failure> { Ok(Resolution::delete()) }
/// # }
/// # impl Sample for Cart {
/// #     fn sample(_: &mut Random) -> Divergence { Divergence::of_values(["a", "b"]) }
/// # }
/// # impl Invariant for Cart {
/// #     fn preserves(_: &Divergence, _: &Outcome) -> Result<(), String> { Ok(()) }
/// # }
/// stator_guest::export!(Cart, sampler, invariant);
/// ```
///
/// Natively it only checks that the type implements the traits. A crate calls it once.
#[macro_export]
macro_rules! export {
    ($module:ident $(, $option:ident)* $(,)?) => {
        const _: () = {
            const fn implements_merge<T: $crate::Merge>() {}
            implements_merge::<$module>()
        };
        #[cfg(target_arch = "wasm32")]
        #[global_allocator]
        static STATOR_ARENA: $crate::arena::Arena = $crate::arena::Arena::new();
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::export_module!($module with_types_in $crate::bindings);
        $($crate::__export_option!($option $module);)*
    };
}

/// One option of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __export_option {
    (sampler $module:ident) => {
        const _: () = {
            const fn implements_sample<T: $crate::Sample>() {}
            implements_sample::<$module>()
        };
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::sampler::export_sampler!(
            $module with_types_in $crate::bindings::sampler
        );
    };
    (invariant $module:ident) => {
        const _: () = {
            const fn implements_invariant<T: $crate::Invariant>() {}
            implements_invariant::<$module>()
        };
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::invariant::export_invariant!(
            $module with_types_in $crate::bindings::invariant
        );
    };
    (validator $module:ident) => {
        const _: () = {
            const fn implements_validate<T: $crate::Validate>() {}
            implements_validate::<$module>()
        };
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::validator::export_validator!(
            $module with_types_in $crate::bindings::validator
        );
    };
    (migration $module:ident) => {
        const _: () = {
            const fn implements_migrate<T: $crate::Migrate>() {}
            implements_migrate::<$module>()
        };
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::migration::export_migration!(
            $module with_types_in $crate::bindings::migration
        );
    };
    ($other:ident $module:ident) => {
        compile_error!(concat!(
            "there is no option `",
            stringify!($other),
            "`: the options are sampler, invariant, validator and migration"
        ));
    };
}
