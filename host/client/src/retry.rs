//! Whether and when a request is sent again.

use std::time::Duration;

use tonic::Code;

use crate::error::{Effect, Error, reason};

/// What harm a second attempt could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// None: it reads, or the nodes recognise it.
    Repeatable,
    /// It would be a second write, unless the first attempt did nothing.
    Once,
}

const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Whether another attempt may help, and may be made.
pub(crate) fn is_worth_it(error: &Error, safety: Safety) -> bool {
    let may_pass = match error.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => true,
        Code::Unknown | Code::Internal => error.reason() == reason::NO_ANSWER,
        // Overload passes; a full quota does not by itself, and has no RetryInfo.
        Code::ResourceExhausted => error.retry_after().is_some(),
        // Another node is a member still, or the one that this one is a copy of.
        _ => ["NODE_REMOVED", "SECOND_HOLDER"].contains(&error.reason()),
    };
    may_pass && (safety == Safety::Repeatable || error.effect() == Effect::None)
}

/// How long to wait before attempt number `attempt`, the first retry being 1: twice as long each
/// time, with a part by chance so that clients do not come back all at once, and never less than
/// the node asked for.
pub(crate) fn pause(attempt: u32, asked: Option<Duration>, chance: u32) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(PAUSE_MAX);
    let part = f64::from(chance) / f64::from(u32::MAX);
    let own = doubled.mul_f64(0.5 + 0.5 * part);
    asked.map_or(own, |asked| asked + own)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn error(code: Code, effect: Option<&str>, retry: Option<Duration>) -> Error {
        let facts: HashMap<String, String> =
            effect.map(|effect| ("effect".to_owned(), effect.to_owned())).into_iter().collect();
        let mut details = ErrorDetails::with_error_info("REASON", "stator", facts);
        if let Some(delay) = retry {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(code, "words", details).into()
    }

    #[test]
    fn a_write_is_repeated_only_if_the_first_did_nothing() {
        let table = [
            (Code::Unavailable, Some("NONE"), None, true, true),
            (Code::Unavailable, None, None, false, true),
            (Code::DeadlineExceeded, Some("MAYBE"), None, false, true),
            (Code::ResourceExhausted, None, Some(PAUSE_MIN), true, true),
            (Code::ResourceExhausted, Some("NONE"), None, false, false),
            (Code::InvalidArgument, None, None, false, false),
            (Code::Internal, None, None, false, false),
            (Code::Aborted, None, None, false, false),
        ];
        for (code, effect, retry, once, repeatable) in table {
            let error = error(code, effect, retry);
            assert_eq!(is_worth_it(&error, Safety::Once), once, "{code:?} {effect:?}");
            assert_eq!(is_worth_it(&error, Safety::Repeatable), repeatable, "{code:?} {effect:?}");
        }
        // What no node answered.
        let broken = Error::from(Status::unavailable("broken pipe"));
        assert!(!is_worth_it(&broken, Safety::Once));
        assert!(is_worth_it(&broken, Safety::Repeatable));
        let reset = Error::from(Status::internal("h2 protocol error: stream was reset"));
        assert!(is_worth_it(&reset, Safety::Repeatable) && !is_worth_it(&reset, Safety::Once));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_honour_what_is_asked() {
        let mut last = Duration::ZERO;
        for attempt in 1..5 {
            let longest = pause(attempt, None, u32::MAX);
            assert!(longest > last && pause(attempt, None, 0) >= longest / 2 - PAUSE_MIN / 100);
            last = longest;
        }
        assert_eq!(pause(40, None, u32::MAX), PAUSE_MAX);
        assert!(pause(1, Some(PAUSE_MAX), 0) > PAUSE_MAX);
    }
}
