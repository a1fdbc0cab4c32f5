//! What a module may offer beside its merge: samples, an invariant, a check of client writes,
//! the reading of older schemas. Each is a trait, and a word in [`export!`](crate::export).

use crate::bindings::{invariant, migration, sampler, validator};
use crate::{Divergence, Failure, Outcome, Random, Subject, Version};

/// Option `sampler`: typical inputs, for the checks of the merge laws.
///
/// `stator module test` and every node try the laws on these samples; without them nothing can be
/// checked, and a module that is not checked may not fold.
///
/// A sample must be a divergence that can really arise. Begin with a base that clients have read,
/// let each edit it apart from the others, and give the results to [`Divergence::of_edits`]: the
/// base is then known as the siblings' ancestor, and the checker learns what a client's *later*
/// write looks like. Values of different histories in one sample give false alarms.
///
/// ```
/// use stator_guest::{Divergence, Failure, Merge, Random, Resolution, Sample};
///
/// /// Tags of a blog post, one a line; the merge is their union, and no tag is ever removed.
/// struct Tags;
///
/// impl Merge for Tags {
///     fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
///         let mut lines = std::collections::BTreeSet::new();
///         for (_, text) in divergence.values() {
///             lines.extend(text.split(|byte| *byte == b'\n'));
///         }
///         Ok(Resolution::value(lines.into_iter().collect::<Vec<_>>().join(&b'\n')))
///     }
/// }
///
/// impl Sample for Tags {
///     fn sample(random: &mut Random) -> Divergence {
///         let base = "rust".to_owned();
///         let edit = |random: &mut Random| format!("{base}\n{}", random.pick(&["wasm", "kv"]));
///         let edits = [edit(random), edit(random), edit(random)];
///         Divergence::of_edits(base.as_str(), edits)
///     }
/// }
/// stator_guest::export!(Tags, sampler);
/// # assert_eq!(Tags::samples(7, 3), Tags::samples(7, 3));
/// # assert_eq!(Tags::samples(7, 3).len(), 3);
/// ```
pub trait Sample {
    /// A divergence that can really arise. The same `random` must give the same sample.
    fn sample(random: &mut Random) -> Divergence;

    /// `count` samples: one for each of as many random sequences that follow from `seed`.
    fn samples(seed: u64, count: u32) -> Vec<Divergence> {
        let mut seeds = Random::new(seed);
        (0..count).map(|_| Self::sample(&mut Random::new(seeds.next_u64()))).collect()
    }
}

/// Option `invariant`: what a merge must not lose.
///
/// The algebraic laws alone accept a merge that answers the same constant for everything. An
/// invariant says what users are promised, such as *no add is lost*. It is asked when the laws
/// are checked, never while serving.
///
/// ```
/// use stator_guest::{Divergence, Invariant, Outcome};
///
/// struct Largest;
///
/// impl Invariant for Largest {
///     fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
///         let Outcome::Value(after) = after else {
///             return Err("there is no value any more".to_owned());
///         };
///         match before.values().find(|(_, value)| *value > after.as_slice()) {
///             Some((sibling, _)) => Err(format!("sibling {sibling} is larger")),
///             None => Ok(()),
///         }
///     }
/// }
/// # let before = Divergence::of_values(["a", "b"]);
/// # assert!(Largest::preserves(&before, &Outcome::Value(b"b".to_vec())).is_ok());
/// # assert!(Largest::preserves(&before, &Outcome::Value(b"a".to_vec())).is_err());
/// ```
pub trait Invariant {
    /// Says what of `before` is missing in `after`, if anything is.
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String>;
}

/// Option `validator`: a check of client writes, so that bad data is refused before it replicates.
///
/// It runs on the node that takes the write. If it traps or runs out of fuel the write is taken:
/// a failing module never refuses one.
///
/// ```
/// use stator_guest::{Failure, Subject, Validate, Version};
///
/// struct Text;
///
/// impl Validate for Text {
///     fn validate(_: &Subject, candidate: &Version) -> Result<(), Failure> {
///         match candidate.value.as_deref().map(str::from_utf8) {
///             Some(Err(error)) => Err(Failure::malformed(0, error.to_string())),
///             Some(Ok(_)) | None => Ok(()),
///         }
///     }
/// }
/// # let subject = Subject { keyspace: "texts".into(), key: b"a".to_vec() };
/// # assert!(Text::validate(&subject, &Version::of_value([0xff])).is_err());
/// ```
pub trait Validate {
    /// Says why `candidate` must not be stored under this key, if it must not.
    fn validate(subject: &Subject, candidate: &Version) -> Result<(), Failure>;
}

/// Option `migration`: reading values of older schemas.
///
/// Clients of two releases write side by side for weeks. With this option siblings (and their
/// ancestor) whose schema number is below [`SCHEMA`](Self::SCHEMA) are migrated before they reach
/// [`Merge::merge`](crate::Merge::merge), each on its own. What is stored stays as it was written.
///
/// ```
/// use stator_guest::{Failure, Migrate, Subject, Version};
///
/// struct Names;
///
/// impl Migrate for Names {
///     const SCHEMA: u32 = 2; // since 2, names are upper case
///
///     fn migrate(_: &Subject, old: Version) -> Result<Version, Failure> {
///         let value = old.value.map(|name| name.to_ascii_uppercase());
///         Ok(Version { value, schema: Self::SCHEMA, ..old })
///     }
/// }
/// # let subject = Subject { keyspace: "names".into(), key: b"a".to_vec() };
/// # let new = Names::migrate(&subject, Version::of_value("ada")).unwrap();
/// # assert_eq!(new.value.as_deref(), Some(b"ADA".as_slice()));
/// ```
pub trait Migrate {
    /// The schema number that [`migrate`](Self::migrate) leads to.
    const SCHEMA: u32;

    /// The same value in the schema [`SCHEMA`](Self::SCHEMA). The same `old` must give the same
    /// answer.
    fn migrate(subject: &Subject, old: Version) -> Result<Version, Failure>;
}

impl<T: Sample> sampler::exports::stator::merge::sampler::Guest for T {
    fn samples(seed: u64, count: u32) -> Vec<Divergence> {
        T::samples(seed, count)
    }
}

impl<T: Invariant> invariant::exports::stator::merge::invariant::Guest for T {
    fn preserves(before: Divergence, after: Outcome) -> Result<(), String> {
        T::preserves(&before, &after)
    }
}

impl<T: Validate> validator::exports::stator::merge::validator::Guest for T {
    fn validate(subject: Subject, candidate: Version) -> Result<(), Failure> {
        T::validate(&subject, &candidate)
    }
}

impl<T: Migrate> migration::exports::stator::merge::migration::Guest for T {
    fn schema() -> u32 {
        T::SCHEMA
    }

    fn migrate(subject: Subject, old: Version) -> Result<Version, Failure> {
        T::migrate(&subject, old)
    }
}
