//! The acceptor: one promise and one accepted value for the instance it is at.

use serde::{Deserialize, Serialize};

use super::{Answer, Ask, Ballot};

/// What an acceptor must never forget.
///
/// It takes part in one instance at a time. Instance n+1 begins only after n has ended, so a
/// question about a later instance ends the present one, and an earlier one is not answered any
/// more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptor<V> {
    instance: u64,
    promised: Ballot,
    accepted: Option<(Ballot, V)>,
}

impl<V> Default for Acceptor<V> {
    fn default() -> Self {
        Acceptor { instance: 0, promised: Ballot::default(), accepted: None }
    }
}

impl<V: Clone> Acceptor<V> {
    /// An acceptor that may have forgotten what it said in all instances through this one: it
    /// takes part in later ones only.
    pub fn forgetful_through(instance: u64) -> Self {
        Acceptor { instance: instance.saturating_add(1), ..Acceptor::default() }
    }

    /// The instance it is at; 0 before the first.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// What it has accepted in its instance.
    pub fn accepted(&self) -> Option<&(Ballot, V)> {
        self.accepted.as_ref()
    }

    /// Answers a question about an instance; not at all if that instance is over. The state must
    /// be durable before the answer leaves, unless it is a refusal.
    pub fn answer(&mut self, instance: u64, ask: Ask<V>) -> Option<Answer<V>> {
        if instance < self.instance {
            return None;
        }
        if instance > self.instance {
            *self = Acceptor { instance, ..Acceptor::default() };
        }
        let ballot = match &ask {
            Ask::Prepare(ballot) | Ask::Accept(ballot, _) => *ballot,
        };
        if ballot < self.promised {
            return Some(Answer::Refused { ballot, promised: self.promised });
        }
        self.promised = ballot;
        Some(match ask {
            Ask::Prepare(_) => Answer::Promised { ballot, accepted: self.accepted.clone() },
            Ask::Accept(_, value) => {
                self.accepted = Some((ballot, value));
                Answer::Accepted { ballot }
            }
        })
    }
}
