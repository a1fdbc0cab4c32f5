//! What is changed of some keys, as it happens: the streams of all members made one.
//!
//! Each member tells what its own store takes (`Kv.Watch`), and that a key was changed, not what it is
//! now. A watch has a stream from each of them, asks a get what the key is, at the keyspace's r and with
//! what the member told as `at_least`, and tells each state once. So it needs no node in particular:
//! while one is away the other owners of its keys tell the same writes, and what only it has taken is
//! told when it is back, from where its stream was.
//!
//! ```text
//!   node a ── follow ──┐ "k was changed, and has seen these writes"
//!   node b ── follow ──┼─▶ engine ── known? ── get k ──▶ events, each with a token
//!   node c ── follow ──┘      └─ list, where changes can be told no more
//! ```
//!
//! What was told of a key is remembered for as long as there is room ([`known`]). Without it a state
//! is told again, and may be one that is concurrent to, never one before, what a get gave meanwhile.

mod engine;
mod follow;
mod known;
mod read;
mod token;

use bytes::Bytes;
use futures::Stream;
use stator_core::id::KeyspaceId;
use stator_core::position::position;
use stator_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::entry::Entry;
use crate::error::{Error, reason};
use engine::Engine;
use token::Token;

/// Events that wait for who watches; behind them everything waits.
const EVENTS_MAX: usize = 64;

/// What is watched, and from when on.
#[derive(Debug, Clone)]
pub struct Watching {
    keyspace: String,
    keys: Keys,
    is_siblings: bool,
    from: From,
}

#[derive(Debug, Clone)]
enum Keys {
    Prefix(Bytes),
    One(Bytes),
}

#[derive(Debug, Clone)]
enum From {
    Now,
    Start,
    Token(String),
}

impl Watching {
    /// All keys of a keyspace, from now on.
    pub fn of(keyspace: impl Into<String>) -> Self {
        let keys = Keys::Prefix(Bytes::new());
        Watching { keyspace: keyspace.into(), keys, is_siblings: false, from: From::Now }
    }

    /// Only this key.
    #[must_use]
    pub fn key(self, key: impl Into<Bytes>) -> Self {
        Watching { keys: Keys::One(key.into()), ..self }
    }

    /// Only keys that begin with this.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<Bytes>) -> Self {
        Watching { keys: Keys::Prefix(prefix.into()), ..self }
    }

    /// With all siblings as they are stored, deletes too, instead of what the keyspace's policy makes
    /// of them.
    #[must_use]
    pub fn siblings(self) -> Self {
        Watching { is_siblings: true, ..self }
    }

    /// First all that is there, between [`Event::Listing`] and [`Event::Listed`].
    #[must_use]
    pub fn from_start(self) -> Self {
        Watching { from: From::Start, ..self }
    }

    /// From where another watch of the same keys was, by its [token](Watch::token).
    #[must_use]
    pub fn resume(self, token: impl Into<String>) -> Self {
        Watching { from: From::Token(token.into()), ..self }
    }

    fn view(&self) -> v1::View {
        if self.is_siblings { v1::View::Siblings } else { v1::View::Merged }
    }

    /// Names the keys, so that a token is not used for others.
    fn range(&self) -> String {
        let (kind, bytes) = match &self.keys {
            Keys::Prefix(prefix) => (b'p', prefix),
            Keys::One(key) => (b'k', key),
        };
        let named = [&[kind], &bytes[..]].concat();
        format!("{:032x}", position(KeyspaceId::of(&self.keyspace, 0), &named))
    }
}

/// What a watch tells.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Every write that is sent from now on will be told. Told once, when all members have answered or
    /// have had five seconds to; changes may come before it.
    Begun,
    /// A key was changed.
    Changed(Changed),
    /// All keys are listed from here on, because it was asked for or because changes can be told no
    /// more. Changes go on meanwhile. Told again if it begins anew.
    Listing,
    /// All are listed: what was not told since [`Self::Listing`] is not there any more, which a watch
    /// by itself cannot tell.
    Listed,
    /// A member is not reached; what it alone has taken is told when it is.
    Away {
        /// Its id.
        node: String,
        /// Why.
        why: String,
    },
    /// It is reached again.
    Back {
        /// Its id.
        node: String,
    },
}

/// A key as a get found it after it was changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The key.
    pub key: Bytes,
    /// Its versions, none where it was deleted, and the context to write with.
    pub answer: v1::GetResponse,
}

impl Changed {
    /// As an entry of this keyspace, to be written back.
    pub fn into_entry(self, keyspace: impl Into<String>) -> Entry {
        Entry::read(keyspace.into(), self.key, self.answer)
    }
}

/// An event, and the token behind it; no event where only the token is new.
struct Told {
    event: Option<Event>,
    token: Token,
}

/// A watch. Dropped, it ends.
#[derive(Debug)]
pub struct Watch {
    told: mpsc::Receiver<Result<Told, Error>>,
    task: JoinHandle<()>,
    token: Token,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    pub(crate) async fn begin(client: Client, watching: Watching) -> Result<Self, Error> {
        let routes = client.routes();
        if !routes.can_dial() {
            let message = "a watch needs a client that can dial all nodes: make it by `connect`, \
                           `plain` or `connect_with`";
            return Err(Error::local(reason::NO_RING, message));
        }
        let range = watching.range();
        let token = match &watching.from {
            From::Token(token) => Token::parse(token).filter(|token| token.range == range),
            From::Now | From::Start => Some(Token::of(range)),
        };
        let token = token.ok_or_else(|| {
            let message = "the token is none of a watch of these keys: resume with the keyspace, \
                           key or prefix that it was begun with, or begin from now or the start";
            Error::local(reason::BAD_TOKEN, message)
        })?;
        routes.fetch().await?;
        if routes.members().is_empty() {
            let message = "no node has a ring that this client can go by";
            return Err(Error::local(reason::NO_RING, message));
        }
        let (tell, told) = mpsc::channel(EVENTS_MAX);
        let engine = Engine::new((client, watching), token.clone(), tell);
        Ok(Watch { told, task: tokio::spawn(engine.run()), token })
    }

    /// The next event. `None` comes after an error only. Giving it up loses nothing.
    ///
    /// # Errors
    /// The node's word, where another attempt does not help: the keyspace is gone, or the role. What
    /// is not reached is waited for.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let Some(told) = self.told.recv().await else { return Ok(None) };
            let Told { event, token } = told?;
            self.token = token;
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Where the watch is: another one that [resumes](Watching::resume) with it tells all that is
    /// changed behind the last event that this one gave, and perhaps a few of the last again. Without
    /// meaning before [`Event::Begun`]. About 60 bytes a member.
    pub fn token(&self) -> String {
        self.token.to_string()
    }

    /// The events as a stream, each with the token behind it.
    pub fn into_stream(self) -> impl Stream<Item = Result<(Event, String), Error>> + Send {
        futures::stream::try_unfold(self, |mut watch| async move {
            let event = watch.next().await?;
            Ok(event.map(|event| ((event, watch.token()), watch)))
        })
    }
}
