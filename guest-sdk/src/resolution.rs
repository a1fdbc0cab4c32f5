//! Saying what a divergence means, or why it cannot be said.

use crate::{Event, Failure, Outcome, Reason, Resolution};

impl Resolution {
    /// The siblings merge to this value.
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        Self::of(Outcome::Value(value.into()))
    }

    /// The key counts as deleted.
    pub fn delete() -> Self {
        Self::of(Outcome::Delete)
    }

    /// The client gets the siblings and decides itself.
    pub fn keep_siblings() -> Self {
        Self::of(Outcome::KeepSiblings)
    }

    /// With a word for people, shown in the merge's record.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// With one more thing that someone should act on.
    pub fn with_event(mut self, topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        self.events.push(Event { topic: topic.into(), payload: payload.into() });
        self
    }

    fn of(outcome: Outcome) -> Self {
        Resolution { outcome, note: None, events: Vec::new() }
    }
}

impl Failure {
    /// Sibling number `sibling` has a schema number that the module does not know.
    pub fn unknown_schema(sibling: u32, message: impl Into<String>) -> Self {
        Self::of(Reason::UnknownSchema, Some(sibling), message.into())
    }

    /// Sibling number `sibling` cannot be read; `message` says what is wrong with it.
    pub fn malformed(sibling: u32, message: impl Into<String>) -> Self {
        Self::of(Reason::Malformed, Some(sibling), message.into())
    }

    /// The siblings can be read, but have no merge.
    pub fn unresolvable(message: impl Into<String>) -> Self {
        Self::of(Reason::Unresolvable, None, message.into())
    }

    fn of(reason: Reason, sibling: Option<u32>, message: String) -> Self {
        Failure { reason, sibling, message }
    }
}
