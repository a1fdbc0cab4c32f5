//! Wrong merges, one for each way of being wrong that a checker must find; `kinds` names them all.
//!
//! One component has all of them: which one it is, a test writes into its bytes, behind
//! [`MARK`]. The samplers are tame on purpose: three words, small numbers, all times 0.

mod bytes;
mod json;
mod three_way;
mod words;

use stator_guest::{Divergence, Failure, Invariant, Merge, Outcome, Random, Resolution, Sample};

/// Where the number of the kind stands, two digits behind this.
const MARK: &[u8] = b"STATOR-WRONG-KIND=";
static KIND: [u8; 20] = *b"STATOR-WRONG-KIND=00";

type MergeFn = fn(&Divergence) -> Result<Resolution, Failure>;

/// What the module says that a merge keeps; `Err` if it did not.
type Promise = fn(&Divergence, &Outcome) -> Result<(), String>;

/// A way to be wrong.
struct Kind {
    merge: MergeFn,
    sample: fn(&mut Random) -> Divergence,
    promise: Promise,
}

/// The kinds, in the order of `host/tests/merge/wrong.rs`.
static KINDS: [Kind; 57] = {
    const fn words(merge: MergeFn) -> Kind {
        Kind { merge, sample: words::sample, promise: words::no_line_is_lost }
    }
    const fn marked(merge: MergeFn) -> Kind {
        Kind { merge, sample: words::marked_sample, promise: nothing }
    }
    const fn counts(merge: MergeFn) -> Kind {
        Kind { merge, sample: json::sample_counts, promise: json::no_count_falls }
    }
    const fn entries(merge: MergeFn) -> Kind {
        Kind { merge, sample: json::sample_entry, promise: nothing }
    }
    const fn numbers(merge: MergeFn) -> Kind {
        Kind { merge, sample: json::sample_number, promise: nothing }
    }
    const fn seen(merge: MergeFn) -> Kind {
        Kind { merge, sample: json::sample_seen, promise: nothing }
    }
    const fn settings(merge: MergeFn) -> Kind {
        Kind { merge, sample: json::sample_settings, promise: nothing }
    }
    const fn numbers_of_bytes(merge: MergeFn) -> Kind {
        Kind { merge, sample: bytes::sample_set, promise: nothing }
    }
    const fn registers(merge: MergeFn) -> Kind {
        Kind { merge, sample: bytes::sample_register, promise: nothing }
    }
    const fn three_way(merge: MergeFn) -> Kind {
        Kind { merge, sample: words::sample, promise: nothing }
    }
    [
        words(words::unchanged_if_it_has_all),
        words(words::newest_only),
        marked(words::marks_up_to_three),
        words(words::last_wins),
        words(words::first_wins),
        words(words::order_of_arrival),
        words(words::forgets_the_third),
        words(words::counts_its_siblings),
        words(words::keeps_repetitions),
        words(words::delete_first_deletes),
        words(words::delete_deletes_what_is_older),
        marked(words::marks_are_dropped),
        words(words::every_second_of_many),
        words(words::breaks_on_large),
        words(words::breaks_on_empty),
        words(words::breaks_inside_of_a_letter),
        words(words::same_but_for_case),
        words(words::lower_case_of_three),
        words(words::same_but_for_spaces),
        words(words::line_ends_of_the_first),
        words(words::line_end_of_the_last),
        words(words::common_to_all),
        words(words::only_in_an_odd_number),
        words(words::of_the_majority),
        words(words::longest_or_first),
        words(words::longest),
        words(words::newest_schema),
        words(words::at_most_ten),
        words(words::always_the_same),
        numbers(json::sum),
        numbers(json::average),
        counts(json::float_total),
        counts(json::wraps_around),
        counts(json::counts_merges),
        entries(json::last_of_equals),
        entries(json::newest_of_equals),
        three_way(three_way::first_is_the_base),
        three_way(three_way::needs_a_base),
        words(words::longest_of_eight),
        words(words::longest_of_much),
        marked(words::marks_up_to_two_hundred),
        words(words::no_older_than_a_day),
        words(words::same_but_for_accents),
        words(words::same_but_for_quotes),
        words(words::same_but_for_plural),
        words(words::same_in_sixteen_letters),
        words(words::comments_of_the_first),
        seen(json::five_apart),
        seen(json::first_that_is_done),
        seen(json::empty_if_the_first_has_it),
        seen(json::unknown_fields_of_the_last),
        settings(json::two_levels_deep),
        settings(json::null_if_the_first_has_it),
        entries(json::best_as_a_float),
        numbers_of_bytes(bytes::counts_in_a_byte),
        numbers_of_bytes(bytes::a_hundred_by_arrival),
        registers(bytes::ahead_on_a_circle),
    ]
};

fn nothing(_: &Divergence, _: &Outcome) -> Result<(), String> {
    Ok(())
}

fn kind() -> &'static Kind {
    // SAFETY: a valid reference. Volatile, or the compiler would know what is written there.
    let digits = unsafe { std::ptr::read_volatile(&KIND) };
    let [.., tens, ones] = digits;
    let number = usize::from(tens - b'0') * 10 + usize::from(ones - b'0');
    &KINDS[number]
}

struct Wrong;

impl Merge for Wrong {
    fn merge(divergence: &Divergence) -> Result<Resolution, Failure> {
        if divergence.values().next().is_none() {
            return Ok(Resolution::delete());
        }
        (kind().merge)(divergence)
    }
}

impl Sample for Wrong {
    fn sample(random: &mut Random) -> Divergence {
        (kind().sample)(random)
    }
}

impl Invariant for Wrong {
    fn preserves(before: &Divergence, after: &Outcome) -> Result<(), String> {
        (kind().promise)(before, after)
    }
}

const _: () = assert!(MARK.len() + 2 == KIND.len());

stator_guest::export!(Wrong, sampler, invariant);
